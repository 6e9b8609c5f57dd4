#!/usr/bin/env bash
# Writes what is made from code: the configuration reference of each command, the
# catalogue of errors, the table of close codes, and the settings in the schema of
# the Helm chart's values.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p deploy/docs
{
  echo '# Configuration reference'
  echo
  echo 'Made by `make generate` from the configuration structs; do not edit.'
  echo
  echo 'Settings are environment variables, over a YAML file named by `CONFIG_FILE` whose keys are the'
  echo 'same names in lower case. A secret may be given as a file: the name with `_FILE` behind it.'
  echo 'Unknown keys in the file, missing values and wrong values are errors that name the key.'
  echo '`COMMAND config check` finds them, `COMMAND config print` shows the result with secrets masked.'
  for c in connector/cmd/connector gateway/cmd/gateway session-orchestrator/cmd/session-orchestrator webhook-ingest/cmd/webhook-ingest axp-sandbox/cmd/axp-sandbox; do
    echo
    go run "./services/$c" config doc
  done
} > deploy/docs/configuration.md
go run ./services/internal/kit/errs/cmd/errordoc > deploy/docs/errors.md
go run ./services/gateway/internal/stream/cmd/closedoc > deploy/docs/closes.md
go test -count=1 -run=TestTheSchemaKnowsTheServicesSettings ./services/e2e/chart -update >/dev/null
