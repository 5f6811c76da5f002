# Two images from one build: `--target product-service` and `--target order-service`. How to build, try and run them:
# deploy/README.md.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches belong to the builder; what is to be kept is copied out of them. Cargo tells by times what is new, and the
# files of another checkout may be older than what the cache was built from: so all of the project's own are new.
RUN --mount=type=cache,id=stockloop-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=stockloop-target,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --locked --release --package product-service --package order-service --package stockloop --features stockloop/tls \
    && cp target/release/product-service target/release/order-service target/release/stockloop /usr/local/bin/

FROM debian:bookworm-slim AS runtime
LABEL org.opencontainers.image.title="Stockloop" \
      org.opencontainers.image.licenses="Apache-2.0"
# curl asks for the health; everything else that the programs need is built into them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin stockloop \
    && install --directory --owner stockloop --group stockloop /var/lib/stockloop
# By number: who has to see that this is not root, as Kubernetes does, looks no name up.
USER 10001:10001
# Where SQLite files lie, if somebody runs an image without PostgreSQL: mount a volume here. Nothing else is written.
WORKDIR /var/lib/stockloop
STOPSIGNAL SIGTERM

COPY LICENSE /usr/share/doc/stockloop/
# The operators' command line: `docker compose exec product-service stockloop admin overview`.
COPY --from=build /usr/local/bin/stockloop /usr/local/bin/

FROM runtime AS product-service
COPY --from=build /usr/local/bin/product-service /usr/local/bin/
EXPOSE 8081
ENTRYPOINT ["product-service"]
CMD ["serve"]

FROM runtime AS order-service
COPY --from=build /usr/local/bin/order-service /usr/local/bin/
EXPOSE 8082
ENTRYPOINT ["order-service"]
CMD ["serve"]
