#!/usr/bin/env bash
# Runs every fuzz target for a while. Usage: fuzz.sh DURATION
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rl --include='*_test.go' '^func Fuzz' services | while read -r file; do
  dir=$(dirname "$file")
  grep -ho '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r target; do
    echo "== $dir $target"
    # By default an input of real sockets, which takes other ways each time, is
    # minimised for a minute, in which nothing else is tried.
    go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x
  done
done
