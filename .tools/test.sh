#!/usr/bin/env bash
# Runs go test and closes with one line of counts, so that "no test ran" can't
# pass for success. Usage: test.sh GO-TEST-ARGUMENTS...
set -uo pipefail
cd "$(dirname "$0")/.."
args=("$@")
if ! command -v gcc >/dev/null && ! command -v clang >/dev/null; then
  echo "no C compiler found: running without the race detector, which needs one" >&2
  kept=()
  for a in "${args[@]}"; do [ "$a" = -race ] || kept+=("$a"); done
  args=("${kept[@]}")
else
  export CGO_ENABLED=1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -json "${args[@]}" >"$log" 2>&1
status=$?
go run ./services/internal/testsummary <"$log" || status=1
exit $status
