{{/* What each service is told, as the YAML file that CONFIG_FILE names; its keys are
those of deploy/docs/configuration.md in lower case. Secrets are names of files. */}}

{{- define "axpchat.dir" -}}/etc/axp-chat-connector{{- end -}}

{{/* NATS, for a service: {root, name, key}. */}}
{{- define "axpchat.config.nats" -}}
{{- $external := .root.Values.nats.external -}}
{{- $dir := include "axpchat.dir" .root -}}
nats_url: {{ include "axpchat.natsURL" .root | quote }}
nats_replicas: {{ .root.Values.nats.enabled | ternary 3 $external.streamReplicas }}
nats_manage_streams: false
{{- if eq (include "axpchat.natsTLS" .root) "true" }}
nats_ca_file: {{ $dir }}/tls-nats/ca.crt
{{- end }}
{{- if get (fromYaml (include "axpchat.natsCredentials" .root)) .key }}
nats_creds_file: {{ $dir }}/nats-credentials/nats.creds
nats_inbox_prefix: {{ printf "_INBOX_%s" .name }}
{{- else if eq (include "axpchat.natsTLS" .root) "true" }}
nats_cert_file: {{ $dir }}/tls-nats/tls.crt
nats_key_file: {{ $dir }}/tls-nats/tls.key
{{- end }}
{{- if has .name (list "gateway" "webhook-ingest") }}
{{- with .root.Values.nats.enabled | ternary "axpchat.api" $external.apiPrefix }}
nats_api_prefix: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "axpchat.natsTLS" -}}
{{- or .Values.nats.enabled .Values.nats.external.tls -}}
{{- end -}}

{{- define "axpchat.natsCredentials" -}}
{{- .Values.nats.enabled | ternary dict .Values.nats.external.credentials | toYaml -}}
{{- end -}}

{{- define "axpchat.config.provisioner" -}}
{{ include "axpchat.config.nats" (dict "root" . "name" "provisioner" "key" "provisioner") }}
{{- end -}}

{{- define "axpchat.config.gateway" -}}
{{- $dir := include "axpchat.dir" . -}}
{{ include "axpchat.config.nats" (dict "root" . "name" "gateway" "key" "gateway") }}
orchestrator_addr: dns:///{{ include "axpchat.orchestratorHost" . }}:8083
internal_tls: required
grpc_client_tls_ca_file: {{ $dir }}/tls-internal/ca.crt
grpc_client_tls_cert_file: {{ $dir }}/tls-internal/tls.crt
grpc_client_tls_key_file: {{ $dir }}/tls-internal/tls.key
shutdown_grace: {{ .Values.gateway.shutdownGraceSeconds }}s
shutdown_delay: {{ .Values.gateway.shutdownDelaySeconds }}s
{{- with .Values.auth }}
{{- with .jwksUrl }}
auth_jwks_url: {{ . | quote }}
{{- end }}
{{- if .existingSecret }}
auth_hs256_secret_file: {{ $dir }}/auth/hs256-secret
{{- end }}
{{- with .issuer }}
auth_issuer: {{ . | quote }}
{{- end }}
{{- with .audience }}
auth_audience: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .Values.gateway.tls.existingSecret }}
grpc_tls_cert_file: {{ $dir }}/tls-public/tls.crt
grpc_tls_key_file: {{ $dir }}/tls-public/tls.key
http_tls_cert_file: {{ $dir }}/tls-public/tls.crt
http_tls_key_file: {{ $dir }}/tls-public/tls.key
{{- end }}
{{- with .Values.gateway.tenants }}
tenants:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "axpchat.config.sessionOrchestrator" -}}
{{- $dir := include "axpchat.dir" . -}}
{{ include "axpchat.config.nats" (dict "root" . "name" "session-orchestrator" "key" "sessionOrchestrator") }}
internal_tls: required
grpc_tls_cert_file: {{ $dir }}/tls-internal/tls.crt
grpc_tls_key_file: {{ $dir }}/tls-internal/tls.key
grpc_tls_client_ca_file: {{ $dir }}/tls-internal/ca.crt
orchestrator_allowed_clients: gateway
# A gateway looks for new replicas when a connection ends.
grpc_max_connection_age: 5m
shutdown_grace: {{ .Values.sessionOrchestrator.shutdownGraceSeconds }}s
webhook_public_url: {{ .Values.webhook.publicUrl | quote }}
{{ include "axpchat.config.webhookSecrets" . }}
{{- with .Values.axp.baseUrl }}
axp_base_url: {{ . | quote }}
{{- end }}
accounts:
{{- range .Values.axp.accounts }}
  -
{{ toYaml . | indent 4 }}
    client_secret_file: {{ $dir }}/axp/{{ .account_id }}.client-secret
    app_key_file: {{ $dir }}/axp/{{ .account_id }}.app-key
{{- end }}
{{- with .Values.axp.idleRules }}
idle_rules:
{{ toYaml . | indent 2 }}
{{- end }}
{{- if .Values.operator.existingSecret }}
operator_token_file: {{ $dir }}/operator/token
{{- end }}
{{- end -}}

{{- define "axpchat.config.webhookIngest" -}}
{{- $dir := include "axpchat.dir" . -}}
{{ include "axpchat.config.nats" (dict "root" . "name" "webhook-ingest" "key" "webhookIngest") }}
shutdown_grace: {{ .Values.webhookIngest.shutdownGraceSeconds }}s
shutdown_delay: {{ .Values.webhookIngest.shutdownDelaySeconds }}s
{{ include "axpchat.config.webhookSecrets" . }}
{{- with .Values.webhook.signature }}
{{- if .existingSecret }}
webhook_signature_header: {{ .header | quote }}
webhook_signature_secret_file: {{ $dir }}/webhook-signature/secret
{{- end }}
{{- end }}
{{- with .Values.webhookIngest.tls }}
{{- if .existingSecret }}
webhook_tls_cert_file: {{ $dir }}/tls-public/tls.crt
webhook_tls_key_file: {{ $dir }}/tls-public/tls.key
{{- if .clients }}
webhook_tls_client_ca_file: {{ $dir }}/tls-public/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "axpchat.config.webhookSecrets" -}}
webhook_secret_file: {{ include "axpchat.dir" . }}/webhook/secret
{{- if .Values.webhook.previousSecretKey }}
webhook_secret_previous_file: {{ include "axpchat.dir" . }}/webhook/secret-previous
{{- end }}
{{- end -}}

{{/* The whole file: {root, key}. What the chart says wins over values, which the
schema keeps from naming the same. */}}
{{- define "axpchat.config" -}}
{{- $own := include (printf "axpchat.config.%s" .key) .root | fromYaml -}}
{{- if hasKey $own "Error" }}{{ fail (printf "configuration of %s: %s" .key $own.Error) }}{{ end -}}
{{- $service := get .root.Values .key -}}
{{- $all := mergeOverwrite dict .root.Values.config ($service.config | default dict) $own -}}
{{- range $key := keys $all | sortAlpha }}
{{- $value := get $all $key }}
{{- /* Numbers of values are floats, and large ones would be written as 1e+06. */}}
{{- if and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value) }}{{ $value = int64 $value }}{{ end }}
{{ $key }}: {{ $value | toJson }}
{{- end }}
{{- end -}}

{{/* What services take over while they run, so that a change of it needs no rollout;
a test compares it with their own list. */}}
{{- define "axpchat.reloaded" -}}
- http_allowed_origins
- tenants
- axp_base_url
- accounts
- idle_timeout
- idle_grace_period
- session_ttl
- idle_agent_extends
- idle_rules
- webhook_accounts
{{- end -}}

{{/* A checksum of what needs a rollout: {root, key}. */}}
{{- define "axpchat.configChecksum" -}}
{{- $config := include "axpchat.config" . | fromYaml -}}
{{- range include "axpchat.reloaded" .root | fromYamlArray -}}
{{- $_ := unset $config . -}}
{{- end -}}
{{- $config | toJson | sha256sum -}}
{{- end -}}
