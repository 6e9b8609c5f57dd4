package privacy

import (
	"context"
	"maps"
	"net"
	"sync"
	"testing"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// collector takes spans and metrics by OTLP, as a company's own would, and keeps
// the text of all of it.
type collector struct {
	tracepb.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans map[string]int // by name
	text  []byte
}

// metricsService is apart: both services have a method Export.
type metricsService struct {
	metricspb.UnimplementedMetricsServiceServer
	c *collector
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: map[string]int{}}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.addr = l.Addr().String()
	server := grpc.NewServer()
	tracepb.RegisterTraceServiceServer(server, c)
	metricspb.RegisterMetricsServiceServer(server, metricsService{c: c})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements the trace service.
func (c *collector) Export(_ context.Context, in *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	for _, rs := range in.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans[s.GetName()]++
			}
		}
	}
	c.mu.Unlock()
	return &tracepb.ExportTraceServiceResponse{}, c.keep(in)
}

// Export implements the metrics service.
func (m metricsService) Export(_ context.Context, in *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	return &metricspb.ExportMetricsServiceResponse{}, m.c.keep(in)
}

// keep writes down names, attributes, events, links, states: the whole message.
func (c *collector) keep(m proto.Message) error {
	text, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	raw, err := proto.Marshal(m) // bytes are base64 in JSON
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(append(append(c.text, text...), raw...), '\n')
	return nil
}

// all is what was collected, and how many spans of each name there are.
func (c *collector) all() (string, map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text), maps.Clone(c.spans)
}
