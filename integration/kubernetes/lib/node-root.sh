# The root file system of a node, in $NODE/root: Debian packages, kind's own files for its node image, our programs, and
# the control plane's images. Sourced, never run.

readonly NODE_PACKAGES=(systemd conntrack iptables nftables runc iproute2 ethtool util-linux mount kmod procps jq bash
    coreutils grep sed findutils hostname gawk dash debianutils base-passwd libc-bin tar gzip curl tcpdump iputils-ping
    bpftool)

node_root() {
    unpack_debian "$NODE" "${NODE_PACKAGES[@]}"
    node_debian
    node_kind
    node_programs
    node_images
}

# What the packages' own scripts would have done.
node_debian() {
    local root=$NODE/root version kind
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    echo 'systemd-journal:x:999:' >>"$root/etc/group"
    cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/etc/" 2>/dev/null ||
        echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    ln -sf dash "$root/usr/bin/sh"
    ln -sf gawk "$root/usr/bin/awk"
    ln -sf which.debianutils "$root/usr/bin/which"
    ln -sf /lib/systemd/systemd "$root/usr/sbin/init"
    rm -rf "$root/var/run" "$root/var/lock"
    ln -s /run "$root/var/run"
    ln -s /run/lock "$root/var/lock"
    mkdir -p "$root"/{proc,sys,dev,run,tmp,root}
    # Most of these are of the whole machine.
    rm -f "$root"/usr/lib/sysctl.d/*.conf
    for version in "" 6; do
        for kind in legacy nft; do
            chroot "$root" update-alternatives --quiet \
                --install "/usr/sbin/ip${version}tables" "ip${version}tables" "/usr/sbin/ip${version}tables-$kind" 10 \
                --slave "/usr/sbin/ip${version}tables-save" "ip${version}tables-save" \
                "/usr/sbin/ip${version}tables-$kind-save" \
                --slave "/usr/sbin/ip${version}tables-restore" "ip${version}tables-restore" \
                "/usr/sbin/ip${version}tables-$kind-restore"
        done
    done
    ldconfig -r "$root"
}

# As kind's Dockerfile lays its files, and what a small machine needs on top.
node_kind() {
    local root=$NODE/root source unit
    source=$(go -C "$HERE/go/kind" list -m -f '{{.Dir}}' sigs.k8s.io/kind)
    cp -r "$source"/images/base/files/{etc,kind,usr} "$root/"
    chmod -R u+w "$root"/{etc,kind,usr/local}
    chmod 755 "$root"/usr/local/bin/* "$root/kind" "$root/kind/bin" "$root"/kind/bin/*
    mkdir -p "$root"/etc/systemd/system/multi-user.target.wants \
        "$root"/{opt/cni/bin,etc/cni/net.d,etc/kubernetes/manifests,kind/images}
    find "$root/lib/systemd/system/sysinit.target.wants" -name systemd-tmpfiles-setup.service -delete
    rm -f "$root"/lib/systemd/system/{multi-user,local-fs}.target.wants/* "$root"/etc/systemd/system/*.wants/* \
        "$root"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
    echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
    ln -sf /dev/null "$root/etc/systemd/system/systemd-binfmt.service"
    # Without CAP_SYS_RESOURCE runc may not lower an OOM score.
    sed -i -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' \
        -e "s|sandbox_image = .*|sandbox_image = \"$CONTROL_PLANE_PREFIX/pause:dev\"|" "$root/etc/containerd/config.toml"
    # kind takes "detected cgroup v1" for readiness, long before systemd is up; with other words it waits, as on cgroup v2.
    sed -i -e 's/detected cgroup v1/found cgroup v1/' \
        -e "s|^log_info 'starting init'|/usr/local/bin/shield-sysctls\n&|" "$root/usr/local/bin/entrypoint"
    grep -q shield-sysctls "$root/usr/local/bin/entrypoint" ||
        die "kind's entrypoint has changed: it no longer says 'starting init'" "adapt integration/kubernetes/lib/node-root.sh"
    install -m 755 "$HERE/node/shield-sysctls" "$root/usr/local/bin/"
    cp "$HERE/node/load-images.service" "$root/etc/systemd/system/"
    for unit in kubelet containerd undo-mount-hacks load-images; do
        ln -sf ../$unit.service "$root/etc/systemd/system/multi-user.target.wants/"
    done
}

node_programs() {
    local root=$NODE/root name
    kubernetes_version >"$root/kind/version"
    cp "$BIN/kube" "$root/usr/bin/"
    for name in kubelet kubeadm kubectl kube-proxy; do ln -sf kube "$root/usr/bin/$name"; done
    cp "$BIN"/{containerd,containerd-shim-runc-v2,ctr} "$root/usr/local/bin/"
    cp "$BIN"/cni/* "$root/opt/cni/bin/"
    chroot "$root" /usr/local/bin/ctr oci spec |
        jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
            >"$root/etc/containerd/cri-base.json"
}

# The images that kubeadm names, in one archive, which a unit imports before the kubelet starts.
node_images() {
    local root=$NODE/root work=$STATE/tmp/control-plane image kube=() pause=("$CONTROL_PLANE_PREFIX/pause:dev" "$PUBLIC_PAUSE") dns=() name
    rm -rf "$work"
    mkdir -p "$work"/{kube,pause,dns}/{tmp,etc,usr/local/bin}
    ln "$BIN/kube" "$work/kube/usr/local/bin/"
    ln "$BIN/pause" "$work/pause/usr/local/bin/"
    ln "$BIN/coredns" "$work/dns/usr/local/bin/"
    for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd; do
        ln -s kube "$work/kube/usr/local/bin/$name"
    done
    for image in $(chroot "$root" kubeadm config images list --image-repository "$CONTROL_PLANE_PREFIX" \
        --kubernetes-version "$(kubernetes_version)" 2>/dev/null); do
        case $image in
            */pause:*) pause+=("$image") ;;
            */coredns*) dns+=("$image") ;;
            *) kube+=("$image") ;;
        esac
    done
    ((${#kube[@]} > 0 && ${#dns[@]} > 0)) || die "kubeadm names none of its images"
    oci_start "$work/oci"
    oci_image "$work/oci" "$work/kube" /usr/local/bin/kube "${kube[@]}"
    oci_image "$work/oci" "$work/pause" /usr/local/bin/pause "${pause[@]}"
    oci_image "$work/oci" "$work/dns" /usr/local/bin/coredns "${dns[@]}"
    oci_finish "$work/oci" "$root/kind/images/control-plane.tar"
    rm -rf "$work"
}

kubernetes_version() { go -C "$HERE/go/kubernetes" list -m -f '{{.Version}}' k8s.io/kubernetes; }
