# Finds Go, which only programs of others are built with. Sourced, never run.

export PATH=$PATH:/usr/local/go/bin

# lacks_go NEEDED: says what Go lacks to be of that version or newer; nothing if it will do.
lacks_go() {
    local version
    if ! version=$(go env GOVERSION 2>/dev/null); then
        echo "there is no Go"
    elif ! printf '%s\n' "$1" "${version#go}" | sort --check=silent --version-sort; then
        echo "Go is ${version#go}, older than $1"
    fi
}
