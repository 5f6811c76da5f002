# Two images from one build: `--target product-service` and `--target order-service`.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches belong to the builder; what is to be kept is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package product-service --package order-service --package stockloop --features stockloop/tls \
    && cp target/release/product-service target/release/order-service target/release/stockloop /usr/local/bin/

FROM debian:bookworm-slim AS runtime
# curl asks for the health; everything else that the programs need is built into them.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --no-create-home --home-dir /nonexistent stockloop \
    && install --directory --owner stockloop --group stockloop /var/lib/stockloop
USER stockloop
# Where SQLite files lie, if somebody runs an image without PostgreSQL: mount a volume here.
WORKDIR /var/lib/stockloop
STOPSIGNAL SIGTERM

# The operators' command line: `docker compose exec product-service stockloop admin overview`.
COPY --from=build /usr/local/bin/stockloop /usr/local/bin/

FROM runtime AS product-service
COPY --from=build /usr/local/bin/product-service /usr/local/bin/
ENTRYPOINT ["product-service"]
CMD ["serve"]

FROM runtime AS order-service
COPY --from=build /usr/local/bin/order-service /usr/local/bin/
ENTRYPOINT ["order-service"]
CMD ["serve"]
