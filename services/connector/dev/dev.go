// Package dev owns the connector for development: the whole suite with the AXP
// sandbox in one process, as connector-dev runs it and tests boot it. It is the
// one place that knows both, and no production command imports it; a test of
// the dependencies holds that.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/connector"
)

// New starts the sandbox's part first, so that the orchestrator's first call
// finds it, and points the connector at it: AXP's address and the callback's are
// those that were bound. It fills in Config, First and Listeners.Webhook of p.
//
// The sandbox ends with the connector, which owns it.
func New(ctx context.Context, cfg Config, p connector.Params) (*connector.Connector, *sandbox.Sandbox, error) {
	if file := cfg.sandboxFile(); file != "" {
		if err := os.MkdirAll(cfg.Connector.DataDir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("data directory: %w", err)
		}
		cfg.Sandbox.DataFile = file
	}
	axp, err := sandbox.New(ctx, sandbox.Params{Config: cfg.Sandbox, Log: p.Log.With("part", "axp-sandbox")})
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*connector.Connector, *sandbox.Sandbox, error) {
		return nil, nil, errors.Join(err, axp.Close())
	}
	hook := p.Listeners.Webhook
	if hook == nil {
		if hook, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Connector.Ingest.Addr); err != nil {
			return fail(fmt.Errorf("webhook-ingest: listen on WEBHOOK_ADDR: %w", err))
		}
	}
	p.Listeners.Webhook = hook
	p.Config = cfg.Pointed(axp.Addr(), hook.Addr().String())
	if p.Config.Gateway.WebTokenURL == "" {
		p.Config.Gateway.WebTokenURL = URL(axp.Addr()) + "/dev/token"
	}
	p.First = append(p.First, axp)
	c, err := connector.New(ctx, p)
	if err != nil {
		// Closing it twice is harmless.
		return fail(errors.Join(err, ignoreClosed(hook.Close())))
	}
	return c, axp, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// URL is the address at which this machine reaches a listener's address, which
// may be that of all interfaces.
func URL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = loopback
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Greet says where things are.
func Greet(w io.Writer, cfg Config, c *connector.Connector, axp *sandbox.Sandbox) {
	agent := "an automatic agent answers; the desk can switch it off"
	if !cfg.Sandbox.AutoAgent {
		agent = "the automatic agent is off; answer at the desk"
	}
	_, _ = fmt.Fprintf(w, `
  AXP chat connector, with a sandbox in AXP's place

  Web chat       %s/
  Agent desk     %s/desk   (%s)
  REST and docs  %s/docs
  gRPC           %s   (reflection is on)
  Health         %s/healthz/ready
  Data           %s

Open the web chat, log in with any name and start a chat. Ctrl-C stops everything; the data stays.

`, URL(c.HTTPAddr()), URL(axp.Addr()), agent, URL(c.HTTPAddr()), c.GRPCAddr(), URL(c.AdminAddr()), cfg.Connector.DataDir)
}
