# The closed world that a local cluster lives in: one network, one mount and one process namespace, held by one process.
# Killing that process ends every container, mount, link and socket of the cluster at once. Sourced, never run.

# started PID: when, so that a process id that is used again is not taken for ours.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

world_is_up() {
    local pid when
    read -r pid when 2>/dev/null <"$RUN/holder" && [[ $(started "$pid") == "$when" ]]
}

holder() {
    world_is_up || die "no cluster is up" "hack/kind up"
    cut -d' ' -f1 "$RUN/holder"
}

world_up() {
    if world_is_up; then return; fi
    local outer pid
    mkdir -p "$RUN"
    rm -f "$RUN/ready"
    setsid unshare --net --mount --propagation slave --pid --fork --kill-child --mount-proc \
        "$HERE/lib/world-init" "$RUN/ready" "$BIN/pause" </dev/null >"$STATE/world.log" 2>&1 9>&- &
    outer=$!
    for ((i = 0; i < 100; i++)); do
        [[ ! -e $RUN/ready ]] || break
        sleep 0.05
    done
    [[ -e $RUN/ready ]] || die "cannot make namespaces" "$(cat "$STATE/world.log")"
    pid=$(pgrep -P "$outer")
    echo "$pid $(started "$pid")" >"$RUN/holder"
}

world_down() {
    if ! world_is_up; then return; fi
    local pid
    pid=$(holder)
    kill -9 "$pid"
    for ((i = 0; i < 100; i++)); do
        [[ -d /proc/$pid ]] || break
        sleep 0.1
    done
    rm -f "$RUN/holder" "$RUN/ready"
}

