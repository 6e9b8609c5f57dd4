// Package telemetry owns how the suite is observed: traces and metrics by
// OpenTelemetry, and the admin server with health, metrics, version and, when it
// is switched on, profiles.
//
// Metrics are always kept in a Prometheus registry, which the admin server shows
// at /metrics. Traces, and a second copy of the metrics, are sent only when one
// of OpenTelemetry's own variables names an endpoint; see [Setup].
//
// The package sets no OpenTelemetry global and no default registry: providers
// are passed in, so that several services can live in one process. It never puts
// message texts, names, identifiers or tokens into a span or a label, and gives
// no helper to do so. It is called by the mains, the service packages and tests.
package telemetry
