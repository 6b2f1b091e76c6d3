# Finds the toolchain that compiles the eBPF programs, in the same order as lb-dataplane/build.rs.
# Sourced, never run; installs nothing.

readonly TARGET=bpfel-unknown-none
readonly cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
export PATH=$PATH:$cargo_bin:/usr/sbin:/sbin
# Asking rustup for a toolchain that is not there must not fetch one.
export RUSTUP_AUTO_INSTALL=0

# Sets `route` to the first complete toolchain, or to nothing; and `found` to what each one lacks.
find_toolchain() {
    local candidate gap
    route='' found=()
    for candidate in ${BEELINE_EBPF_TOOLCHAIN:-nightly debian}; do
        gap=$(lacks "$candidate")
        [[ -n $gap ]] || { route=$candidate && return; }
        found+=("$candidate: $gap")
    done
}

# Says what toolchain ROUTE lacks; nothing if it is complete.
lacks() {
    local place
    case $1 in
        nightly)
            if ! command -v rustup >/dev/null; then
                echo "no rustup"
            elif ! place=$(rustc_of nightly --print sysroot 2>/dev/null); then
                echo "not installed"
            elif [[ ! -e $place/lib/rustlib/src/rust/library/core/Cargo.toml ]]; then
                echo "its rust-src component is missing"
            else
                lacks_linker nightly
            fi
            ;;
        debian)
            if ! place=$(rustc_of debian --print target-libdir --target $TARGET 2>/dev/null); then
                echo "/usr/bin/rustc is missing, or too old for $TARGET"
            elif ! compgen -G "$place/libcore-*" >/dev/null; then
                echo "it has no core for bpfel"
            else
                lacks_linker debian
            fi
            ;;
    esac
}

# Says why bpf-linker cannot link for toolchain ROUTE; nothing if it can.
lacks_linker() {
    local dir
    if ! bpf-linker --version >/dev/null 2>&1; then
        echo "bpf-linker is missing" >&3
        return
    fi
    # LLVM reads no bitcode newer than itself: try an empty crate.
    dir=$(mktemp -d -t beeline-probe.XXXXXX)
    rustc_of "$1" --crate-type=lib --crate-name=probe --emit=llvm-bc -o "$dir/probe.bc" - <<<'pub fn probe() {}' &&
        bpf-linker --target bpfel --emit llvm-bc -o "$dir/linked" "$dir/probe.bc" ||
        echo "bpf-linker cannot read its bitcode (another LLVM)" >&3
    rm -rf "$dir"
} 3>&1 >/dev/null 2>&1

# rustc_of ROUTE ARGUMENT…: runs the rustc of a toolchain.
rustc_of() {
    local route=$1
    shift
    case $route in
        nightly) rustup run nightly rustc "$@" ;;
        debian) /usr/bin/rustc "$@" ;;
    esac
}
