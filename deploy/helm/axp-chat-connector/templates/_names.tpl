{{- define "axpchat.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "axpchat.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "axpchat.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "axpchat.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The three services: their key in values, their name, which is also the
container's and the image's, and what they listen on. */}}
{{- define "axpchat.services" -}}
- {key: gateway, name: gateway, admin: 9080, ports: [{name: grpc, port: 8080}, {name: http, port: 8081}]}
- {key: sessionOrchestrator, name: session-orchestrator, admin: 9083, ports: [{name: grpc, port: 8083}]}
- {key: webhookIngest, name: webhook-ingest, admin: 9082, ports: [{name: http, port: 8082}]}
{{- end -}}

{{/* Arguments of the following: {root, component}. */}}
{{- define "axpchat.selector" -}}
app.kubernetes.io/name: {{ include "axpchat.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "axpchat.labels" -}}
{{ include "axpchat.selector" . }}
app.kubernetes.io/part-of: axp-chat-connector
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "axpchat.componentName" -}}
{{ include "axpchat.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* Image of a service of the suite: {root, name, values}. */}}
{{- define "axpchat.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{- with $image.repository }}{{ . }}/{{ end -}}
{{- .values.name | default .name -}}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- with .values.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Image of somebody else: its values. */}}
{{- define "axpchat.foreignImage" -}}
{{- with .registry }}{{ . }}/{{ end -}}
{{- .repository }}:{{ .tag }}
{{- with .digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* A quantity such as 512Mi in bytes. */}}
{{- define "axpchat.bytes" -}}
{{- $q := . | toString -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" $q -}}
{{- $unit := trimPrefix $number $q -}}
{{- $factors := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if or (eq $number "") (not (hasKey $factors $unit)) -}}
{{- fail (printf "%q is not a quantity such as 512Mi" $q) -}}
{{- end -}}
{{- mulf (float64 $number) (get $factors $unit) | int64 -}}
{{- end -}}

{{- define "axpchat.natsHosts" -}}
{{- $root := . -}}
{{- range $i := until (int .Values.nats.replicaCount) }}
- {{ include "axpchat.fullname" $root }}-nats-{{ $i }}.{{ include "axpchat.fullname" $root }}-nats.{{ $root.Release.Namespace }}.svc
{{- end }}
{{- end -}}

{{- define "axpchat.natsURL" -}}
{{- if .Values.nats.enabled -}}
{{- $urls := list -}}
{{- range include "axpchat.natsHosts" . | fromYamlArray -}}
{{- $urls = append $urls (printf "nats://%s:4222" .) -}}
{{- end -}}
{{- join "," $urls -}}
{{- else -}}
{{- .Values.nats.external.url -}}
{{- end -}}
{{- end -}}

{{- define "axpchat.orchestratorHost" -}}
{{ include "axpchat.fullname" . }}-session-orchestrator.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* The Secret of a certificate: {root, key, name}, the key being that of
certificates.existingSecrets. */}}
{{- define "axpchat.certificateSecret" -}}
{{- $named := get .root.Values.certificates.existingSecrets .key -}}
{{- $named | default (printf "%s-%s-tls" (include "axpchat.fullname" .root) (kebabcase .key)) -}}
{{- end -}}
