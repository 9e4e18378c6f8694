# Runs "$@" (postgres) and stops it when standard input ends: when `tidegate` closes it, or is
# killed and the system does.
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    read -r _ <&3
    kill -INT "$server"
} 2>/dev/null &
watch=$!
exec 3<&-
wait "$server"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
