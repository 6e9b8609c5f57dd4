package connector

import (
	"context"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// Reload puts into force what of a configuration may change while the connector
// runs: accounts and idle rules, the gateway's tenants, the accounts whose
// callbacks are taken. On an error nothing has changed.
func (c *Connector) Reload(ctx context.Context, next Config) error {
	if err := c.orchestrator.Reload(ctx, next.Orchestrator); err != nil {
		return err
	}
	c.ingest.Reload(next.Ingest)
	c.gateway.Reload(next.Gateway)
	return nil
}

// Watch is a Params.Watcher for a configuration of which the connector's is a
// part: current is what was loaded from the sources over what fresh gives (nil:
// nothing), and part finds the connector's.
func Watch[T any](current T, fresh func() T, sources config.Sources, part func(*Connector, *T) Config) func(*Connector) (lifecycle.Component, error) {
	return func(c *Connector) (lifecycle.Component, error) {
		return config.NewWatcher(config.WatchParams[T]{
			Current: current, Fresh: fresh, Sources: sources, Reload: c.config.Reload, Log: c.log.With("part", "config"), Meter: c.meter,
			Apply: func(ctx context.Context, next *T) error { return c.Reload(ctx, part(c, next)) },
		})
	}
}
