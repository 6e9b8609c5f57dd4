package grpcx

import (
	"net"
	"net/netip"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// InternalConfig says whether services may talk with each other in the open. It is
// for processes that call, or are called, over the network.
type InternalConfig struct {
	TLS string `env:"INTERNAL_TLS" default:"required" doc:"required: the services talk with each other by mutual TLS, except over loopback; off: in the open."`
}

const (
	tlsRequired = "required"
	tlsOff      = "off"
)

// Validate knows two values.
func (c InternalConfig) Validate() []config.Mistake {
	if c.TLS != tlsRequired && c.TLS != tlsOff {
		return []config.Mistake{{Key: "INTERNAL_TLS", Problem: "is not one of required, off"}}
	}
	return nil
}

// ServerMistakes reports what a server for other services lacks; addrKey is the
// setting of its address.
func (c InternalConfig) ServerMistakes(addrKey, addr string, s ServerConfig) []config.Mistake {
	return c.mistakes(addrKey, addr, []setting{
		{"GRPC_TLS_CERT_FILE", s.CertFile}, {"GRPC_TLS_KEY_FILE", s.KeyFile}, {"GRPC_TLS_CLIENT_CA_FILE", s.ClientCAFile},
	})
}

// ClientMistakes reports what a client of another service lacks; targetKey is the
// setting of the service's address.
func (c InternalConfig) ClientMistakes(targetKey, target string, s ClientConfig) []config.Mistake {
	return c.mistakes(targetKey, target, []setting{
		{"GRPC_CLIENT_TLS_CA_FILE", s.CAFile}, {"GRPC_CLIENT_TLS_CERT_FILE", s.CertFile}, {"GRPC_CLIENT_TLS_KEY_FILE", s.KeyFile},
	})
}

type setting struct{ key, value string }

func (c InternalConfig) mistakes(addrKey, addr string, files []setting) []config.Mistake {
	var out []config.Mistake
	for _, f := range files {
		switch {
		case c.TLS == tlsOff && f.value != "":
			// Whoever believes to have TLS must not be left to find out.
			out = append(out, config.Mistake{Key: f.key, Problem: "is set, but INTERNAL_TLS is off"})
		case c.TLS == tlsRequired && f.value == "" && !loopback(addr):
			out = append(out, config.Mistake{Key: f.key, Problem: "is required, because " + addrKey + " is not of loopback; INTERNAL_TLS=off goes without"})
		}
	}
	return out
}

// loopback tells whether nobody outside of the machine can hear what is said at
// the address. An empty host is every interface.
func loopback(addr string) bool {
	if strings.HasPrefix(addr, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(strings.TrimPrefix(addr, "dns:///"))
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
