# One service: start, stop, restart, reload. Its command, its environment and its process number are files beside this one.
place=$1
runs() {
    [ -s "$place.pid" ] || return 1
    state=$(sed -n 's/^State:[[:space:]]*\([A-Z]\).*/\1/p' "/proc/$(cat "$place.pid")/status" 2>/dev/null)
    [ -n "$state" ] && [ "$state" != Z ]
}
stop() {
    runs && kill "$(cat "$place.pid")"
    while runs; do sleep 0.02; done
    rm -f "$place.pid"
}
start() {
    # In a session of its own: whoever restarts it may end, with its group.
    setsid sh "$place.sh" </dev/null >>"$place.log" 2>&1 &
    echo $! >"$place.pid"
}
echo "$2" >>"$place.asked"
case $2 in
start) start ;;
stop) stop ;;
restart)
    stop
    start
    ;;
reload) kill -HUP "$(cat "$place.pid")" ;;
esac
