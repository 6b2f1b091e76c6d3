# Where the local cluster keeps things, and what has been made from what. Sourced, never run; changes nothing by itself.

# What is named here is used by those who source it.
# shellcheck disable=SC2034

# Everything is in this one folder; Go's own caches are where `go env` says.
STATE=$(realpath -m "${BEELINE_KIND:-${XDG_CACHE_HOME:-$HOME/.cache}/beeline/kind}")
readonly STATE
readonly BIN=$STATE/bin IMAGES=$STATE/images RUN=$STATE/run STAMPS=$STATE/stamps
readonly NODE=$STATE/node PODMAN=$STATE/podman
readonly KUBECONFIG_FILE=$STATE/kubeconfig
readonly CLUSTER=beeline
readonly NODE_IMAGE=localhost/beeline-node:dev
# Names of images that are only ever loaded, never looked up anywhere.
readonly CONTROL_PLANE_PREFIX=beeline.local/kubernetes
readonly E2E_PREFIX=beeline.local/e2e
# The image that manifests/kubernetes/uninstall names besides our own.
readonly PUBLIC_PAUSE=registry.k8s.io/pause:3.10.2

HERE=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
readonly HERE

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# Lets only one process change the folder.
one_at_a_time() {
    mkdir -p "$BIN/cni" "$IMAGES" "$STAMPS"
    exec 9>"$STATE/lock"
    flock -n 9 || die "another process builds or changes the cluster in $STATE" "wait for it to end"
}

# timed NAME COMMAND…: says how long it took. Not to be called where bash ignores `set -e`.
timed() {
    local name=$1 start=$SECONDS
    shift
    "$@"
    printf '%-28s %4d s\n' "$name" $((SECONDS - start))
}

# digest INPUT…: of files, and of words that name none.
digest() {
    local input
    for input in "$@"; do
        if [[ -f $input ]]; then sha256sum <"$input"; else printf '%s\n' "$input"; fi
    done | sha256sum
}

# current NAME INPUT…: whether NAME was made from just these. made NAME INPUT… says that it now is.
current() { [[ $(cat "$STAMPS/$1" 2>/dev/null) == "$(digest "${@:2}")" ]]; }
made() { digest "${@:2}" >"$STAMPS/$1"; }
