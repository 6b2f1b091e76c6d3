# Unpacks Debian packages with all they depend on into a folder; nothing is installed on the machine. Sourced, never run.

# unpack_debian FOLDER PACKAGE…: into FOLDER/root, with /bin and the like merged into /usr. The machine's own lists of
# packages are used.
unpack_debian() {
    local folder=$1 name package
    shift
    rm -rf "$folder/root"
    mkdir -p "$folder/packages/partial" "$folder/root"
    : >"$folder/status"
    for name in bin sbin lib lib64; do
        mkdir -p "$folder/root/usr/$name"
        ln -s "usr/$name" "$folder/root/$name"
    done
    apt-get -q -y --download-only install "$@" -o Dir::State::status="$folder/status" \
        -o Dir::Cache::archives="$folder/packages" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o APT::Install-Recommends=0 -o Debug::NoLocking=1 -o APT::Sandbox::User=root ||
        die "apt-get cannot download ${*}" "run \`apt-get update\`, then this again"
    for package in "$folder"/packages/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -C "$folder/root" -x --keep-directory-symlink \
            --exclude=./usr/share/{doc,man,locale,info,lintian,zoneinfo,bash-completion} \
            --exclude=./usr/share/perl* --exclude=./usr/lib/*/{perl*,gconv}
    done
}
