#!/usr/bin/env bash
# Compares the protos with those of a git ref: buf breaking, with the
# git-ignored third-party protos laid over the ref's own.
set -euo pipefail
ref=${1:?usage: breaking.sh REF}
root=$(git rev-parse --show-toplevel)
cd "$root"
if ! git cat-file -e "$ref:buf.yaml" 2>/dev/null; then
  echo "buf breaking: $ref has no protos yet, nothing to compare"
  exit 0
fi
base=$(mktemp -d)
trap 'rm -rf "$base"' EXIT
git archive "$ref" buf.yaml proto | tar -x -C "$base"
cp -r third_party "$base/third_party"
(cd "$base" && buf build proto -o base.binpb)
buf breaking proto --against "$base/base.binpb"
