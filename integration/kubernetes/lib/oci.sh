# Writes image archives (OCI image layout in a tar) out of folders: one layer each, owned by root, nothing compressed.
# Sourced, never run; knows nothing of what is in the images.

# oci_start FOLDER: begins a layout there.
oci_start() {
    rm -rf "$1"
    mkdir -p "$1/blobs/sha256"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
    : >"$1/manifests"
}

# oci_image FOLDER ROOT ENTRYPOINT NAME…: adds what is in ROOT under each NAME. ENTRYPOINT may have arguments, which are
# the image's command.
oci_image() {
    local folder=$1 root=$2 words layer config manifest name
    read -ra words <<<"$3"
    shift 3
    layer=$(tar --create --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner . |
        oci_blob "$folder" layer.v1.tar)
    config=$(jq -cn --arg arch "$(go env GOARCH)" --argjson layer "$layer" '{os: "linux", architecture: $arch,
        config: {Entrypoint: $ARGS.positional[:1], Cmd: $ARGS.positional[1:],
                 Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        rootfs: {type: "layers", diff_ids: [$layer.digest]}}' --args "${words[@]}" |
        oci_blob "$folder" config.v1+json)
    manifest=$(jq -cn --argjson config "$config" --argjson layer "$layer" '{schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' |
        oci_blob "$folder" manifest.v1+json)
    for name in "$@"; do
        jq -c --arg name "$name" '. + {annotations: {"io.containerd.image.name": $name,
            "org.opencontainers.image.ref.name": ($name | sub(".*:"; ""))}}' <<<"$manifest" >>"$folder/manifests"
    done
}

# oci_finish FOLDER ARCHIVE: writes the archive and removes the layout.
oci_finish() {
    jq -cs '{schemaVersion: 2, manifests: .}' "$1/manifests" >"$1/index.json"
    rm "$1/manifests"
    tar --create --directory "$1" --file "$2" oci-layout index.json blobs
    rm -rf "$1"
}

# oci_blob FOLDER KIND: stores what it reads, and prints its descriptor.
oci_blob() {
    local blob digest
    blob=$(mktemp -p "$1/blobs")
    cat >"$blob"
    digest=$(sha256sum <"$blob" | cut -d' ' -f1)
    mv "$blob" "$1/blobs/sha256/$digest"
    jq -cn --arg kind "$2" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$1/blobs/sha256/$digest")" \
        '{mediaType: "application/vnd.oci.image.\($kind)", digest: $digest, size: $size}'
}
