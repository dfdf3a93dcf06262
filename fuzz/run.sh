#!/bin/sh
# Runs one fuzz target: run.sh TARGET [SECONDS]. Further arguments go to the
# fuzzer, for example -jobs=2.
set -eu
cd "$(dirname "$0")"
target=$1
seconds=${2:-600}
shift
[ $# -eq 0 ] || shift

case $target in
decode_split | differential) seeds=corpus/cut ;;
decode_whole | round_trip | extract) seeds=corpus/wire ;;
kv_events) seeds=corpus/events ;;
*) seeds= ;;
esac

# The sanitizer's flags are not stable. Where there is no nightly compiler, the
# stable one can be told to accept them.
if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    toolchain=+nightly
else
    toolchain=
    RUSTC_BOOTSTRAP=1
    export RUSTC_BOOTSTRAP
fi

mkdir -p "corpus/$target"
# shellcheck disable=SC2086
exec cargo $toolchain fuzz run --fuzz-dir . "$target" "corpus/$target" $seeds -- \
    -max_total_time="$seconds" -max_len=1048576 -dict=resp.dict -timeout=20 -rss_limit_mb=2048 "$@"
