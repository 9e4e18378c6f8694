# shellcheck shell=bash
# Steps that print their seconds.

step_times=()

# step NAME COMMAND...: runs the command, prints its seconds, returns its status.
step() {
    local name=$1 began=$SECONDS status
    shift
    printf '\n== %s\n' "$name"
    "$@"
    status=$?
    step_times+=("$(printf '%6d s  %s%s' $((SECONDS - began)) "$name" "$([ "$status" -eq 0 ] || echo '  FAILED')")")
    printf -- '-- %s: %d s\n' "$name" $((SECONDS - began))
    return "$status"
}

# must NAME COMMAND...: a step without which the rest makes no sense.
must() { step "$@" || exit; }

# The seconds of all steps so far.
print_steps() {
    [ ${#step_times[@]} -eq 0 ] || printf '%s\n' "${step_times[@]}"
    printf '%6d s  all\n' "$SECONDS"
}
