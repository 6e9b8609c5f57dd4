package natsrights

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

// steps are what each service does. The provisioner's own work is done before
// them, and once more for other settings.
func (c *cluster) steps(t *testing.T) map[string][]step {
	t.Helper()
	return map[string][]step{
		svcProvisioner: {{"bring everything up to date", func(ctx context.Context, w *world) error {
			return c.update(ctx, t, w)
		}}},
		svcOrchestrator: orchestratorSteps(), svcGateway: gatewaySteps(), svcIngest: ingestSteps(), svcOperator: operatorSteps(),
	}
}

// update provisions what other settings change.
func (c *cluster) update(ctx context.Context, t *testing.T, w *world) error {
	t.Helper()
	cfg := c.config(t, svcProvisioner)
	cfg.Retention, cfg.StateRetention = 2*bustest.Config().Retention, 2*bustest.Config().StateRetention
	b, err := bus.Connect(ctx, bus.Params{Config: cfg, Name: svcProvisioner, Log: slog.New(slog.DiscardHandler), Options: w.provisioner})
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	return b.Provision(ctx)
}

// TestEachServiceHasTheRightsForItsWork does all that a service does with NATS, each
// by its own connection, and in a cluster at a server of its own.
func TestEachServiceHasTheRightsForItsWork(t *testing.T) {
	for name, start := range deployments() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
			defer cancel()
			c := start(t, tlsxtest.NewAuthority(t))
			w, err := c.join(ctx, t, "")
			if err != nil {
				t.Fatal(err)
			}
			for service, steps := range c.steps(t) {
				for _, s := range steps {
					t.Run(service+"/"+s.name, func(t *testing.T) {
						ctx, cancel := context.WithTimeout(ctx, patience)
						defer cancel()
						// In a cluster whoever answers may not have yet what was just written.
						err := s.do(ctx, w)
						for range len(c.urls) - 1 {
							if err != nil {
								err = s.do(ctx, w)
							}
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
			}
			for _, b := range []*bus.Bus{w.orchestrator, w.gateway, w.ingest, w.operator} {
				if err := b.Ready(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestNoServiceHasARightThatItDoesNotNeed takes each right away in turn: something
// must be denied then. So a right that is missing in the file fails, too.
func TestNoServiceHasARightThatItDoesNotNeed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server for each of some ninety rights")
	}
	ca := tlsxtest.NewAuthority(t)
	for _, service := range services() {
		var rights []right
		start(t, ca, func(o *server.Options) { rights = rightsOf(o, service) })
		if len(rights) < 5 {
			t.Fatalf("%s has %d rights: the test looks at the wrong thing", service, len(rights))
		}
		for _, r := range rights {
			t.Run(service+"/"+r.String(), func(t *testing.T) {
				c := start(t, ca, func(o *server.Options) { r.take(o, service) })
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				denied, err := c.try(ctx, t, service)
				if denied == nil {
					t.Errorf("nothing is denied without it (%v)", err)
				}
			})
		}
	}
}

// try lets a service do its work until something is denied.
func (c *cluster) try(ctx context.Context, t *testing.T, service string) (denied, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	noticed := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			cancel(err)
		}
	})
	w, err := c.join(ctx, t, service, noticed)
	if err == nil {
		for _, s := range c.steps(t)[service] {
			if err = s.do(ctx, w); err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
				break
			}
		}
	}
	// A denial that nobody waits for comes a moment later.
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	if cause := context.Cause(ctx); errors.Is(cause, nats.ErrPermissionViolation) {
		return cause, err
	}
	return nil, err
}

// right is one line of permissions.conf.
type right struct {
	subscribe bool
	subject   string
}

func (r right) String() string {
	if r.subscribe {
		return "subscribe " + r.subject
	}
	return "publish " + r.subject
}

func rightsOf(o *server.Options, service string) []right {
	p := permissions(o, service)
	var out []right
	for _, s := range p.Publish.Allow {
		out = append(out, right{subject: s})
	}
	for _, s := range p.Subscribe.Allow {
		out = append(out, right{subscribe: true, subject: s})
	}
	return out
}

// take takes the right from the service.
func (r right) take(o *server.Options, service string) {
	p := permissions(o, service)
	list := &p.Publish.Allow
	if r.subscribe {
		list = &p.Subscribe.Allow
	}
	*list = slices.DeleteFunc(*list, func(s string) bool { return s == r.subject })
	if len(*list) == 0 {
		*list = []string{"nothing"} // an empty list would allow everything
	}
}

func permissions(o *server.Options, service string) *server.Permissions {
	for _, u := range o.Users {
		if u.Username == user(service) {
			return u.Permissions
		}
	}
	panic("permissions.conf knows no " + service)
}
