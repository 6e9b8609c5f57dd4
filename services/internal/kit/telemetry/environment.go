package telemetry

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// environment is what this package itself reads of OpenTelemetry's variables.
// They do not go through the configuration kit: their names and rules are a
// standard, the SDK reads most of them on its own, and an empty one is as good
// as none.
type environment struct {
	disabled        bool
	traces, metrics signal
	propagators     string
	sampler         bool // one is named
}

// signal says whether and how traces or metrics are sent.
type signal struct {
	name     string // TRACES or METRICS
	send     bool
	own      bool // the signal has an endpoint or a protocol of its own
	protocol string
	exporter string
}

func readEnv() environment {
	return environment{
		disabled:    strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"),
		traces:      readSignal("TRACES"),
		metrics:     readSignal("METRICS"),
		propagators: os.Getenv("OTEL_PROPAGATORS"),
		sampler:     os.Getenv("OTEL_TRACES_SAMPLER") != "",
	}
}

func readSignal(name string) signal {
	ownEndpoint := os.Getenv("OTEL_EXPORTER_OTLP_" + name + "_ENDPOINT")
	ownProtocol := os.Getenv("OTEL_EXPORTER_OTLP_" + name + "_PROTOCOL")
	s := signal{
		name:     name,
		own:      ownEndpoint != "" || ownProtocol != "",
		send:     ownEndpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "",
		protocol: first(ownProtocol, os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), protocolHTTP),
		exporter: first(os.Getenv("OTEL_"+name+"_EXPORTER"), "otlp"),
	}
	if s.exporter == "none" {
		s.send = false
	}
	return s
}

// check refuses what would silently lose the signal.
func (s signal) check() error {
	if s.exporter != "otlp" && s.exporter != "none" {
		return fmt.Errorf("telemetry: OTEL_%s_EXPORTER: %q is not supported, use otlp or none", s.name, s.exporter)
	}
	if s.send && s.protocol != protocolGRPC && s.protocol != protocolHTTP {
		return fmt.Errorf("telemetry: OTLP protocol of %s: %q is not supported, use %s or %s",
			strings.ToLower(s.name), s.protocol, protocolGRPC, protocolHTTP)
	}
	return nil
}

// traceExporter returns nil when traces are not sent.
func (e environment) traceExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if err := e.traces.check(); err != nil || !e.traces.send {
		return nil, err
	}
	var exporter sdktrace.SpanExporter
	var err error
	if e.traces.protocol == protocolGRPC {
		exporter, err = otlptracegrpc.New(ctx)
	} else {
		exporter, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: trace exporter: %w", err)
	}
	return exporter, nil
}

// metricExporter returns nil when metrics are not sent. Metrics go out by grpc
// only: they are at /metrics in any case, so a second protocol would add a
// dependency for little. Who asked for http/protobuf for everything gets a note;
// who asked for it for metrics gets an error.
func (e environment) metricExporter(ctx context.Context) (exporter sdkmetric.Exporter, note string, err error) {
	if err := e.metrics.check(); err != nil || !e.metrics.send {
		return nil, "", err
	}
	if e.metrics.protocol != protocolGRPC {
		hint := "metrics are sent by grpc only: set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc, or OTEL_METRICS_EXPORTER=none and scrape /metrics"
		if e.metrics.own {
			return nil, "", fmt.Errorf("telemetry: %s", hint)
		}
		return nil, hint, nil
	}
	exporter, err = otlpmetricgrpc.New(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("telemetry: metric exporter: %w", err)
	}
	return exporter, "", nil
}

// propagator follows OTEL_PROPAGATORS; what it does not know it notes.
func (e environment) propagator() (propagation.TextMapPropagator, []string) {
	if e.propagators == "" {
		return w3c(), nil
	}
	var chosen []propagation.TextMapPropagator
	var notes []string
	for name := range strings.SplitSeq(e.propagators, ",") {
		switch name = strings.TrimSpace(name); name {
		case "tracecontext":
			chosen = append(chosen, propagation.TraceContext{})
		case "baggage":
			chosen = append(chosen, propagation.Baggage{})
		case "none", "":
		default:
			notes = append(notes, fmt.Sprintf("OTEL_PROPAGATORS: %q is not supported and left out", name))
		}
	}
	return propagation.NewCompositeTextMapPropagator(chosen...), notes
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
