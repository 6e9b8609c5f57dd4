package sessions_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// TestAChangeTellsItsRevision: whoever reads an older one must look again.
func TestAChangeTellsItsRevision(t *testing.T) {
	b := bustest.Start(t)
	r, key, who := sessions.NewReader(b), bus.SessionKeyOf("ABCDEF", "s1"), &auth.Principal{Account: "ABCDEF", Subject: "ada"}
	rec := &busv1.SessionRecord{Subject: "ada", Session: &axpchatv1.Session{SessionId: "s1"}}
	if _, err := b.Sessions.Create(t.Context(), key, rec); err != nil {
		t.Fatal(err)
	}
	changed, stop, err := r.Watch("ABCDEF", "s1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, before, err := r.Look(t.Context(), who, "s1")
	if err != nil {
		t.Fatal(err)
	}
	after, err := b.Sessions.Update(t.Context(), key, rec, before)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case change := <-changed:
		if got := sessions.Revision(change); got != after || got <= before {
			t.Errorf("revision %d, want %d after %d", got, after, before)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told of the change")
	}
	if _, now, err := r.Look(t.Context(), who, "s1"); err != nil || now != after {
		t.Errorf("read revision %d, %v", now, err)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
