{{/* What the schema can't say, all mistakes at once. */}}
{{- define "axpchat.validate" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.axp.accounts }}{{ $wrong = append $wrong "axp.accounts: list at least one account" }}{{ end -}}
{{- if not $v.axp.existingSecret }}{{ $wrong = append $wrong "axp.existingSecret: name a Secret with <account>.client-secret and <account>.app-key" }}{{ end -}}
{{- range $i, $a := $v.axp.accounts -}}
{{- if not (or $a.base_url $v.axp.baseUrl) }}{{ $wrong = append $wrong (printf "axp.accounts[%d].base_url: is needed where axp.baseUrl is empty" $i) }}{{ end -}}
{{- end -}}
{{- if not $v.webhook.publicUrl }}{{ $wrong = append $wrong "webhook.publicUrl: where does AXP reach webhook-ingest?" }}{{ end -}}
{{- if not $v.webhook.existingSecret }}{{ $wrong = append $wrong "webhook.existingSecret: name a Secret with WEBHOOK_SECRET" }}{{ end -}}
{{- if ne (empty $v.webhook.signature.header) (empty $v.webhook.signature.existingSecret) }}{{ $wrong = append $wrong "webhook.signature: header and existingSecret belong together" }}{{ end -}}
{{- if eq (empty $v.auth.jwksUrl) (empty $v.auth.existingSecret) }}{{ $wrong = append $wrong "auth: set either jwksUrl or existingSecret" }}{{ end -}}
{{- if and $v.webhookIngest.tls.clients (not $v.webhookIngest.tls.existingSecret) }}{{ $wrong = append $wrong "webhookIngest.tls.clients: needs webhookIngest.tls.existingSecret" }}{{ end -}}
{{- if $v.nats.enabled -}}
{{- if not $v.nats.storeKey.existingSecret }}
{{- $wrong = append $wrong "nats.storeKey.existingSecret: name a Secret with the key that data is encrypted with, and keep a copy of it: kubectl create secret generic nats-store-key --from-literal=key=\"k$(openssl rand -hex 32)\"" }}
{{- end -}}
{{- else if not $v.nats.external.url }}{{ $wrong = append $wrong "nats.external.url: is needed where nats.enabled is false" }}{{ end -}}
{{- if not $v.certificates.certManager.enabled -}}
{{- range include "axpchat.neededCertificates" . | fromYamlArray -}}
{{- if not (get $v.certificates.existingSecrets .) }}{{ $wrong = append $wrong (printf "certificates.existingSecrets.%s: name a Secret, or let cert-manager make it (certificates.certManager.enabled)" .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $s := list $v.gateway $v.webhookIngest -}}
{{- if ge (int $s.shutdownDelaySeconds) (int $s.shutdownGraceSeconds) }}{{ $wrong = append $wrong "shutdownDelaySeconds: must be less than shutdownGraceSeconds, which it is part of" }}{{ end -}}
{{- end -}}
{{- range $key := list "gateway" "sessionOrchestrator" "webhookIngest" "provisioner" -}}
{{- with dig "limits" "memory" "" (get $v $key).resources -}}
{{- if lt (include "axpchat.bytes" . | int64) 268435456 }}{{ $wrong = append $wrong (printf "%s.resources.limits.memory: must be at least 256Mi, or be left out" $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if and (not $v.nats.enabled) $v.nats.external.tls $v.certificates.certManager.enabled (not $v.certificates.certManager.issuers.nats) (not $v.certificates.existingSecrets.natsGateway) }}{{ $wrong = append $wrong "certificates.certManager.issuers.nats: which issuer does the external NATS trust?" }}{{ end -}}
{{- $partitions := $v.config.outbox_partitions | default 16 | int -}}
{{- with $v.sessionOrchestrator -}}
{{- if gt (.autoscaling.enabled | ternary .autoscaling.maxReplicas .replicaCount | int) $partitions }}{{ $wrong = append $wrong "sessionOrchestrator: more replicas than partitions of the outbox (config.outbox_partitions) would have nothing to do" }}{{ end -}}
{{- end -}}
{{- if $wrong }}{{ fail (printf "\n\n- %s\n" (join "\n- " $wrong)) }}{{ end -}}
{{- end -}}

{{/* Keys of certificates.existingSecrets that are used. */}}
{{- define "axpchat.neededCertificates" -}}
- sessionOrchestrator
- gateway
{{- if .Values.nats.enabled }}
- natsServer
- natsRoutes
{{- end }}
{{- if eq (include "axpchat.natsTLS" .) "true" }}
- natsProvisioner
- natsSessionOrchestrator
- natsGateway
- natsWebhookIngest
{{- end }}
{{- end -}}
