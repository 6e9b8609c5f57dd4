// Package proxied owns the PROXY protocol (HAProxy's, versions 1 and 2): what a load
// balancer of layer 4 says, ahead of everything else on a connection, of where the
// connection comes from.
//
// It is believed of the networks that the configuration names, which must say it on
// every connection. From anywhere else it is no part of the protocol that is spoken
// there, and ends the connection like any other nonsense: nobody chooses an address.
//
// It goes below TLS. The addresses of connections block until the header is there, so
// whoever accepts them must not ask at once.
package proxied

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// Config says whose word is taken.
type Config struct {
	Networks []string      `env:"PROXY_PROTOCOL_NETWORKS" doc:"Addresses and ranges of load balancers that speak the PROXY protocol, version 1 or 2; a connection from there must begin with it, one from anywhere else must not. Without it everybody behind such a balancer has its address, and shares its limits." example:"10.0.0.0/28"`
	Timeout  time.Duration `env:"PROXY_PROTOCOL_TIMEOUT" default:"5s" doc:"How long the header of the PROXY protocol may take to arrive."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var out []config.Mistake
	if _, err := httpx.ParseNetworks(c.Networks); err != nil {
		out = append(out, config.Mistake{Key: "PROXY_PROTOCOL_NETWORKS", Problem: "must be addresses or ranges such as 10.0.0.0/28"})
	}
	if c.Timeout <= 0 {
		out = append(out, config.Mistake{Key: "PROXY_PROTOCOL_TIMEOUT", Problem: "must be above 0s"})
	}
	return out
}

// Listen returns the listener with the protocol on it, or as it is where no network
// is named.
func (c *Config) Listen(lis net.Listener) (net.Listener, error) {
	networks, err := httpx.ParseNetworks(c.Networks)
	if err != nil {
		return nil, fmt.Errorf("PROXY_PROTOCOL_NETWORKS: %w", err)
	}
	if len(networks) == 0 {
		return lis, nil
	}
	return &proxyproto.Listener{
		Listener: lis,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			from, err := netip.ParseAddrPort(o.Upstream.String())
			if err == nil && networks.Contain(from.Addr().Unmap().WithZone("")) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
		ValidateHeader:    comesFrom,
		ReadHeaderTimeout: c.Timeout,
	}, nil
}

var errOrigin = errors.New("the PROXY protocol names no address of TCP")

// comesFrom takes connections over TCP, and those that are the balancer's own, such as
// its probes.
func comesFrom(h *proxyproto.Header) error {
	if h.Command.IsLocal() || h.TransportProtocol.IsUnspec() {
		return nil
	}
	if _, ok := h.SourceAddr.(*net.TCPAddr); !ok {
		return errOrigin
	}
	return nil
}
