package provisioning_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/internal/rotation"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/provisioning"
)

// agreed is an agreement that a replica knows, and what it has become meanwhile.
type agreed struct {
	known, now rotation.Choice
	err        error
}

func (a agreed) Choice() rotation.Choice                          { return a.known }
func (a agreed) Confirm(context.Context) (rotation.Choice, error) { return a.now, a.err }

func TestReconcileByTheSecretInForce(t *testing.T) {
	created := sub("new-1", oldURL)
	cases := []struct {
		name    string
		secrets agreed
		have    []axp.Subscription
		want    []axp.Subscription
		log     []string
		ok      bool
	}{
		{"the previous key is in force and is left alone", agreed{known: rotation.Previous, now: rotation.Previous},
			[]axp.Subscription{sub("a", oldURL)}, []axp.Subscription{sub("a", oldURL)}, []string{"list"}, true},
		{"the previous key is in force and is created", agreed{known: rotation.Previous, now: rotation.Previous},
			nil, []axp.Subscription{created}, []string{"list", "create"}, true},
		{"a subscription of the new key is moved back, after a rollback", agreed{known: rotation.Previous, now: rotation.Previous},
			[]axp.Subscription{sub("a", ourURL)}, []axp.Subscription{sub("a", oldURL)}, []string{"list", "update a"}, true},
		{"another key is in force and is left alone", agreed{known: rotation.Neither, now: rotation.Neither},
			[]axp.Subscription{sub("a", staleURL)}, []axp.Subscription{sub("a", staleURL)}, []string{"list"}, true},
		{"another key is in force and nobody has made it", agreed{known: rotation.Neither, now: rotation.Neither},
			nil, nil, []string{"list"}, false},
		{"the key has come out of force a moment ago", agreed{known: rotation.Current, now: rotation.Neither},
			[]axp.Subscription{sub("a", staleURL)}, []axp.Subscription{sub("a", staleURL)}, []string{"list"}, false},
		{"nobody can tell whether it is in force", agreed{known: rotation.Current, err: errors.New("no KV")},
			nil, nil, []string{"list"}, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(tc.have...)
			r := newReconciler(t, api, func(p *provisioning.Params) { p.Secrets = tc.secrets })
			if err := r.Reconcile(t.Context()); (err == nil) != tc.ok || r.Status().OK != tc.ok {
				t.Errorf("got %v, status %+v", err, r.Status())
			}
			subs, log := api.state()
			if diff := cmp.Diff(tc.want, subs); diff != "" {
				t.Errorf("subscriptions differ (-want +got):\n%s", diff)
			}
			if !slices.Equal(log, tc.log) {
				t.Errorf("calls are %v, want %v", log, tc.log)
			}
		})
	}
}

// TestMovingTheKeyMissesNothing: callbacks have come all the time.
func TestMovingTheKeyMissesNothing(t *testing.T) {
	api, missed := newFakeAPI(sub("a", oldURL)), 0
	r := newReconciler(t, api, func(p *provisioning.Params) { p.Missed = func() { missed++ } })
	if err := r.Reconcile(t.Context()); err != nil || missed != 0 {
		t.Errorf("told %d times that callbacks were missed, %v", missed, err)
	}
}
