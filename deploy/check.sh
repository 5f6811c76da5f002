#!/usr/bin/env bash
# Looks at what is in deploy/, Dockerfile and docker-compose.yml without running any of it, in some seconds.
#
#   deploy/check.sh [--programs DIR]
#
# Each tool looks at its own part; where it is not there, that part is skipped, and the last line says so: shellcheck,
# hadolint, docker-compose (or `docker compose`) from 2 on, kubernetes-validate (all of these are on PyPI,
# requirements.txt names them), systemd-analyze from 250 on, dpkg-deb with dpkg-shlibdeps. With --programs,
# product-service and order-service from DIR read each setting that compose, Kubernetes and the package give them: they
# refuse what they do not know.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SERVICES=(product-service order-service)
# The exposure that systemd-analyze makes of a unit, from 0 to 100: each has 11.
readonly EXPOSURE=15

programs=''
if [[ ${1:-} == --programs ]]; then
    programs=$(realpath "${2:?a folder}")
elif (($# > 0)); then
    echo "usage: $0 [--programs DIR]" >&2
    exit 2
fi

failed=()
skipped=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check NAME COMMAND…
check() {
    local name=$1
    shift
    echo "--- $name"
    # A subshell of its own, so that set -e holds inside functions too.
    set +e
    (set -e; "$@")
    local code=$?
    set -e
    ((code == 0)) || failed+=("$name")
}

have() {
    local program
    for program in "$@"; do
        command -v "$program" > /dev/null || return 1
    done
}

skip() {
    skipped+=("$1: no $2")
}

# same WHAT ONE OTHER: whether two texts that are meant to be one are.
same() {
    if ! diff "$2" "$3"; then
        echo "$1: not the same" >&2
        return 1
    fi
}

# All are in these folders. Not asked of git: an unpacked archive has none.
scripts() {
    local files
    mapfile -t files < <(find deploy -name '*.sh' -not -path '*/lib/*')
    shellcheck --severity warning "${files[@]}" .ci/* deploy/package/{postinst,prerm,postrm}
}

# With a program that is there in the place of each service's.
units() {
    local service
    for service in "${SERVICES[@]}"; do
        sed "s|^ExecStart=/usr/bin/$service |ExecStart=/bin/true |" "deploy/systemd/$service.service" \
            > "$work/$service.service"
        # Each has to name its own program, settings and folder.
        if [[ $(grep -c "$service" "deploy/systemd/$service.service") != 5 ]] ||
            ! grep -q '^ExecStart=/bin/true ' "$work/$service.service"; then
            echo "$service.service does not name its own program, settings and folder" >&2
            return 1
        fi
    done
    systemd-analyze verify --man=no "$work"/*.service
    systemd-analyze security --offline=yes --threshold="$EXPOSURE" "$work"/*.service | grep 'Overall'
    same 'the units but for their names' <(sed '/^Description=/d; s/product-service/NAME/g' deploy/systemd/product-service.service) \
        <(sed '/^Description=/d; s/order-service/NAME/g' deploy/systemd/order-service.service)
}

manifests() {
    kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml
    same 'the manifests but for names, ports and addresses' \
        <(sed '/_URL, value/d; s/product-service/NAME/g; s/8081/PORT/' deploy/kubernetes/product-service.yaml) \
        <(sed '/_URL, value/d; s/order-service/NAME/g; s/8082/PORT/' deploy/kubernetes/order-service.yaml)
}

compose() {
    if have docker-compose; then docker-compose "$@"; else docker compose "$@"; fi
}

have_compose() {
    compose version --short 2> /dev/null | grep -q '^v\?[2-9]'
}

# Whether it judges units that are not installed.
have_systemd_analyze() {
    have systemd-analyze && (($(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p') >= 250))
}

# Every gap of .env.example filled, so that it also says whether that has all.
compose_file() {
    sed 's/=$/=filled/' .env.example > "$work/env"
    compose --env-file "$work/env" --profile '*' config --format json > "$work/compose.json"
}

# Whether all files of a tar are of the second 1000000000.
has_one_time() {
    local times
    times=$(TZ=UTC tar -tv | awk '{ print $4, $5 }' | sort -u)
    if [[ $times != '2001-09-09 01:46' ]]; then
        echo "not the time that was asked for: $times" >&2
        return 1
    fi
}

# What it says is of use only where it fails.
quietly() {
    "$@" > "$work/quiet.log" 2>&1 || {
        cat "$work/quiet.log" >&2
        return 1
    }
}

# The package of programs that are no services: its parts are there, all times are the one that was asked for, and the
# same bytes come out for somebody with other habits, on another file system where there is one.
package() {
    local program elsewhere=$work
    export SOURCE_DATE_EPOCH=1000000000
    mkdir "$work/programs"
    for program in "${SERVICES[@]}" stockloop; do cp "$(realpath /bin/true)" "$work/programs/$program"; done
    quietly deploy/package/build.sh --programs "$work/programs" --out "$work/one"
    [[ ! -w /dev/shm ]] || elsewhere=/dev/shm
    (
        umask 077
        export TZ=Asia/Tokyo LC_ALL=C TMPDIR=$elsewhere
        quietly deploy/package/build.sh --programs "$work/programs" --out "$work/two"
    )
    same 'what was made twice' "$work/one/SHA256SUMS" "$work/two/SHA256SUMS"
    (cd "$work/two" && sha256sum --check --quiet SHA256SUMS)
    dpkg-deb --fsys-tarfile "$work"/two/*.deb | has_one_time
    gzip --decompress --stdout "$work"/two/*.tar.gz | has_one_time
    same 'the files of settings' <(printf '/etc/stockloop/%s.toml\n' "${SERVICES[@]}") \
        <(dpkg-deb --ctrl-tarfile "$work"/one/*.deb | tar -xO ./conffiles)
    dpkg-deb --field "$work"/one/*.deb Package Version Architecture Depends
}

# settings_of FILE SERVICE: as lines NAME=VALUE, what compose (JSON) or Kubernetes (YAML) give a service.
compose_settings() {
    python3 - "$work/compose.json" "$1" <<'PYTHON'
import json, sys
for name, value in json.load(open(sys.argv[1]))["services"][sys.argv[2]]["environment"].items():
    print(f"{name}={value}")
PYTHON
}

# What is in a Secret is any text here, and of a database an address.
kubernetes_settings() {
    python3 - deploy/kubernetes/settings.yaml "deploy/kubernetes/$1.yaml" <<'PYTHON'
import sys, yaml
maps = {each["metadata"]["name"]: each["data"] for each in yaml.safe_load_all(open(sys.argv[1]))}
deployment = next(each for each in yaml.safe_load_all(open(sys.argv[2])) if each["kind"] == "Deployment")
container = deployment["spec"]["template"]["spec"]["containers"][0]
settings = {}
for source in container["envFrom"]:
    settings |= maps[source["configMapRef"]["name"]]
for each in container["env"]:
    hidden = "postgres://a:b@c/d" if each["name"].endswith("DATABASE__URL") else "secret"
    settings[each["name"]] = each.get("value", hidden)
for name, value in settings.items():
    print(f"{name}={value}")
PYTHON
}

# reads SERVICE SETTINGS: whether the service takes them, all of them under their names.
reads() {
    local service=$1 settings
    mapfile -t settings
    ((${#settings[@]} > 0))
    env --ignore-environment "${settings[@]}" "$programs/$service" config > /dev/null
}

have_yaml() {
    python3 -c 'import yaml' 2> /dev/null
}

settings() {
    local service
    for service in "${SERVICES[@]}"; do
        "$programs/$service" config --config "deploy/package/$service.toml" > /dev/null
        echo "$service reads the package's settings"
        if [[ -s $work/compose.json ]]; then
            compose_settings "$service" | reads "$service"
            echo "$service reads compose's"
        fi
        if have_yaml; then
            kubernetes_settings "$service" | reads "$service"
            echo "$service reads those of Kubernetes"
        fi
    done
}

if have shellcheck; then check 'scripts' scripts; else skip scripts shellcheck; fi
if have hadolint; then check 'Dockerfile' hadolint Dockerfile; else skip Dockerfile hadolint; fi
if have_compose; then
    check 'docker-compose.yml' compose_file
else
    skip docker-compose.yml 'docker-compose from 2 on'
fi
if have kubernetes-validate; then
    check 'Kubernetes' manifests
else
    skip Kubernetes kubernetes-validate
fi
if have_systemd_analyze; then check 'units' units; else skip units 'systemd-analyze from 250 on'; fi
if have dpkg-deb dpkg-shlibdeps; then check 'package' package; else skip package dpkg-shlibdeps; fi
if [[ -n $programs ]]; then
    check 'settings, read by the programs' settings
    [[ -s $work/compose.json ]] || skip "compose's settings" 'compose file that could be read'
    have_yaml || skip 'settings of Kubernetes' 'PyYAML'
else
    skip settings '--programs'
fi

echo
if ((${#skipped[@]} > 0)); then printf 'SKIPPED %s\n' "${skipped[@]}"; fi
if ((${#failed[@]} > 0)); then
    printf 'FAILED %s\n' "${failed[@]}"
    exit 1
fi
echo 'What was looked at is in order.'
