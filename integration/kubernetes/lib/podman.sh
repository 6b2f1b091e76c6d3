# A podman of the cluster's own: Debian's packages unpacked, no daemon, used only inside the closed world. kind drives it.
# Sourced, never run.

install_podman() {
    local root=$PODMAN/root lib inputs=("$HERE/lib/podman.sh" "$HERE/lib/debian.sh" "$PODMAN")
    if current podman "${inputs[@]}"; then return; fi
    unpack_debian "$PODMAN" podman runc conmon netavark aardvark-dns iptables
    lib=$(echo "$root"/usr/lib/*-linux-gnu)
    mkdir -p "$PODMAN"/{bin,home/.config/containers,networks,empty}
    ln -sf xtables-legacy-multi "$root/usr/sbin/iptables"
    ln -sf xtables-legacy-multi "$root/usr/sbin/ip6tables"
    : >"$PODMAN/registries.conf"
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$PODMAN/home/.config/containers/policy.json"
    podman_settings "$root" >"$PODMAN/containers.conf"
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "/run/podman-storage"\n' "$PODMAN/graph" \
        >"$PODMAN/storage.conf"
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/sbin/runc "$@"\n' "$lib" "$root" >"$PODMAN/bin/runc"
    podman_wrapper "$root" "$lib" >"$PODMAN/bin/podman"
    chmod +x "$PODMAN"/bin/*
    made podman "${inputs[@]}"
}

# The state is in the namespaces' own /run: when those end, podman takes it for a reboot and starts clean. The limits are
# this machine's own: without CAP_SYS_RESOURCE podman's default, above the hard limit, fails.
podman_settings() {
    cat <<END
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
conmon_path = ["$1/usr/bin/conmon"]
helper_binaries_dir = ["$1/usr/lib/podman"]
static_dir = "$PODMAN/static"
tmp_dir = "/run/podman"
volume_path = "$PODMAN/volumes"
[engine.runtimes]
runc = ["$PODMAN/bin/runc"]
[network]
network_backend = "netavark"
network_config_dir = "$PODMAN/networks"
END
}

# kind always mounts /lib/modules, which a machine may lack: an empty folder takes its place.
podman_wrapper() {
    cat <<END
#!/bin/bash
export LD_LIBRARY_PATH=$2 XTABLES_LIBDIR=$2/xtables PATH=$1/usr/sbin:\$PATH
arguments=("\$@")
[ -d /lib/modules ] || arguments=("\${arguments[@]/#\/lib\/modules:\/lib\/modules:/$PODMAN/empty:/lib/modules:}")
exec $1/usr/bin/podman "\${arguments[@]}"
END
}

# What stays running there must not keep the lock on the folder.
in_world() {
    env HOME="$PODMAN/home" PATH="$PODMAN/bin:$BIN:$PATH" KIND_EXPERIMENTAL_PROVIDER=podman \
        CONTAINERS_CONF="$PODMAN/containers.conf" CONTAINERS_STORAGE_CONF="$PODMAN/storage.conf" \
        CONTAINERS_REGISTRIES_CONF="$PODMAN/registries.conf" \
        nsenter --target "$(holder)" --net --mount --pid --wdns=/ "$@" 9>&-
}
podman() { in_world podman "$@"; }
