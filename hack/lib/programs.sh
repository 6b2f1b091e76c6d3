# Programs for images: static ones, or any with the libraries they name. Sourced, never run; wants hack/lib/steps.sh.

# The triple that static programs are built for: musl where rustup has it, else glibc, linked statically.
static_target() {
    local arch
    arch=$(uname -m)
    if rustup target list --installed 2>/dev/null | grep -qx "$arch-unknown-linux-musl" && command -v musl-gcc >/dev/null; then
        echo "$arch-unknown-linux-musl"
    else
        echo "$arch-unknown-linux-gnu"
    fi
}

# build_static ARGUMENT…: cargo's build for that triple in the image's profile, into target/<triple>/image.
build_static() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile image --locked --target "$(static_target)" "$@"
}

# ensure_static PROGRAM…: fails if one of them would look for a library.
ensure_static() {
    local program
    for program in "$@"; do
        ! readelf --program-headers "$program" | grep -q INTERP || fail "$program is not static" "see \`ldd $program\`"
    done
}

# install_with_libraries ROOT FOLDER PROGRAM…: puts programs into ROOT/FOLDER, without debug information, and every library
# they name where they look for it.
install_with_libraries() {
    local root=$1 folder=$2 program library
    shift 2
    for program in "$@"; do
        install -D --strip -t "$root$folder" "$program"
        while read -r library; do
            [[ -e $root$library ]] || install -D "$library" "$root$library"
        done < <(ldd "$program" | grep -o '/[^ ]*')
    done
}
