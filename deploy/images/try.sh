#!/usr/bin/env bash
# Runs both images on a real PostgreSQL and a real Apache Kafka, by their own entry points and users, and looks at what
# they do: the schema, health, a change that becomes PROCESSED, an order, what is written where, the end by SIGTERM.
# Twice: as buildah runs them, and on a read-only file system without any capability.
#
#   deploy/images/try.sh
#
# As root, with buildah, PostgreSQL (Debian's package), Java 17, and Maven, which fetches Kafka; KAFKA_JARS names a
# folder that has its jars already. TAG names the images' tag. All ports are free ones on loopback, and nothing is left
# behind. A container engine has no part in it: deploy/README.md says what that leaves open.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly TAG=${TAG:-latest}
readonly ISOLATION=${BUILDAH_ISOLATION:-chroot}
readonly TOKEN=try-only-knows-this-token
readonly STOP_SECONDS=10 READY_SECONDS=90

# What a service can write to, by how it is run.
declare -rA writable=([inside]=yes [inside_read_only]=no)

failed=no
containers=()
children=()
declare -A container mounted started
scratch=$(mktemp -d /var/tmp/stockloop-try.XXXXXX)
chmod 755 "$scratch"

# check WHAT COMMAND…: says whether it held.
check() {
    local what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        failed=yes
    fi
}

# eventually SECONDS COMMAND…: tries until it holds.
eventually() {
    local until=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < until)) || return 1
        sleep 0.2
    done
}

cleanup() {
    local code=$? child container service
    if ((code != 0)); then tail -n 20 "$scratch"/*.log || true; fi
    # Whoever started a service need not pass a signal on.
    for service in "${!started[@]}"; do
        if child=$(process "$service"); then kill "$child" || true; fi
    done
    for child in "${children[@]}"; do
        kill "$child" 2> /dev/null || true
        wait "$child" 2> /dev/null || true
    done
    [[ ! -d $scratch/postgres ]] || as_postgres pg_ctl -D "$scratch/postgres/data" -m immediate stop > /dev/null || true
    for container in "${containers[@]}"; do
        buildah rm "$container" > /dev/null || true
    done
    rm -rf "$scratch"
}
trap cleanup EXIT

free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(each.getsockname()[1] for each in taken))
PYTHON
}

as_postgres() {
    runuser -u postgres -- env "PATH=$postgres_bin:$PATH" PGHOST="$scratch/postgres" PGPORT="$postgres_port" "$@"
}

# A cluster with both databases, which compose's own script makes.
start_postgres() {
    postgres_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    install -d -o postgres "$scratch/postgres"
    as_postgres initdb -D "$scratch/postgres/data" --auth-host scram-sha-256 --encoding UTF8 > "$scratch/postgres.log"
    as_postgres pg_ctl -D "$scratch/postgres/data" -l "$scratch/postgres/server.log" -w start \
        -o "-c listen_addresses=127.0.0.1 -c port=$postgres_port -c unix_socket_directories=$scratch/postgres" \
        > "$scratch/postgres.log"
    as_postgres env POSTGRES_USER=postgres PRODUCT_DB_PASSWORD=one ORDER_DB_PASSWORD=two \
        bash "$PWD/deploy/postgres-init.sh" > "$scratch/postgres.log"
}

# One node, as in compose; it makes no topics by itself.
start_kafka() {
    local jars=${KAFKA_JARS:-$PWD/target/images/kafka} java
    if ! compgen -G "$jars/kafka_*.jar" > /dev/null; then
        mvn --quiet --file standalone/kafka-pom.xml dependency:copy-dependencies \
            -DincludeScope=runtime "-DoutputDirectory=$jars"
    fi
    cat > "$scratch/kafka.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$scratch/kafka
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
EOF
    java=(java -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$PWD/standalone/kafka-log4j2.properties" -cp "$jars/*")
    "${java[@]}" kafka.tools.StorageTool format -t 5L6g3nShT-eMCtK--X86sw -c "$scratch/kafka.properties" \
        > "$scratch/kafka.log"
    "${java[@]}" kafka.Kafka "$scratch/kafka.properties" >> "$scratch/kafka.log" 2>&1 &
    children+=("$!")
    eventually 60 bash -c "exec 3<> /dev/tcp/127.0.0.1/$kafka_port"
}

# What the image says: image SERVICE FIELD, such as Entrypoint; a list one item a line.
image() {
    buildah inspect --type image "localhost/stockloop-$1:$TAG" | python3 -c '
import json, sys
value = json.load(sys.stdin)["OCIv1"]["config"].get(sys.argv[1], "")
print("\n".join(value) if isinstance(value, list) else value)' "$2"
}

# The settings of a service, as compose has them, in the array `settings`.
settings_of() {
    local port=$product_port peer=$order_port database="product:one@127.0.0.1:$postgres_port/product"
    if [[ $1 == order-service ]]; then
        port=$order_port peer=$product_port database="orders:two@127.0.0.1:$postgres_port/orders"
    fi
    settings=(
        "STOCKLOOP__HTTP__BIND=127.0.0.1:$port"
        "STOCKLOOP__HTTP__ADMIN_TOKEN=$TOKEN" "STOCKLOOP__HTTP__API_TOKEN=$TOKEN"
        "STOCKLOOP__PEER__URL=http://127.0.0.1:$peer" "STOCKLOOP__PEER__API_TOKEN=$TOKEN"
        "STOCKLOOP__DATABASE__URL=postgres://$database"
        "STOCKLOOP__KAFKA__BROKERS=127.0.0.1:$kafka_port"
    )
}

# inside SERVICE COMMAND…: in the service's container, as its user, with its settings.
inside() {
    local service=$1 settings setting options=()
    shift
    settings_of "$service"
    for setting in "${settings[@]}"; do options+=(--env "$setting"); done
    buildah run --isolation "$ISOLATION" --network host "${options[@]}" "${container[$service]}" -- "$@"
}

# The same on a read-only file system, with no capability left and none to be had: what Kubernetes and compose ask for.
inside_read_only() {
    local service=$1 settings user
    shift
    settings_of "$service"
    user=$(image "$service" User)
    unshare --mount bash -euc '
        root=$1 user=$2 folder=$3
        shift 3
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount --bind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs \
            --bounding-set=-all --inh-caps=-all env --ignore-environment --chdir="$folder" "$@"
    ' in-place "${mounted[$service]}" "$user" "$(image "$service" WorkingDir)" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" "$@"
}

# The process of a service below the one that was started here: that is whom an engine sends its signals to.
process() {
    local service=$1 below=${started[$1]} next
    while [[ $(readlink "/proc/$below/exe") != */"$service" ]]; do
        next=$(pgrep --parent "$below" | head -n 1) || return 1
        below=$next
    done
    echo "$below"
}

# start HOW SERVICE: by its entry point.
start() {
    local how=$1 service=$2 command
    mapfile -t command < <(image "$service" Entrypoint && image "$service" Cmd)
    "$how" "$service" "${command[@]}" > "$scratch/$service.log" 2>&1 &
    started[$service]=$!
    children+=("$!")
}

# What an engine asks, with the image's own curl.
healthy() {
    inside "$1" curl --fail --silent --show-error --max-time 5 "$(address "$1")/health/$2" > /dev/null
}

address() {
    if [[ $1 == product-service ]]; then echo "http://127.0.0.1:$product_port"; else echo "http://127.0.0.1:$order_port"; fi
}

# api METHOD SERVICE PATH [JSON]
api() {
    curl --fail --silent --show-error --max-time 10 --request "$1" --header "authorization: Bearer $TOKEN" \
        --header 'content-type: application/json' ${4:+--data "$4"} "$(address "$2")$3"
}

# field PATH…: of a JSON document, such as `field items 0 status`.
field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for step in sys.argv[1:]:
    value = value[int(step)] if isinstance(value, list) else value[step]
print(value)' "$@"
}

# is WANTED COMMAND…: whether it prints just that.
is() {
    local wanted=$1
    shift
    [[ $("$@") == "$wanted" ]]
}

put_in() {
    api PUT product-service "/api/v1/inventory/$1" '{"description":"Tea","quantity":12,"unit_price_minor":255}' |
        field quantity
}

status_of_change() {
    api GET product-service "/api/admin/v1/events?key=$1" | field items 0 status
}

status_of_order() {
    api GET order-service "/api/v1/orders/$1" | field status
}

quantity_in_copy() {
    api GET order-service "/api/v1/inventory/$1" | field quantity
}

# Whether all ids of a process are the image's: real, effective, saved and of the file system, and any other group.
has_ids_of_image() {
    local user
    user=$(image "$1" User)
    is "${user%:*}" ids_of "$1" Uid && is "${user#*:}" ids_of "$1" 'Gid|Groups'
}

ids_of() {
    sed -nE "s/^($2):[[:space:]]*//p" "/proc/$(process "$1")/status" | tr -s '[:space:]' '\n' | grep . | sort -u
}

# Whether its user can write where the image lets it; what is looked for after that is found then, too.
can_write() {
    if "$1" product-service touch /var/lib/stockloop/probe 2> "$scratch/probe.log"; then
        [[ $(written product-service) == /var/lib/stockloop/probe ]] && echo yes
        inside product-service rm /var/lib/stockloop/probe
    else
        grep -q 'Read-only file system' "$scratch/probe.log" && echo no
    fi
}

# The files of a container that are newer than the start.
written() {
    find "${mounted[$1]}" -xdev -newer "$scratch/started" -type f -printf '/%P\n' | grep -v '^/\(proc\|dev\|sys\)/' || true
}

ends_by_sigterm() {
    local service=$1 code=0 began=$SECONDS
    kill -TERM "$(process "$service")"
    wait "${started[$service]}" || code=$?
    echo "        $service ended with $code after $((SECONDS - began)) s"
    ((code == 0 && SECONDS - began <= STOP_SECONDS))
}

# Whether a process has lost all capabilities, and can't gain any.
is_bare() {
    is '0000000000000000 0000000000000000 1' awk '
        /^CapPrm:/ { permitted = $2 } /^CapBnd:/ { bounding = $2 } /^NoNewPrivs:/ { none = $2 }
        END { print permitted, bounding, none }' "/proc/$(process "$1")/status"
}

# One round over both services: round HOW SKU.
round() {
    local how=$1 sku=$2 service order
    touch "$scratch/started"
    check "files can be written: ${writable[$how]}" is "${writable[$how]}" can_write "$how"
    for service in product-service order-service; do start "$how" "$service"; done
    for service in product-service order-service; do
        check "$service is ready" eventually "$READY_SECONDS" healthy "$service" ready
        check "$service is alive" healthy "$service" live
        check "$service runs as $(image "$service" User)" has_ids_of_image "$service"
        [[ $how == inside ]] || check "$service has no capability" is_bare "$service"
    done
    check 'a product is put in' is 12 put_in "$sku"
    check 'the change is PROCESSED' eventually 30 is PROCESSED status_of_change "$sku"
    check 'the copy has it' is 12 quantity_in_copy "$sku"
    order=$(api POST order-service /api/v1/orders "{\"customer\":\"C-1\",\"lines\":[{\"sku\":\"$sku\",\"quantity\":3}]}" |
        field id) || order=none
    check 'an order is CONFIRMED' eventually 30 is CONFIRMED status_of_order "$order"
    check 'the copy has what is left' eventually 30 is 9 quantity_in_copy "$sku"
    check 'the operators see it' is True has_overview
    check 'an operator is added' add_operator "$how" "alice-$sku"
    check 'the topics of the views are made' quietly "$how" product-service stockloop topics
    for service in product-service order-service; do
        grep -E '^Vm(HWM|RSS)' "/proc/$(process "$service")/status" | sed "s/^/        $service /"
        check "$service ends by SIGTERM within $STOP_SECONDS s" ends_by_sigterm "$service"
        check "nobody wrote a file for $service" is '' written "$service"
    done
}

add_operator() {
    quietly "$1" product-service product-service users add "$2" --role admin --password-stdin <<< 'a password of some length'
}

quietly() {
    "$@" > "$scratch/quiet.log" 2>&1
}

# With the command line that the image has.
has_overview() {
    inside product-service env STOCKLOOP_ADMIN_TOKEN="$TOKEN" STOCKLOOP_ADMIN_URL="$(address product-service)" \
        stockloop admin --json overview | python3 -c 'import json, sys; print(bool(json.load(sys.stdin)))'
}

read -r postgres_port kafka_port controller_port product_port order_port < <(free_ports 5)
start_postgres
start_kafka
for service in product-service order-service; do
    container[$service]=$(buildah from "localhost/stockloop-$service:$TAG")
    containers+=("${container[$service]}")
    mounted[$service]=$(buildah mount "${container[$service]}")
    check "$service has a user by number" grep -qE '^[1-9][0-9]*:[1-9][0-9]*$' <(image "$service" User)
    check "$service is stopped by SIGTERM" is SIGTERM image "$service" StopSignal
    check "$service migrates" quietly inside "$service" "$service" migrate
done

echo "--- as the images are, isolation $ISOLATION"
round inside TEA
echo '--- read-only, without capabilities'
round inside_read_only COFFEE

[[ $failed == no ]] || exit 1
echo 'All held.'
