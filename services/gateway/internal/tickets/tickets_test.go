package tickets

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const events = axpchatv1.TicketUse_TICKET_USE_EVENTS

func TestTicketWorksOnceAmongMany(t *testing.T) {
	b := bustest.Start(t)
	d, pod := NewDesk(Config{TTL: 30 * time.Second}, b), NewDesk(Config{TTL: 30 * time.Second}, b)
	want := &auth.Principal{
		Account: "ABCDEF", Subject: "ada", Name: "Ada", Verified: true, ExpireTime: time.Now().Add(time.Hour).UTC().Truncate(time.Second),
		Identifiers: map[string][]string{"emailAddresses": {"ada@example.net"}},
	}
	made, err := d.Create(t.Context(), want, "s1", events)
	if err != nil {
		t.Fatal(err)
	}
	var wins atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		desk := []*Desk{d, pod}[i%2]
		all.Go(func() {
			got, err := desk.Redeem(t.Context(), made.GetTicket(), "s1", events)
			if err == nil {
				wins.Add(1)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			} else if errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_TICKET_INVALID {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if wins.Load() != 1 {
		t.Fatalf("%d callers had the ticket", wins.Load())
	}
}

func TestTicketExpires(t *testing.T) {
	d := NewDesk(Config{TTL: 30 * time.Second}, bustest.Start(t))
	made, err := d.Create(t.Context(), &auth.Principal{Account: "ABCDEF", Subject: "ada"}, "s1", events)
	if err != nil {
		t.Fatal(err)
	}
	d.now = func() time.Time { return time.Now().Add(31 * time.Second) }
	if _, err := d.Redeem(t.Context(), made.GetTicket(), "s1", events); errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_TICKET_INVALID {
		t.Fatalf("an expired ticket: %v", err)
	}
}
