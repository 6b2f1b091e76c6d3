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

# kubernetes_tests LOG: brings a local cluster up, tells Beeline's stories and runs Kubernetes' conformance tests of the
# network on it, and takes it down again. What cargo prints goes to LOG, too.
kubernetes_tests() {
    local status=0
    if ! hack/kind up --local --debug || ! step "images for the stories" integration/kubernetes/test-images; then
        hack/kind down
        return 1
    fi
    hack/e2e --conformance || status=$?
    cargo test --workspace --test kubernetes --locked -- --ignored </dev/null 2>&1 | tee -a "$1" || status=$?
    hack/kind down || status=$?
    return "$status"
}
