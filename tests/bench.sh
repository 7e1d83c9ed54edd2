#!/usr/bin/env bash
# Sets of benches, each on a grid of its own, put together into one page.
#
#   tests/bench.sh PATH_TO_ORDERGRID FOLDER [standard|latency|curves|day|long]
#
#   standard  every workload on one node and on three, closed loop and open; less than 10 minutes
#   latency   ten minutes of open loop at half of the measured peak, on one node and on three
#   curves    what grows with shards, nodes, SKUs, lines, connections and batches
#   day       20 million orders of 1 to 5 lines on three nodes, paid, shipped and delivered, and the laws proven on the result
#   long      latency, curves and day
#
# FOLDER gets report.html for people, report.json for programs, and a file for each bench. Variables:
#
#   SECONDS_EACH=8   measured time of a bench in `standard` and `curves`
#   LATENCY=10m      measured time in `latency`
#   ORDERS=20000000  orders of `day`
#   DATA=DIR         where the grids have their data: a folder on the disk to measure, not in memory
#   ONLY=TEXT        only benches whose name has it
set -euo pipefail

program=${1:?usage: bench.sh PATH_TO_ORDERGRID FOLDER [standard|latency|curves|day|long]}
folder=${2:?where shall the reports go?}
set=${3:-standard}
seconds=${SECONDS_EACH:-8}
mkdir -p "$folder/each"
# Thousands of connections are as many open files.
ulimit -Sn "$(ulimit -Hn)" || true
files=()

# bench NAME ARGUMENT...: one bench; its figures are on stdout, its report joins the page.
bench() {
    local name=$1 file=$folder/each/$1.json
    shift
    case $name in *"${ONLY:-}"*) ;; *) return 0 ;; esac
    local data=()
    [ -z "${DATA:-}" ] || data=(--data "$DATA")
    echo "bench: $name" >&2
    "$program" bench "$@" "${data[@]}" --out "$file"
    files+=("$file")
}

# figure FILE NAME: a figure of a report, as a whole number.
figure() { grep -m 1 "\"$2\":" "$folder/each/$1.json" | sed -E 's/.*: ([0-9]+).*/\1/'; }

standard() {
    local nodes
    for nodes in 1 3; do
        # One shard is what two cores do best with; `curves` shows the others.
        local grid=(--nodes "$nodes" --shards 1 --duration "${seconds}s" --warmup 2s)
        bench "uniform-$nodes" "${grid[@]}" --workload uniform --runs 3
        bench "uniform-http2-$nodes" "${grid[@]}" --workload uniform --http2 --connections 8
        bench "uniform-batch-$nodes" "${grid[@]}" --workload uniform --batch 100 --connections 16
        bench "hot-$nodes" "${grid[@]}" --workload hot
        bench "cart-$nodes" "${grid[@]}" --workload cart
        bench "cart-batch-$nodes" "${grid[@]}" --workload cart --batch 100 --connections 16
        bench "lifecycle-$nodes" "${grid[@]}" --workload lifecycle
        bench "lifecycle-batch-$nodes" "${grid[@]}" --workload lifecycle --batch 100 --connections 16
        bench "flash-$nodes" "${grid[@]}" --workload flash
        bench "read-mix-$nodes" "${grid[@]}" --workload read-mix
        [ ! -e "$folder/each/uniform-$nodes.json" ] ||
            bench "open-$nodes" "${grid[@]}" --workload uniform --connections 256 --rate $(($(figure "uniform-$nodes" work_per_s) / 2 + 1))
    done
}

latency() {
    local nodes
    for nodes in 1 3; do
        local grid=(--nodes "$nodes" --shards 1)
        bench "peak-$nodes" "${grid[@]}" --duration 20s --warmup 5s --title "peak, nodes: $nodes"
        [ ! -e "$folder/each/peak-$nodes.json" ] ||
            bench "latency-$nodes" "${grid[@]}" --duration "${LATENCY:-10m}" --warmup 10s --connections 1024 \
                --rate $(($(figure "peak-$nodes" work_per_s) / 2 + 1)) --verify --title "half of the peak, nodes: $nodes"
    done
}

curves() {
    local timed=(--duration "${seconds}s" --warmup 2s) one=(--nodes 1 --shards 1) at
    for at in 1 2 4 8 16 32 64; do bench "shards-$at" --nodes 1 "${timed[@]}" --shards $at --title "shards: $at"; done
    for at in 1 3 5; do bench "nodes-$at" --nodes $at --shards 1 "${timed[@]}" --title "nodes: $at"; done
    for at in 1 100 10000 1000000; do bench "skus-$at" "${one[@]}" "${timed[@]}" --skus $at --title "SKUs: $at"; done
    for at in 1 3 10 30 100; do
        bench "lines-$at" "${one[@]}" "${timed[@]}" --workload cart --lines $at --batch 10 --connections 16 --title "lines: $at"
    done
    for at in 1 8 64 512 4096; do
        bench "connections-$at" "${one[@]}" "${timed[@]}" --connections $at --title "connections: $at"
    done
    for at in 1 10 100 1000; do
        bench "batch-$at" "${one[@]}" "${timed[@]}" --batch $at --connections 16 --title "orders a request: $at"
    done
    for at in 10000 100000 1000000 10000000; do
        bench "stored-$at" "${one[@]}" --total $at --batch 100 --connections 16 --title "orders stored: up to $at"
    done
}

day() {
    bench day --nodes 3 --shards 1 --workload lifecycle --lines 1-5 --batch 100 --connections 16 --total "${ORDERS:-20000000}" --verify \
        --title "a day: ${ORDERS:-20000000} orders"
}

case $set in
    standard | latency | curves | day) $set ;;
    long) latency && curves && day ;;
    *) echo "bench: $set is no set of benches" >&2; exit 2 ;;
esac
[ ${#files[@]} -gt 0 ] || { echo "bench: ONLY=${ONLY:-} leaves nothing to do" >&2; exit 2; }
"$program" bench --merge "${files[@]}" --out "$folder/report.html" --out "$folder/report.json"
echo "bench: $folder/report.html" >&2
