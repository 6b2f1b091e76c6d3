# How a cluster is reached, whichever way its nodes run: in containers of Docker's, or of a podman in the closed world.
# Sourced, never run.

# `docker` or `local`; nothing if no cluster is up.
mode() { cat "$RUN/mode" 2>/dev/null || true; }
is_docker() { [[ $(mode) == docker ]]; }
need_cluster() { [[ -n $(mode) ]] || die "no cluster is up" "hack/kind up"; }

# Runs a command where the nodes' addresses can be reached.
in_network() {
    if is_docker; then "$@"; else nsenter --target "$(holder)" --net "$@"; fi
}
containers() {
    if is_docker; then docker "$@"; else podman "$@"; fi
}
kind() {
    if is_docker; then "$BIN/kind" "$@"; else in_world kind "$@"; fi
}
kubectl() { in_network "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }
nodes() { kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}'; }

# on_each_node COMMAND…: on all nodes at the same time.
on_each_node() {
    local node children=() child
    for node in $(nodes); do
        containers exec "$node" "$@" &
        children+=($!)
    done
    for child in "${children[@]}"; do wait "$child"; done
}

# load_image ARCHIVE: into every node's containerd.
load_image() {
    if is_docker; then
        kind load image-archive --name "$CLUSTER" "$1"
    else
        # Each node sees this folder as /images; that spares a copy through podman's pipes.
        local name=load.$$.tar
        cp "$1" "$IMAGES/$name"
        on_each_node ctr -n k8s.io images import --local "/images/$name"
        rm "$IMAGES/$name"
    fi
}
