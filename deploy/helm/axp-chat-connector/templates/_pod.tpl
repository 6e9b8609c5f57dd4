{{/* What every pod of the chart has; it meets the pod security standard "restricted". */}}
{{- define "axpchat.podSecurity" -}}
automountServiceAccountToken: false
# Variables such as NATS_PORT would be taken for settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "axpchat.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Nine tenths of the memory limit, so that the collector works before the kernel
does: {resources}. */}}
{{- define "axpchat.memoryLimit" -}}
{{- with .resources.limits }}{{- with .memory }}
- name: GOMEMLIMIT
  value: {{ printf "%dB" (div (mul (include "axpchat.bytes" . | int64) 9) 10) | quote }}
{{- end }}{{- end }}
{{- end -}}

{{/* Secrets that a service has: a list of {volume, secret, items}. Arguments:
{root, key}. They are mounted as folders: a file mounted alone (subPath) would never
change. */}}
{{- define "axpchat.secrets" -}}
{{- $v := .root.Values -}}
{{- $tls := "[{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}, {key: ca.crt, path: ca.crt}]" -}}
{{- $pair := "[{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]" -}}
{{- $credentials := fromYaml (include "axpchat.natsCredentials" .root) -}}
{{- with get $credentials .key }}
- {volume: nats-credentials, secret: {{ . }}, items: [{key: nats.creds, path: nats.creds}]}
{{- if eq (include "axpchat.natsTLS" $.root) "true" }}
- {volume: tls-nats, secret: {{ include "axpchat.natsClientSecret" $ }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- else }}
{{- if eq (include "axpchat.natsTLS" .root) "true" }}
- {volume: tls-nats, secret: {{ include "axpchat.natsClientSecret" . }}, items: {{ $tls }}}
{{- end }}
{{- end }}
{{- if eq .key "gateway" }}
- {volume: tls-internal, secret: {{ include "axpchat.certificateSecret" (dict "root" .root "key" "gateway") }}, items: {{ $tls }}}
{{- with $v.auth.existingSecret }}
- {volume: auth, secret: {{ . }}, items: [{key: {{ $v.auth.secretKey }}, path: hs256-secret}]}
{{- end }}
{{- with $v.gateway.tls.existingSecret }}
- {volume: tls-public, secret: {{ . }}, items: {{ $pair }}}
{{- end }}
{{- end }}
{{- if eq .key "sessionOrchestrator" }}
- {volume: tls-internal, secret: {{ include "axpchat.certificateSecret" (dict "root" .root "key" "sessionOrchestrator") }}, items: {{ $tls }}}
- {volume: axp, secret: {{ $v.axp.existingSecret }}}
{{- with $v.operator.existingSecret }}
- {volume: operator, secret: {{ . }}, items: [{key: {{ $v.operator.tokenKey }}, path: token}]}
{{- end }}
{{- end }}
{{- if has .key (list "sessionOrchestrator" "webhookIngest") }}
- volume: webhook
  secret: {{ $v.webhook.existingSecret }}
  items:
    - {key: {{ $v.webhook.secretKey }}, path: secret}
{{- with $v.webhook.previousSecretKey }}
    - {key: {{ . }}, path: secret-previous}
{{- end }}
{{- end }}
{{- if eq .key "webhookIngest" }}
{{- with $v.webhook.signature.existingSecret }}
- {volume: webhook-signature, secret: {{ . }}, items: [{key: {{ $v.webhook.signature.secretKey }}, path: secret}]}
{{- end }}
{{- with $v.webhookIngest.tls.existingSecret }}
- {volume: tls-public, secret: {{ . }}, items: {{ $v.webhookIngest.tls.clients | ternary $tls $pair }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "axpchat.natsClientSecret" -}}
{{- include "axpchat.certificateSecret" (dict "root" .root "key" (printf "nats%s" (title .key | replace " " ""))) -}}
{{- end -}}

{{/* Volumes, and where they are mounted: {root, key, component}. */}}
{{- define "axpchat.volumes" -}}
- name: config
  configMap:
    name: {{ include "axpchat.componentName" . }}
{{- range include "axpchat.secrets" . | fromYamlArray }}
- name: {{ .volume }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- with .items }}
    items: {{ toJson . }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "axpchat.mounts" -}}
- {name: config, mountPath: {{ include "axpchat.dir" .root }}/config, readOnly: true}
{{- range include "axpchat.secrets" . | fromYamlArray }}
- {name: {{ .volume }}, mountPath: {{ include "axpchat.dir" $.root }}/{{ .volume }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* A pod of `session-orchestrator provision`: {root}. */}}
{{- define "axpchat.provisionPod" -}}
{{- $args := dict "root" .root "key" "provisioner" "component" "provisioner" -}}
restartPolicy: OnFailure
serviceAccountName: {{ include "axpchat.componentName" $args }}
{{ include "axpchat.podSecurity" .root }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: provisioner
    image: {{ include "axpchat.image" (dict "root" .root "name" "session-orchestrator" "values" .root.Values.sessionOrchestrator.image) }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: [provision]
    env:
      - {name: CONFIG_FILE, value: {{ include "axpchat.dir" .root }}/config/config.yaml}
      {{- include "axpchat.memoryLimit" .root.Values.provisioner | nindent 6 }}
    {{- include "axpchat.containerSecurity" .root | nindent 4 }}
    resources: {{ toYaml .root.Values.provisioner.resources | nindent 6 }}
    volumeMounts: {{ include "axpchat.mounts" $args | nindent 6 }}
volumes: {{ include "axpchat.volumes" $args | nindent 2 }}
{{- end -}}

{{/* Spread over nodes and zones, where that can be: {root, component, constraints, hash}. */}}
{{- define "axpchat.spread" -}}
{{- if .constraints }}
{{ toYaml .constraints }}
{{- else }}
{{- range $topology := .topologies }}
- maxSkew: 1
  topologyKey: {{ $topology }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{ include "axpchat.selector" $ | nindent 6 }}
  {{- if $.hash }}
  # Of each revision, so that the old pods do not push the new ones together.
  matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
