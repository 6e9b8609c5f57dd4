#!/usr/bin/env bash
# Checks the Helm chart: lint, rendering with several sets of values, comparison with
# Kubernetes' own schemas, and the tests that run what it renders.
set -euo pipefail
cd "$(dirname "$0")/.."
chart=deploy/helm/axp-chat-connector
modules=.tools/kubeconform/modules.txt
schemas=.bin/kubeschemas.d
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

quiet() { # helm tells of each symbolic link; files/ has two, on purpose
  "$@" 2> >(grep -v 'found symbolic link in path' >&2)
}

if ! cmp -s "$modules" "$schemas/modules.txt"; then
  rm -rf "$schemas"
  kubeschemas "$modules" "$schemas"
  cp "$modules" "$schemas/modules.txt"
fi
for values in "$chart"/ci/*-values.yaml; do
  name=$(basename "$values" -values.yaml)
  quiet helm lint --quiet --strict "$chart" -f "$values"
  quiet helm template chat "$chart" -n customers -f "$values" >"$rendered/$name.yaml"
  echo "$name: $(kubeconform -strict -summary -schema-location "$schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" "$rendered/$name.yaml")"
done
# The check must be able to fail.
sed 's/^  replicas: /  replicaz: /' "$rendered/secrets.yaml" >"$rendered/wrong.yaml"
if kubeconform -strict -schema-location "$schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" "$rendered/wrong.yaml" >/dev/null; then
  echo 'an unknown field was not noticed'
  exit 1
fi
CHART_HELM=$PWD/.bin/helm ./.tools/test.sh -count=1 -timeout=10m ./services/e2e/chart
