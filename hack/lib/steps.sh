# Steps of hack's scripts: says what is done and how long it took, and shows a command's output only if it fails.
# Sourced, never run; knows nothing of what the steps are.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' dim='' red='' plain=''
fi

# Prints a line.
say() { printf '%s\n' "$*"; }

# Ends the script with an error that names cause and cure.
fail() {
    printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# Seconds as people read them.
duration() {
    if (($1 < 60)); then printf '%ss' "$1"; else printf '%sm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}

# step TITLE COMMAND…: runs the command without input. Its output is kept, and shown if it fails.
step() {
    local title=$1 log start=$SECONDS status=0
    shift
    log=$(mktemp -t beeline-step.XXXXXX)
    tick "$title" "$log" &
    local ticker=$!
    "$@" </dev/null >"$log" 2>&1 || status=$?
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    [[ -t 1 ]] && printf '\r\e[K'
    if ((status == 0)); then
        say "  $title ${dim}($(duration $((SECONDS - start))))$plain"
    else
        say "  $title ${red}failed$plain ${dim}($(duration $((SECONDS - start))))$plain"
        tail -n 60 "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# Shows that a step is alive: on a terminal one line that moves, elsewhere a line every half minute. Both end with what
# the log says last.
tick() {
    local title=$1 log=$2 start=$SECONDS
    local due=$((start + 30))
    # The sleep lets go of our output, so that nobody who reads it waits for an orphan.
    while sleep 1 >/dev/null 2>&1; do
        local now last
        now=$(duration $((SECONDS - start)))
        last=$(tail -n 1 "$log" | tr -d '[:cntrl:]')
        if [[ -t 1 ]]; then
            printf '\r\e[K  %s %s%s  %.50s%s' "$title" "$dim" "$now" "$last" "$plain"
        elif ((SECONDS >= due)); then
            # Under load a second may be missed.
            due=$((SECONDS + 30))
            say "$(printf '  %s: %s so far  %.50s' "$title" "$now" "$last")"
        fi
        # The script was killed: nobody is left to tell.
        kill -0 $$ 2>/dev/null || exit 0
    done
}
