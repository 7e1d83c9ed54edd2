#!/usr/bin/env bash
# The first five minutes of OrderGrid: a grid on this machine, a year of real orders through its HTTP API, the laws proven.
#
#   tests/demo.sh PATH_TO_ORDERGRID [NODES]
#
# The exit code is 0 only if every order was placed, paid and shipped, every law holds, and the grid stopped cleanly.
set -euo pipefail

program=${1:?usage: demo.sh PATH_TO_ORDERGRID [NODES]}
nodes=${2:-3}
data=$(cd "$(dirname "$0")/data" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/ordergrid-demo.XXXXXX")
log=$folder/grid.log
pid=

finish() {
    local code=$?
    trap - EXIT INT TERM HUP
    if [ -n "$pid" ] && kill -0 "$pid" 2> /dev/null; then
        kill -TERM "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    fi
    if [ "$code" != 0 ] && [ -s "$log" ]; then
        echo "demo: the last lines of the grid's log:" >&2
        tail -n 20 "$log" >&2
    fi
    rm -rf "$folder"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
    echo "demo: $*" >&2
    exit 1
}

heading() { printf '\n== %s\n' "$*"; }

heading "A grid of $nodes node(s), data in $folder"
# It tells that it serves by one line on its standard output; the pipe ends if it dies first.
mkfifo "$folder/ready"
"$program" dev --nodes "$nodes" --shards 4 --port 0 --data "$folder/data" -o json > "$folder/ready" 2> "$log" &
pid=$!
exec 3< "$folder/ready"
IFS= read -r -t 120 ready <&3 || fail "the grid did not become ready"
endpoints=$(sed -n 's/.*"endpoints":\[\([^]]*\)\].*/\1/p' <<< "$ready" | tr -d '" ')
[ -n "$endpoints" ] || fail "no endpoints in: $ready"
export ORDERGRID_ENDPOINTS=$endpoints
echo "serving at ${endpoints//,/ }"

heading "Receive the stock, then place, pay, pick, ship and deliver every order"
"$program" replay --orders "$data/online_retail_orders.csv.gz" --lines "$data/online_retail_lines.csv.gz" --stock full -o table ||
    fail "the replay left something unexplained (exit code $?)"

heading "The cluster"
"$program" cluster status -o table || fail "cluster status failed (exit code $?)"

heading "The laws of stock, on the result"
"$program" cluster verify -o table || fail "a law is broken (exit code $?)"

heading "Stop"
kill -TERM "$pid"
stopped=0
wait "$pid" || stopped=$?
pid=
[ "$stopped" = 0 ] || fail "the grid stopped with exit code $stopped"
echo "stopped cleanly"
