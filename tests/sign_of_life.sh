#!/usr/bin/env bash
#
# Runs a command that is silent for minutes, and says every half minute that it still works.
#
#   tests/sign_of_life.sh "what is being done" command arguments...
#
# Ends with the command's exit code. Cargo names a crate when it begins with it and then says nothing
# until it is done; the last one, maskwatch itself, takes minutes.

set -uo pipefail

readonly EVERY_S="${SIGN_OF_LIFE_EVERY_S:-30}"
readonly doing="$1"
shift

begin=$SECONDS
# The sleep is a child of the loop and must go with it, or it would hold the terminal.
(
    trap 'kill "${nap:-}" 2>/dev/null; exit 0' TERM
    while :; do
        sleep "$EVERY_S" &
        nap=$!
        wait "$nap"
        printf '%s: still at it after %d s\n' "$doing" "$((SECONDS - begin))" >&2
    done
) &
ticker=$!

"$@"
code=$?
kill "$ticker" 2>/dev/null
wait "$ticker" 2>/dev/null
exit "$code"
