#!/usr/bin/env bash
# Lists what the production commands are linked of, with licences, and fails where
# one is not among those that are fine for a product. Usage: licences.sh FILE
set -euo pipefail
cd "$(dirname "$0")/../services"
out=$1
allowed=Apache-2.0,BSD-2-Clause,BSD-3-Clause,ISC,MIT
commands=(./gateway/cmd/gateway ./session-orchestrator/cmd/session-orchestrator ./webhook-ingest/cmd/webhook-ingest ./connector/cmd/connector)
# What images are made for. Without GOROOT it would find nothing, and no fault.
GOROOT=$(go env GOROOT)
export GOROOT GOOS=linux GOARCH=amd64 GOWORK=off CGO_ENABLED=0
template=$(mktemp) list=$(mktemp)
trap 'rm -f "$template" "$list"' EXIT
printf '{{range .}}{{.Name}}\t{{.Version}}\t{{.LicenseName}}\n{{end}}' > "$template"
go-licenses check "${commands[@]}" --ignore github.com/axpchat/connector --allowed_licenses="$allowed" 2>/dev/null ||
  { echo "licences: not all are among $allowed" >&2; go-licenses check "${commands[@]}" --ignore github.com/axpchat/connector --allowed_licenses="$allowed" >&2; exit 1; }
# Its warnings are of addresses that it looks up and that are not shown here.
go-licenses report "${commands[@]}" --ignore github.com/axpchat/connector --template "$template" 2>/dev/null | sed '/^$/d' > "$list"
[ "$(wc -l < "$list")" -gt 20 ] || { echo 'licences: the list is too short to be true' >&2; exit 1; }
{
  echo '# Licences'
  echo
  echo 'Made by `make licences`; do not edit. What the production commands (connector, gateway,'
  echo 'session-orchestrator, webhook-ingest) are linked of, beside the Go standard library (BSD-3-Clause).'
  echo 'Where a module has several licences, they are of its parts.'
  echo
  echo '| package | version | licences |'
  echo '| --- | --- | --- |'
  LC_ALL=C sort -u "$list" | awk -F'\t' '
    $1 "\t" $2 != last { if (last != "") print "| `" name "` | " version " | " licences " |"; last = $1 "\t" $2; name = $1; version = $2; licences = $3; next }
    { licences = licences ", " $3 }
    END { print "| `" name "` | " version " | " licences " |" }'
} > "$out"
