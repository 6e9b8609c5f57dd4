package sessions

import (
	"context"
	"slices"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// AppendIdentifiers adds identifiers that the session does not have. AXP
// appends blindly, so what AXP has is read first and only what is missing is
// sent; a request that was applied before changes nothing.
func (s *Service) AppendIdentifiers(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.AppendCustomerIdentifiersRequest) (*axpchatv1.Session, error) {
	rec, _, err := s.records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if state.Applied(rec, req.GetRequestId()) {
		return rec.GetSession(), nil
	}
	client, err := s.accounts.Client(caller.GetAccount())
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()
	if err := s.appendMissing(ctx, client, rec, req.GetCustomerIdentifiers()); err != nil {
		return nil, s.orGone(ctx, rec, err)
	}
	return s.change(ctx, rec, func(rec *busv1.SessionRecord) error {
		state.NoteApplied(rec, req.GetRequestId())
		rec.Session.CustomerIdentifiers = union(rec.GetSession().GetCustomerIdentifiers(), req.GetCustomerIdentifiers())
		return nil
	})
}

// appendMissing brings AXP up to date. After an outcome that is not known it
// reads again: what is there now was applied.
func (s *Service) appendMissing(ctx context.Context, client *axp.Client, rec *busv1.SessionRecord, more map[string]*axpchatv1.CustomerIdentifierValues) error {
	id := rec.GetSession().GetAxpSessionId()
	lacking := func() (axp.CustomerIdentifiers, error) {
		have, err := client.GetSession(ctx, id)
		if err != nil {
			return nil, err
		}
		known := union(rec.GetSession().GetCustomerIdentifiers(), received(have.CustomerIdentifiers))
		if err := limit(union(known, more)); err != nil {
			return nil, err
		}
		return missing(have.CustomerIdentifiers, more), nil
	}
	todo, err := lacking()
	if err != nil || len(todo) == 0 {
		return err
	}
	_, err = client.AppendIdentifiers(ctx, id, todo)
	if err == nil || axp.OutcomeOf(err) == axp.NotApplied {
		return err
	}
	if todo, again := lacking(); again == nil && len(todo) == 0 {
		return nil
	}
	return err
}

// merge joins the token's identifiers and the request's, within AXP's limits.
func merge(token, request map[string]*axpchatv1.CustomerIdentifierValues) (map[string]*axpchatv1.IdentifierValues, error) {
	all := union(union(nil, token), request)
	if len(all) == 0 {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "a session needs at least one customer identifier").
			WithViolation("customerIdentifiers", "give at least one, here or in the token", "map.min_pairs")
	}
	if err := limit(all); err != nil {
		return nil, err
	}
	return all, nil
}

// union adds values to what is there, each once, in the order given.
func union(have map[string]*axpchatv1.IdentifierValues, more map[string]*axpchatv1.CustomerIdentifierValues) map[string]*axpchatv1.IdentifierValues {
	out := make(map[string]*axpchatv1.IdentifierValues, len(have)+len(more))
	for name, v := range have {
		out[name] = &axpchatv1.IdentifierValues{Values: slices.Clone(v.GetValues())}
	}
	for name, v := range more {
		for _, value := range v.GetValues() {
			if out[name] == nil {
				out[name] = &axpchatv1.IdentifierValues{}
			}
			if !slices.Contains(out[name].GetValues(), value) {
				out[name].Values = append(out[name].Values, value)
			}
		}
	}
	return out
}

// received turns AXP's identifiers into the form that union takes.
func received(have axp.CustomerIdentifiers) map[string]*axpchatv1.CustomerIdentifierValues {
	out := make(map[string]*axpchatv1.CustomerIdentifierValues, len(have))
	for name, values := range have {
		out[name] = &axpchatv1.CustomerIdentifierValues{Values: values}
	}
	return out
}

// missing is what AXP does not have of what is wanted.
func missing(have axp.CustomerIdentifiers, want map[string]*axpchatv1.CustomerIdentifierValues) axp.CustomerIdentifiers {
	out := axp.CustomerIdentifiers{}
	for name, v := range want {
		for _, value := range v.GetValues() {
			if !slices.Contains(have[name], value) && !slices.Contains(out[name], value) {
				out[name] = append(out[name], value)
			}
		}
	}
	return out
}

// limit checks AXP's bounds on what a session holds in all; the bounds of a
// single value are checked where a request comes in.
func limit(all map[string]*axpchatv1.IdentifierValues) error {
	if len(all) > state.MaxIdentifierNames {
		return errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "a session has at most %d kinds of customer identifiers", state.MaxIdentifierNames).
			WithViolation("customerIdentifiers", "too many kinds together with those of the token and the session", "map.max_pairs")
	}
	for _, v := range all {
		if len(v.GetValues()) > state.MaxIdentifierValues {
			return errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "a kind of customer identifier has at most %d values", state.MaxIdentifierValues).
				WithViolation("customerIdentifiers", "too many values together with those of the token and the session", "repeated.max_items")
		}
	}
	return nil
}

// units counts UTF-16 units, as AXP's limits are counted here.
func units(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// cut shortens s to at most n UTF-16 units: a name from a token is not the
// request's fault.
func cut(s string, n int) string {
	for i, r := range s {
		width := 1
		if r > 0xFFFF {
			width = 2
		}
		if n -= width; n < 0 {
			return s[:i]
		}
	}
	return s
}
