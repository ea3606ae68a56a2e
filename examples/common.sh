# What the three scripts share: settings, starting and ending programs, and the steps that are the same in all of them.
# Sourced, not run.

set -euo pipefail
umask 077

HERE="$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)"

# Everything can be set from outside; no two runs share a port or a folder then.
export TRUST_DOMAIN="${TRUST_DOMAIN:-harbor-satellite.local}"
export SPIRE_PORT="${SPIRE_PORT:-8081}"         # SPIRE's server, for agents
export GC_PORT="${GC_PORT:-8443}"               # Ground Control with its SVID, for satellites
export WEB_PORT="${WEB_PORT:-8080}"             # Ground Control for people and their clients
export REGISTRY_PORT="${REGISTRY_PORT:-8585}"   # the satellite's registry, for the site
SATELLITE="${SATELLITE:-edge-01}"
REGION="${REGION:-us-east}"
GROUP="${GROUP:-us-east-group}"
IMAGE="${IMAGE:-library/hello}"
ONCE="${ONCE:-false}"                           # true: end everything once the image has arrived
# Paths of sockets have at most 107 bytes: a short folder.
export WORK="${WORK:-$(mktemp -d /tmp/harbor-satellite.XXXXXX)}"
CLOUD="$WORK/cloud"
EDGE="$WORK/edge"
# Both agents give identities to what runs as this user.
SELECTOR="unix:uid:$(id -u)"

PIDS=()

finish() {
    local status=$?
    trap - EXIT INT TERM
    # The last that was started ends first.
    for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
        kill "${PIDS[i]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    exit "$status"
}
trap finish EXIT
trap 'exit 0' INT TERM

say() { printf '\n── %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# need PROGRAM…: they are used and not fetched.
need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is not in PATH"
    done
}

# start NAME COMMAND…: runs it beside the script, with its output in a file.
start() {
    local name="$1"
    shift
    "$@" >"$WORK/$name.log" 2>&1 &
    PIDS+=("$!")
    printf '%s started (log: %s)\n' "$name" "$WORK/$name.log"
}

# until_true WHAT COMMAND…: waits up to a minute.
until_true() {
    local what="$1" end=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            tail -n 20 "$WORK"/*.log >&2 || true
            fail "$what did not happen within a minute"
        fi
        sleep 0.2
    done
}

# The server and its own agent, which stands beside Ground Control.
start_spire_cloud() {
    say "SPIRE in the cloud"
    mkdir -p "$CLOUD/spire-server" "$CLOUD/spire-agent"
    start spire-server spire-server run -expandEnv -config "$HERE/server.conf"
    until_true "SPIRE's server" spire-server healthcheck -socketPath "$CLOUD/spire-server/api.sock"
    spire-server bundle show -socketPath "$CLOUD/spire-server/api.sock" >"$CLOUD/spire-agent/bundle.pem"

    # The name under which this agent is known; whoever is its user gets Ground Control's identity from it.
    local agent="spiffe://$TRUST_DOMAIN/gc/agent"
    spire-server token generate -socketPath "$CLOUD/spire-server/api.sock" -spiffeID "$agent" -ttl 600 -output json |
        jq -r .value >"$CLOUD/spire-agent/join-token"
    spire-server entry create -socketPath "$CLOUD/spire-server/api.sock" \
        -parentID "$agent" -spiffeID "spiffe://$TRUST_DOMAIN/gc/main" -selector "$SELECTOR" >/dev/null
    start spire-agent-cloud spire-agent run -expandEnv -config "$HERE/agent-cloud.conf" \
        -joinTokenFile "$CLOUD/spire-agent/join-token"
    until_true "the cloud's agent" spire-agent healthcheck -socketPath "$CLOUD/spire-agent/api.sock"
}

start_ground_control() {
    say "Ground Control"
    mkdir -p "$CLOUD/ground-control"
    # Upper and lower case and a digit, as the rules for passwords ask.
    printf 'Ex-%s\n' "$(head -c 18 /dev/urandom | base64 | tr -d '+/=')1a" >"$CLOUD/admin-password"
    ADMIN_PASSWORD="$(cat "$CLOUD/admin-password")" \
        DATA_DIR="$CLOUD/ground-control" \
        LISTEN="127.0.0.1:$GC_PORT" \
        WEB_LISTEN="127.0.0.1:$WEB_PORT" \
        SPIFFE_SERVER_ENABLED=true \
        SPIFFE_TRUST_DOMAIN="$TRUST_DOMAIN" \
        SPIFFE_ENDPOINT_SOCKET="unix://$CLOUD/spire-agent/api.sock" \
        SPIRE_SERVER_SOCKET="$CLOUD/spire-server/api.sock" \
        SPIRE_SERVER_ADDRESS=127.0.0.1 \
        SPIRE_SERVER_PORT="$SPIRE_PORT" \
        start ground-control ground-control
    until_true "Ground Control" curl -fsS "http://127.0.0.1:$WEB_PORT/health/ready"
    # The session of groundctl stays in this folder.
    export HOME="$WORK" XDG_CONFIG_HOME="$WORK/.config"
    groundctl login --server "http://127.0.0.1:$WEB_PORT" --username admin --password-file "$CLOUD/admin-password"
    groundctl spire status
}

# An image of one file, pushed with curl alone: the group asks for it.
publish_image() {
    say "an image, and a group that asks for it"
    local registry="http://127.0.0.1:$WEB_PORT" image="$WORK/image"
    mkdir -p "$image"
    # The password stands in a file and not in the process list.
    printf 'user = "admin:%s"\n' "$(cat "$CLOUD/admin-password")" >"$CLOUD/curl.conf"
    printf 'hello from the edge\n' >"$image/hello.txt"
    tar -C "$image" --sort=name --mtime=@0 --owner=0 --group=0 -cf - hello.txt | gzip -n >"$image/layer.tar.gz"
    local diff_id layer config
    diff_id="$(gzip -dc "$image/layer.tar.gz" | sha256sum | cut -d' ' -f1)"
    jq -cn --arg diff "sha256:$diff_id" \
        '{architecture: "amd64", os: "linux", config: {}, rootfs: {type: "layers", diff_ids: [$diff]}}' \
        >"$image/config.json"
    layer="$(push_blob "$registry" "$image/layer.tar.gz")"
    config="$(push_blob "$registry" "$image/config.json")"
    jq -cn --arg layer "$layer" --arg config "$config" \
        --argjson layer_size "$(stat -c %s "$image/layer.tar.gz")" \
        --argjson config_size "$(stat -c %s "$image/config.json")" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
          config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $config, size: $config_size},
          layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: $layer, size: $layer_size}]}' \
        >"$image/manifest.json"
    curl -fsS -K "$CLOUD/curl.conf" -X PUT -H 'content-type: application/vnd.oci.image.manifest.v1+json' \
        --data-binary "@$image/manifest.json" "$registry/v2/$IMAGE/manifests/latest"
    DIGEST="sha256:$(sha256sum <"$image/manifest.json" | cut -d' ' -f1)"
    jq -n --arg group "$GROUP" --arg repository "$IMAGE" --arg digest "$DIGEST" \
        '{group: $group, artifacts: [{repository: $repository, tag: ["latest"], type: "image", digest: $digest}]}' \
        >"$image/group.json"
    groundctl groups apply --file "$image/group.json"
}

# push_blob REGISTRY FILE: prints its digest.
push_blob() {
    local digest location
    digest="sha256:$(sha256sum <"$2" | cut -d' ' -f1)"
    location="$(curl -fsS -K "$CLOUD/curl.conf" -X POST -D - -o /dev/null "$1/v2/$IMAGE/blobs/uploads/" |
        tr -d '\r' | sed -n 's/^[Ll]ocation: //p')"
    case "$location" in http*) ;; *) location="$1$location" ;; esac
    case "$location" in *\?*) location="$location&" ;; *) location="$location?" ;; esac
    curl -fsS -K "$CLOUD/curl.conf" -X PUT -H 'content-type: application/octet-stream' \
        --data-binary "@$2" "${location}digest=$digest" >/dev/null
    printf '%s' "$digest"
}

# The agent of the edge needs the authorities of the trust domain, from whom it takes its server for the right one.
prepare_edge() {
    mkdir -p "$EDGE/spire-agent" "$EDGE/satellite"
    cp "$CLOUD/spire-agent/bundle.pem" "$EDGE/spire-agent/bundle.pem"
}

# start_edge_agent ARGUMENT…
start_edge_agent() {
    say "SPIRE's agent at the edge"
    start spire-agent-edge spire-agent run -expandEnv -config "$HERE/agent-edge.conf" "$@"
    until_true "the edge's agent" spire-agent healthcheck -socketPath "$EDGE/spire-agent/api.sock"
}

# Where Ground Control is, and where the Workload API is: that is all, and no secret.
start_satellite() {
    say "the satellite"
    CONFIG_DIR="$EDGE/satellite" \
        CONTROL_SOCKET="$EDGE/satellite.sock" \
        REGISTRY_LISTEN="127.0.0.1:$REGISTRY_PORT" \
        start satellite satellite --ground-control-url "https://127.0.0.1:$GC_PORT" \
        --spiffe-enabled --spiffe-endpoint-socket "unix://$EDGE/spire-agent/api.sock"
}

arrived() {
    local found
    found="$(curl -fsS -I -H 'accept: application/vnd.oci.image.manifest.v1+json' \
        "http://127.0.0.1:$REGISTRY_PORT/v2/$IMAGE/manifests/latest" | tr -d '\r' |
        sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p')"
    [ "$found" = "$DIGEST" ]
}

wait_for_image() {
    say "replication"
    until_true "$IMAGE:latest on the satellite" arrived
    groundctl satellites get "$SATELLITE"
    printf '\nreplicated %s:latest %s\n' "$IMAGE" "$DIGEST"
    printf 'pull it: skopeo inspect --tls-verify=false docker://127.0.0.1:%s/%s:latest\n' "$REGISTRY_PORT" "$IMAGE"
    if [ "$ONCE" = true ]; then
        return
    fi
    printf 'everything runs; Ctrl-C ends it\n'
    # An ended program ends the whole.
    wait -n
    fail "a program ended; its log is in $WORK"
}
