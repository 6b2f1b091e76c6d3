# Builds the programs of others that call our plugin in tests, or are called beside it: Go modules, pinned by
# integration/callers/*/go.mod and go.sum. Sourced after steps.sh and toolchain.sh, never run; installs nothing.
#
#   target/callers/cni          cnitool, gc (garbage collection by libcni), and the CNI project's own plugins
#   target/callers/containerd   containerd, its shim, ctr, cri (a client of its CRI), pause (process 1 of pods)

source hack/lib/go.sh

# Go that fetches the newer Go which a go.mod asks for.
readonly GO_NEEDED=1.21
readonly GO_CURE="for them, get Go $GO_NEEDED or newer from https://go.dev/dl, then run hack/setup --test"
readonly callers=${CARGO_TARGET_DIR:-target}/callers

# Builds whatever is not current. Fails if it cannot.
build_callers() {
    local module
    mkdir -p "$callers"
    for module in cni containerd; do
        callers_are_current "$module" || step "$module from Go modules" build_module "$module" || return
    done
}

# callers_are_current MODULE: is what was built of it made from what is there now?
callers_are_current() { [[ $(cat "$callers/$1/.made-from" 2>/dev/null) == "$(sources_of "$1")" ]]; }

# sources_of MODULE: the digest of all that its programs are made from.
sources_of() {
    { go env GOVERSION GOARCH && find "integration/callers/$1" -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum
}

build_module() (
    # Two runs at once: the second finds what the first has built.
    flock 8
    ! callers_are_current "$1" || return 0
    sources=$(sources_of "$1")
    place=$(realpath "$callers")/$1
    rm -rf "$place" && mkdir "$place"
    cd "integration/callers/$1"
    CGO_ENABLED=0 GOTOOLCHAIN=${GOTOOLCHAIN:-auto} GOFLAGS='' \
        go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$place/" tool ./... || return
    echo "$sources" >"$place/.made-from"
) 8>"$callers/.lock"
