#!/usr/bin/env bash
# Makes a Debian package and a tarball of programs that are built already, and their checksums. Needs Debian's dpkg-dev;
# no root, no network. The programs' C library decides where the package installs: build them on the oldest Debian.
#
#   cargo build --release --package product-service --package order-service --package stockloop --features stockloop/tls
#   deploy/package/build.sh --programs target/release [--out target/package]
#
# The same programs and sources give the same bytes: all times are SOURCE_DATE_EPOCH, by default that of the commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly PROGRAMS=(product-service order-service stockloop)
readonly SERVICES=(product-service order-service)

usage() {
    echo "usage: $0 --programs DIR [--out DIR]" >&2
    exit 2
}

programs='' out=target/package
while (($# > 0)); do
    case $1 in
        --programs) programs=${2:?} ;;
        --out) out=${2:?} ;;
        *) usage ;;
    esac
    shift 2
done
[[ -n $programs ]] || usage

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
architecture=$(dpkg --print-architecture)
name=stockloop_${version}_$architecture
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Not what the maker's own settings say.
umask 022

# put MODE FILE… FOLDER
put() {
    install -D --mode "$1" --target-directory "${*: -1}" "${@:2:$#-2}"
}

# The files that both have, below a folder for programs, one for units and one for documents.
common_files() {
    local binaries=$1 units=$2 documents=$3 program service
    for program in "${PROGRAMS[@]}"; do put 755 "$programs/$program" "$binaries"; done
    for service in "${SERVICES[@]}"; do
        put 644 "deploy/systemd/$service.service" "$units"
        put 644 "$service/$service.toml" "$documents/examples"
    done
    put 644 deploy/prometheus/rules.yml deploy/grafana/stockloop.json "$documents/examples"
}

# What the programs need of the system, by what they are linked with. They lie where Debian's tools look for them.
dependencies() {
    printf 'Source: stockloop\n\nPackage: stockloop\nArchitecture: any\n' > "$work/debian/control"
    (cd "$work" && dpkg-shlibdeps -O debian/stockloop/usr/bin/*) | sed -n 's/^shlibs:Depends=//p'
}

# In KiB, each file and each folder rounded up, as Debian's tools count: what the file system takes differs.
installed_size() {
    (cd "$1" && find etc usr -printf '%y %s\n') | awk '{ kib += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print kib }'
}

debian_package() {
    local root=$work/debian/stockloop service depends
    common_files "$root/usr/bin" "$root/usr/lib/systemd/system" "$root/usr/share/doc/stockloop"
    put 644 deploy/package/copyright "$root/usr/share/doc/stockloop"
    install -m 644 deploy/package/README.md "$root/usr/share/doc/stockloop/README.Debian"
    for service in "${SERVICES[@]}"; do put 600 "deploy/package/$service.toml" "$root/etc/stockloop"; done
    mkdir "$root/DEBIAN"
    put 755 deploy/package/{postinst,prerm,postrm} "$root/DEBIAN"
    printf '/etc/stockloop/%s.toml\n' "${SERVICES[@]}" > "$root/DEBIAN/conffiles"
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
    # Apart, so that what fails here ends it.
    depends=$(dependencies)
    cat > "$root/DEBIAN/control" <<EOF
Package: stockloop
Version: $version
Architecture: $architecture
Maintainer: The Stockloop maintainers <stockloop@localhost.localdomain>
Installed-Size: $(installed_size "$root")
Depends: $depends
Recommends: ca-certificates
Suggests: postgresql
Section: net
Priority: optional
Description: inventory replication with an acknowledgement loop
 Keeps a copy of one service's inventory in another service's database, and
 tells at any moment which changes have not arrived, since when, and why.
 .
 Contains both services, with units for systemd, and the operators' command
 line. They need PostgreSQL and Apache Kafka.
EOF
    # One thread: how many there are changes what comes out.
    dpkg-deb --root-owner-group --threads-max=1 --build "$root" "$out/$name.deb" > /dev/null
}

tarball() {
    local top=stockloop-$version-linux-$architecture root=$work/tarball service
    common_files "$root/$top/bin" "$root/$top/systemd" "$root/$top"
    put 644 LICENSE deploy/package/README.md "$root/$top"
    for service in "${SERVICES[@]}"; do put 600 "deploy/package/$service.toml" "$root/$top/etc"; done
    tar -C "$root" --sort name --owner 0 --group 0 --numeric-owner --mtime "@$SOURCE_DATE_EPOCH" --format gnu -c "$top" |
        gzip --no-name --best > "$out/$top.tar.gz"
}

mkdir -p "$out"
rm -f "$out"/stockloop[_-]*.{deb,tar.gz} "$out/SHA256SUMS"
debian_package
tarball
(cd "$out" && sha256sum stockloop[_-]* > SHA256SUMS)
cat "$out/SHA256SUMS"
