package grpcx

import (
	"context"
	"fmt"
	"net"

	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// NewServerComponent returns the server, with its services registered, as a
// component that serves the listener. One server may serve several listeners,
// each with a component of its own.
//
// Drain sets the health state to NOT_SERVING, runs the hooks of
// [Server.OnDrain], stops accepting and waits for the calls; those that are not
// done when its context is are cut off. Run closes the listener.
func NewServerComponent(name string, lis net.Listener, s *Server) lifecycle.Component {
	return &component{name: name, listener: lis, server: s}
}

type component struct {
	name     string
	listener net.Listener
	server   *Server
}

// Name returns the name.
func (c *component) Name() string { return c.name }

// Run serves until ctx is done.
func (c *component) Run(ctx context.Context) error {
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = c.server.Serve(c.listener)
	}()
	select {
	case <-ended:
		if err != nil {
			return fmt.Errorf("serve gRPC on %s: %w", c.listener.Addr(), err)
		}
		// Drained, by this component or by another one of the same server.
		<-ctx.Done()
	case <-ctx.Done():
		c.server.Stop()
		<-ended
	}
	return nil
}

// Ready returns nil: the listener is bound, and connections wait in its queue.
func (c *component) Ready(context.Context) error { return nil }

// Drain ends the server as NewServerComponent says.
func (c *component) Drain(ctx context.Context) error {
	c.server.beginDrain()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.server.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		// It makes GracefulStop return as well. A handler that ignores the end
		// of its context would hold up Stop; the caller's patience is over.
		go c.server.Stop()
		return fmt.Errorf("gRPC calls were cut off: %w", context.Cause(ctx))
	}
}
