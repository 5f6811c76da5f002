#!/usr/bin/env bash
# Makes the images that Dockerfile begins with, and names them as it does, for a machine that reaches Debian's packages
# but no image registry. Where there is a registry nobody needs this. As root, with buildah and debootstrap.
#
#   deploy/images/bases.sh            that of the services, and that of the build, which gets this machine's Rust
#   deploy/images/bases.sh runtime    only that of the services: enough for `build.sh --programs`
#
# They are no copies of the official images: Debian's packages are those of its last point release, without the security
# updates since, and the rest is only what Dockerfile uses. So they are for trying, and not for releases.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# base STAGE: what Dockerfile names behind FROM for it.
base() {
    sed -n "s/^FROM \(.*\) AS $1\$/\1/p" Dockerfile
}

# bootstrap PACKAGES: an empty Debian of the machine's architecture in $root.
bootstrap() {
    debootstrap --variant=minbase ${1:+--include="$1"} bookworm "$root"
    rm -rf "$root"/var/cache/apt/{archives/*.deb,*.bin} "$root"/var/lib/apt/lists/*
    # As in the official images, or what Dockerfile installs leaves 80 MB behind.
    printf '%s\n' 'APT::Keep-Downloaded-Packages "false";' 'Dir::Cache::pkgcache "";' 'Dir::Cache::srcpkgcache "";' \
        > "$root/etc/apt/apt.conf.d/clean"
    # What debootstrap takes from this machine is nobody else's business: an engine brings its own.
    rm -f "$root"/etc/{hostname,resolv.conf} "$root"/var/log/bootstrap.log
}

# image NAME COMMAND: of $root. A tar keeps owners, which COPY would not.
image() {
    tar -C "$root" -cf "$folder/root.tar" .
    printf 'FROM scratch\nADD root.tar /\n%s\n' "$2" > "$folder/Containerfile"
    buildah build --isolation chroot --file "$folder/Containerfile" --tag "docker.io/library/$1" "$folder"
    rm -rf "$root" "$folder/root.tar"
}

runtime() {
    bootstrap ''
    image "$(base runtime)" 'CMD ["bash"]'
}

build() {
    local name version toolchain
    name=$(base build)
    version=${name#rust:}
    version=${version%%-*}
    toolchain=$(rustc --print sysroot)
    if [[ $(rustc --version) != "rustc $version."* ]]; then
        echo "Dockerfile builds with Rust $version, and this machine has $(rustc --version)." >&2
        exit 1
    fi
    bootstrap build-essential,ca-certificates
    mkdir -p "$root/usr/local/cargo" "$root/usr/local/rust"
    tar -C "$toolchain" --exclude=./share/doc -c . | tar -C "$root/usr/local/rust" -x
    # Whom this machine trusts: it may reach its registries through a proxy of its own.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    image "$name" "ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/rust/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

folder=$(mktemp -d /var/tmp/stockloop-bases.XXXXXX)
root=$folder/root
trap 'rm -rf "$folder"' EXIT
case ${1:-both} in
    runtime) runtime ;;
    both)
        runtime
        build
        ;;
    *)
        echo "usage: $0 [runtime]" >&2
        exit 2
        ;;
esac
