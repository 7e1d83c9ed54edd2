#!/usr/bin/env bash
# Instructions that the machine spends on each kind of work, counted by callgrind: the same on a busy machine as on an idle
# one, so that a change of a per cent can be told.
#
#   tests/instructions.sh [WORK...]     all by default
#
# A line for each: instructions per order, hold or changed order of a checkpoint, without the making of the entry. Orders that
# cross (`cross-LINES`, over two shards or `-of-4`) are counted with it, on all shards together; `cross-stored` has a checkpoint
# after every hundred, `cross-pay` pays orders of three lines.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "instructions: valgrind is not installed: apt-get install valgrind" >&2; exit 1; }
# The executable, as cargo names it.
program=$(cargo bench -q --locked -p ordergrid-domain --bench instructions --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*instructions-[^"]*\)".*/\1/p' | tail -n 1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# count WORK ENTRIES: instructions of the whole program.
count() {
    valgrind --tool=callgrind --callgrind-out-file="$folder/out" "$program" "$1" "$2" 2>"$folder/said" ||
        { cat "$folder/said" >&2; exit 1; }
    sed -n 's/^.*Collected : \([0-9]*\).*/\1/p' "$folder/said"
}

# each WORK: instructions per command, from the difference of a long run and a short one.
each() { echo $((($(count "$1" 60) - $(count "$1" 10)) / 5000)); }

# The entries of these are made on the way; what that takes is taken off.
making() {
    case $1 in
        place-1 | checkpoint) echo make-1 ;;
        place-3) echo make-3 ;;
        hold) echo make-hold ;;
    esac
}

[ $# -gt 0 ] || set -- place-1 place-3 lives hold cross-1 cross-3 cross-1-of-4 cross-3-of-4 cross-pay cross-stored encode decode checkpoint
printf '%-12s %s\n' WORK INSTRUCTIONS
for work in "$@"; do
    made=$(making "$work")
    own=$(each "$work")
    [ -z "$made" ] || own=$((own - $(each "$made")))
    printf '%-12s %12d\n' "$work" "$own"
done
