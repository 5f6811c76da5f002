#!/usr/bin/env bash
# Builds both images with buildah, without a container engine. As root.
#
#   deploy/images/build.sh                   does what Dockerfile says, the programs included: some ten minutes on two cores
#   deploy/images/build.sh --programs DIR    puts in product-service, order-service and stockloop from DIR, which are built
#                                            already (on Debian 12 or older: the images have its C library)
#
# The base images come from a registry, or from bases.sh. The images are named as compose names them, with the tag
# `latest`, or with TAG from the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly TAG=${TAG:-latest}
readonly PROGRAMS=(product-service order-service stockloop)
options=(--isolation "${BUILDAH_ISOLATION:-chroot}" --layers)

case ${1:-} in
    '') ;;
    --programs)
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
        mkdir -p "$folder/usr/local/bin"
        for program in "${PROGRAMS[@]}"; do
            install -m 755 "${2:?a folder}/$program" "$folder/usr/local/bin/"
        done
        # In place of the stage of that name, which is not built then.
        options+=(--build-context "build=$folder")
        ;;
    *)
        echo "usage: $0 [--programs DIR]" >&2
        exit 2
        ;;
esac

for service in product-service order-service; do
    buildah build "${options[@]}" --target "$service" --tag "localhost/stockloop-$service:$TAG" .
done
