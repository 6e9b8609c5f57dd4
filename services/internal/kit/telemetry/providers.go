package telemetry

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Config is the part of a service's configuration that concerns its admin
// server. The address is the service's own setting, since each has its default.
type Config struct {
	Pprof bool `env:"ADMIN_PPROF" default:"false" doc:"Serve profiles under /debug/pprof on the admin address."`
}

// Providers is what instrumented code gets. Its fields must not change after
// [Setup]; all of them are safe for concurrent use.
type Providers struct {
	// Service and Version are what traces and /version call the process.
	Service, Version string
	// Tracer and Meter make tracers and meters; neither is ever nil.
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
	// Propagator reads and writes the trace context of requests and messages.
	Propagator propagation.TextMapPropagator
	// Registry holds every metric; collectors that do not go through Meter may
	// be registered with it.
	Registry *prometheus.Registry
	// Notes are remarks about the settings that do not keep the service from
	// running. The main logs them as warnings.
	Notes []string

	shutdown []func(context.Context) error
}

// Setup reads OpenTelemetry's variables and returns the providers of a process.
//
// Understood by this package: OTEL_SDK_DISABLED, OTEL_EXPORTER_OTLP_ENDPOINT,
// OTEL_EXPORTER_OTLP_PROTOCOL (grpc or http/protobuf, the default) and both with
// TRACES_ or METRICS_ before the last word, OTEL_TRACES_EXPORTER and
// OTEL_METRICS_EXPORTER (otlp or none), OTEL_PROPAGATORS (tracecontext, baggage,
// none). All others, such as OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
// OTEL_TRACES_SAMPLER or the exporters' headers and certificates, are read by
// the SDK. Without an endpoint nothing is sent. When the SDK is disabled there
// are no spans, and of the metrics only those of the Go runtime and the process.
//
// The caller calls Shutdown at the end, when nothing records any more.
func Setup(ctx context.Context, service, version string) (*Providers, error) {
	env := readEnv()
	p := Nop()
	p.Service, p.Version = service, version
	p.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	p.Propagator, p.Notes = env.propagator()
	if env.disabled {
		return p, nil
	}
	res, err := resource.New(ctx,
		// The later detector wins: OTEL_SERVICE_NAME over the name given here.
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: resource: %w", err)
	}
	if err := p.setupTraces(ctx, env, res); err != nil {
		return nil, errors.Join(err, p.Shutdown(ctx))
	}
	if err := p.setupMetrics(ctx, env, res); err != nil {
		return nil, errors.Join(err, p.Shutdown(ctx))
	}
	return p, nil
}

// setupTraces makes a provider even when nothing is sent: the ids of its spans
// go to other services and into the logs. Whoever names a sampler has its decision
// passed on to them by the SDK.
func (p *Providers) setupTraces(ctx context.Context, env environment, res *resource.Resource) error {
	exporter, err := env.traceExporter(ctx)
	if err != nil {
		return err
	}
	if exporter == nil && !env.sampler {
		p.Tracer = unsent{}
		return nil
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	if exporter != nil {
		opts = append(opts, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	p.Tracer = provider
	p.shutdown = append(p.shutdown, provider.Shutdown)
	return nil
}

func (p *Providers) setupMetrics(ctx context.Context, env environment, res *resource.Resource) error {
	reader, err := otelprom.New(otelprom.WithRegisterer(p.Registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("telemetry: prometheus: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader)}
	exporter, note, err := env.metricExporter(ctx)
	if err != nil {
		return err
	}
	if note != "" {
		p.Notes = append(p.Notes, note)
	}
	if exporter != nil {
		opts = append(opts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	}
	provider := sdkmetric.NewMeterProvider(opts...)
	p.Meter = provider
	p.shutdown = append(p.shutdown, provider.Shutdown)
	return nil
}

// Nop returns providers that record nothing, with an empty registry and the W3C
// propagators, for tests and tools.
func Nop() *Providers {
	return &Providers{
		Service:    "nop",
		Version:    "none",
		Tracer:     tracenoop.NewTracerProvider(),
		Meter:      metricnoop.NewMeterProvider(),
		Propagator: w3c(),
		Registry:   prometheus.NewRegistry(),
	}
}

// Shutdown sends what is left and ends the exporters. It gives up when ctx is
// done. Only the first call does something; it must not run concurrently with
// another.
func (p *Providers) Shutdown(ctx context.Context) error {
	var errs []error
	for _, end := range p.shutdown {
		errs = append(errs, end(ctx))
	}
	p.shutdown = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("telemetry: shutdown: %w", err)
	}
	return nil
}

func w3c() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}
