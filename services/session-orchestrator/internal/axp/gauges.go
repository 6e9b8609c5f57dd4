package axp

import (
	"context"
	"errors"
	"fmt"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

// gauges show how an account stands at the moment of a scrape. Accounts are
// those of the configuration, so they make a bounded label.
type gauges struct {
	meter        metric.Meter
	registration metric.Registration
}

// watch begins to show how c stands; close ends it.
func (o *observer) watch(c *Client) error {
	var faults []error
	gauge := func(name, description string) metric.Int64ObservableGauge {
		g, err := o.gauges.meter.Int64ObservableGauge(name, metric.WithDescription(description))
		faults = append(faults, err)
		return g
	}
	limit := gauge("axpchat_axp_concurrency_limit", "Calls to AXP that an account may have under way at once, in this replica.")
	inFlight := gauge("axpchat_axp_in_flight", "Calls to AXP that an account has under way.")
	waiting := gauge("axpchat_axp_waiting", "Calls of an account that wait for their turn, by class.")
	state := gauge("axpchat_axp_breaker_state", "Whether calls of an account are made: 0 closed (yes), 1 half open (one at a time), 2 open (none).")
	refused := gauge("axpchat_axp_credentials_refused", "1 while AXP refuses the credentials of an account.")
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("metrics of the account: %w", err)
	}
	account := metric.WithAttributes(o.account)
	registration, err := o.gauges.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		s := c.limiter.Status()
		to.ObserveInt64(limit, int64(s.Limit), account)
		to.ObserveInt64(inFlight, int64(s.InFlight), account)
		for class := range limiter.Classes {
			to.ObserveInt64(waiting, int64(s.Waiting[class]), metric.WithAttributes(o.account, attribute.String("class", class.String())))
		}
		to.ObserveInt64(state, breakerState(c.breaker.machine.State()), account)
		var no int64
		if IsCredentials(c.CredentialsStatus()) {
			no = 1
		}
		to.ObserveInt64(refused, no, account)
		return nil
	}, limit, inFlight, waiting, state, refused)
	if err != nil {
		return fmt.Errorf("metrics of the account: %w", err)
	}
	o.gauges.registration = registration
	return nil
}

// close shows nothing more.
func (o *observer) close() {
	if o.gauges.registration != nil {
		_ = o.gauges.registration.Unregister() // it has no way to fail that matters at the end
	}
}

func breakerState(s gobreaker.State) int64 {
	switch s {
	case gobreaker.StateOpen:
		return 2
	case gobreaker.StateHalfOpen:
		return 1
	default:
		return 0
	}
}
