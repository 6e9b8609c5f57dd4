package grpcx_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

type both struct {
	Server grpcx.ServerConfig
	Client grpcx.ClientConfig
}

func TestConfigDefaults(t *testing.T) {
	var got both
	if err := config.Load(&got, config.Map(nil)); err != nil {
		t.Fatal(err)
	}
	want := both{
		Server: grpcx.ServerConfig{
			MaxRecvBytes: 256 << 10, MaxConcurrentStreams: 1000, KeepaliveTime: 20 * time.Second, KeepaliveTimeout: 10 * time.Second,
			KeepaliveMinTime: 10 * time.Second, MaxConnectionAgeGrace: 30 * time.Second,
			MaxConnectionIdle: 5 * time.Minute, HandshakeTimeout: 10 * time.Second, MessageTimeout: 15 * time.Second,
		},
		Client: grpcx.ClientConfig{MaxRecvBytes: 4 << 20, KeepaliveTime: 30 * time.Second, KeepaliveTimeout: 10 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, both{Server: grpcx.WithServerDefaults(grpcx.ServerConfig{}), Client: grpcx.WithClientDefaults(grpcx.ClientConfig{})}); diff != "" {
		t.Errorf("zero values stand for other defaults: %s", diff)
	}
}

func TestConfigMistakes(t *testing.T) {
	cases := []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"negative times", map[string]string{"GRPC_KEEPALIVE_TIME": "-1s", "GRPC_CLIENT_KEEPALIVE_TIMEOUT": "-1s"}, []string{"GRPC_KEEPALIVE_TIME", "GRPC_CLIENT_KEEPALIVE_TIMEOUT"}},
		{"messages beyond the protocol", map[string]string{"GRPC_MAX_RECV_BYTES": "2GiB", "GRPC_CLIENT_MAX_RECV_BYTES": "3GiB"}, []string{"GRPC_MAX_RECV_BYTES", "GRPC_CLIENT_MAX_RECV_BYTES"}},
		{"a certificate without its key", map[string]string{"GRPC_TLS_CERT_FILE": "c"}, []string{"GRPC_TLS_KEY_FILE"}},
		{"a key without its certificate", map[string]string{"GRPC_TLS_KEY_FILE": "k"}, []string{"GRPC_TLS_CERT_FILE"}},
		{"authorities of clients without TLS", map[string]string{"GRPC_TLS_CLIENT_CA_FILE": "c"}, []string{"GRPC_TLS_CLIENT_CA_FILE"}},
		{"a client's certificate without TLS", map[string]string{"GRPC_CLIENT_TLS_CERT_FILE": "c", "GRPC_CLIENT_TLS_KEY_FILE": "k"}, []string{"GRPC_CLIENT_TLS_CERT_FILE"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var mistakes config.Errors
			if err := config.Load(&both{}, config.Map(c.env)); !errors.As(err, &mistakes) {
				t.Fatalf("got %v", err)
			}
			var keys []string
			for _, m := range mistakes {
				keys = append(keys, m.Key)
			}
			if diff := cmp.Diff(c.want, keys); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTLSBetweenServicesIsOffOnlyByChoice(t *testing.T) {
	server := grpcx.ServerConfig{CertFile: "c", KeyFile: "k", ClientCAFile: "a"}
	client := grpcx.ClientConfig{CertFile: "c", KeyFile: "k", CAFile: "a"}
	oneWay, trusting := server, client
	oneWay.ClientCAFile, trusting.CertFile, trusting.KeyFile = "", "", ""
	all := func(of, ca string) []string { return []string{of + "CERT_FILE", of + "KEY_FILE", of + ca} }
	ofServer, ofClient := all("GRPC_TLS_", "CLIENT_CA_FILE"), all("GRPC_CLIENT_TLS_", "CA_FILE")
	cases := []struct {
		name, tls, addr  string
		server           grpcx.ServerConfig
		client           grpcx.ClientConfig
		atServer, atDial []string
	}{
		{"all interfaces in the open", "required", ":8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, ofServer, ofClient},
		{"an address in the open", "required", "10.0.0.7:8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, ofServer, ofClient},
		{"a name in the open", "required", "dns:///orchestrator.chat.svc:8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, ofServer, ofClient},
		{"a name that begins like loopback", "required", "localhost.example.com:8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, ofServer, ofClient},
		{"several addresses in the open", "required", "ipv4:10.0.0.7:8083,127.0.0.1:8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, ofServer, ofClient},
		{"no authority for clients, no certificate of the client", "required", ":8083", oneWay, trusting, ofServer[2:], ofClient[:2]},
		{"mutual TLS", "required", ":8083", server, client, nil, nil},
		{"by choice", "off", ":8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, nil, nil},
		{"a choice that the rest contradicts", "off", ":8083", server, client, ofServer, ofClient},
		{"loopback by name", "required", "localhost:8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, nil, nil},
		{"loopback", "required", "127.0.0.2:0", grpcx.ServerConfig{}, grpcx.ClientConfig{}, nil, nil},
		{"loopback of IPv6", "required", "[::1]:8083", grpcx.ServerConfig{}, grpcx.ClientConfig{}, nil, nil},
		{"a socket of the machine", "required", "unix:/run/orchestrator", grpcx.ServerConfig{}, grpcx.ClientConfig{}, nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			internal := grpcx.InternalConfig{TLS: c.tls}
			for _, side := range []struct {
				got  []config.Mistake
				want []string
			}{{internal.ServerMistakes("ADDR", c.addr, c.server), c.atServer}, {internal.ClientMistakes("ADDR", c.addr, c.client), c.atDial}} {
				var keys []string
				for _, m := range side.got {
					keys = append(keys, m.Key)
					if !strings.Contains(m.Problem, "INTERNAL_TLS") {
						t.Errorf("%s does not say what decides", m.Problem)
					}
				}
				less := func(a, b string) bool { return a < b }
				if diff := cmp.Diff(side.want, keys, cmpopts.SortSlices(less)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if m := (grpcx.InternalConfig{TLS: "no"}).Validate(); len(m) != 1 || m[0].Key != "INTERNAL_TLS" {
		t.Errorf("got %v", m)
	}
}
