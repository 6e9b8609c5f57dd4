{{/* The names that each certificate must have: {key, authority, names, usages}. With
the one for NATS, a client's name is the user that it is (deploy/nats). */}}
{{- define "axpchat.certificates" -}}
{{- $nats := printf "%s-nats.%s.svc" (include "axpchat.fullname" .) .Release.Namespace -}}
- {key: natsServer, authority: nats, names: ["*.{{ $nats }}"], usages: [server auth]}
- {key: natsRoutes, authority: natsRoutes, names: ["*.{{ $nats }}"], usages: [server auth, client auth]}
- {key: natsProvisioner, authority: nats, names: [provisioner.nats.axpchat], usages: [client auth]}
- {key: natsSessionOrchestrator, authority: nats, names: [session-orchestrator.nats.axpchat], usages: [client auth]}
- {key: natsGateway, authority: nats, names: [gateway.nats.axpchat], usages: [client auth]}
- {key: natsWebhookIngest, authority: nats, names: [webhook-ingest.nats.axpchat], usages: [client auth]}
- {key: sessionOrchestrator, authority: services, names: ["{{ include "axpchat.orchestratorHost" . }}"], usages: [server auth]}
- {key: gateway, authority: services, names: [gateway], usages: [client auth]}
{{- end -}}
