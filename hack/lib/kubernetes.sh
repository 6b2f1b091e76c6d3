# What hack/test does on a real Kubernetes cluster. Sourced, never run; wants hack/lib/steps.sh.

source hack/lib/go.sh

readonly GO_NEEDED=1.26

# Says in a line why tests on a real cluster are left out; nothing if they are not.
lacks_kubernetes() {
    local gap
    gap=$(lacks_go "$GO_NEEDED")
    if [[ -n $gap ]]; then
        echo "$gap: install Go $GO_NEEDED or newer, https://go.dev/dl"
    elif ((EUID != 0)); then
        echo "a local cluster needs root: sudo hack/test"
    elif [[ -n $(hack/kind mode) ]]; then
        echo "a cluster of yours is up: hack/kind down"
    fi
}

# Builds Kubernetes beside whatever else is run, out of what that leaves of the processors; `kubernetes_built` waits for it.
build_kubernetes() {
    kubernetes_log=$(mktemp -t beeline-kubernetes.XXXXXX)
    setsid chrt --idle 0 bash -c 'integration/kubernetes/build && integration/kubernetes/images' \
        </dev/null >"$kubernetes_log" 2>&1 &
    kubernetes_builder=$!
}

kubernetes_built() {
    local status=0
    # Shows what has been built so far, for whoever looks on.
    tail --lines=+1 --follow --pid="$kubernetes_builder" "$kubernetes_log" &
    wait "$kubernetes_builder" || status=$?
    wait $!
    rm -f "$kubernetes_log"
    # It has ended: another may get its number.
    kubernetes_builder=''
    return "$status"
}

# Ends what build_kubernetes began, if it goes on still.
abandon_kubernetes() {
    [[ -n ${kubernetes_builder:-} ]] || return 0
    kill -- "-$kubernetes_builder" 2>/dev/null || true
    rm -f "$kubernetes_log"
}

# kubernetes_tests LOG: brings a local cluster up, runs Kubernetes' conformance tests of the network on it, tells Beeline's
# stories, and takes it down again; then asks an API server without a cluster. What cargo prints goes to LOG, too.
kubernetes_tests() {
    local status=0
    if ! hack/kind up --local --debug || ! step "images for the stories" integration/kubernetes/test-images; then
        hack/kind down
        return 1
    fi
    hack/e2e --conformance || status=$?
    ignored_tests kubernetes "$1" || status=$?
    hack/kind down || status=$?
    ignored_tests node "$1" || status=$?
    return "$status"
}

# ignored_tests PROGRAM LOG: the tests of a program that are not run unless asked for.
ignored_tests() { cargo test --workspace --test "$1" --locked -- --ignored </dev/null 2>&1 | tee -a "$2"; }
