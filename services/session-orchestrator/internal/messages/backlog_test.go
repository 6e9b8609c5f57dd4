package messages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outbox counts by subject, as NATS does.
type outbox struct {
	stored map[string]int
	asked  int
	fail   error
	now    time.Time
}

func (o *outbox) count(_ context.Context, filter string) (int, error) {
	o.asked++
	n := 0
	for subject, of := range o.stored {
		if subject == filter || strings.HasPrefix(subject, strings.TrimSuffix(filter, "*")) && strings.HasSuffix(filter, "*") {
			n += of
		}
	}
	return n, o.fail
}

func (o *outbox) backlog(bounds Bounds) *backlog {
	return &backlog{bounds: bounds, partitions: 1, count: o.count, now: func() time.Time { return o.now }, room: map[string]room{}}
}

func (o *outbox) write(t *testing.T, b *backlog, account, session string) error {
	t.Helper()
	err := b.admit(t.Context(), account, session)
	if err == nil {
		o.stored["chat.outbox.0of1."+account+"."+session]++
	}
	return err
}

func limited(t *testing.T, err error) {
	t.Helper()
	var e *errs.Error
	if !errors.As(err, &e) || e.Reason != axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED || e.RetryAfter <= 0 {
		t.Errorf("got %v, want RATE_LIMITED with advice", err)
	}
}

func TestOneSessionCannotFillTheOutbox(t *testing.T) {
	o := &outbox{stored: map[string]int{}}
	b := o.backlog(Bounds{Session: 100})
	taken := 0
	var err error
	for ; taken < 1000 && err == nil; taken++ {
		err = o.write(t, b, "ABCDEF", "s1")
	}
	limited(t, err)
	if taken-1 != 100 {
		t.Errorf("took %d messages, want 100", taken-1)
	}
	if o.asked > 25 {
		t.Errorf("asked %d times about 100 messages, want a few", o.asked)
	}
	if err := o.write(t, b, "ABCDEF", "s2"); err != nil {
		t.Errorf("another session: %v", err)
	}
	before := o.asked
	for range 100 {
		limited(t, o.write(t, b, "ABCDEF", "s1"))
	}
	if o.asked != before {
		t.Errorf("asked %d times for one who insists, want none", o.asked-before)
	}
	o.stored["chat.outbox.0of1.ABCDEF.s1"] = 50 // some are sent
	o.now = o.now.Add(fullFor)
	if err := o.write(t, b, "ABCDEF", "s1"); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestSeveralReplicasExceedABoundByAQuarterEach(t *testing.T) {
	o := &outbox{stored: map[string]int{}}
	replicas := []*backlog{o.backlog(Bounds{Session: 100}), o.backlog(Bounds{Session: 100}), o.backlog(Bounds{Session: 100})}
	taken := 0
	for i := range 1000 {
		if o.write(t, replicas[i%3], "ABCDEF", "s1") == nil {
			taken++
		}
	}
	if taken < 100 || taken > 175 {
		t.Errorf("took %d messages, want 100 to 175", taken)
	}
}

func TestOneAccountCannotFillAPartition(t *testing.T) {
	o := &outbox{stored: map[string]int{}}
	b := o.backlog(Bounds{Session: 10, Account: 200})
	taken := 0
	for i := range 100 {
		for range 5 {
			if o.write(t, b, "ABCDEF", fmt.Sprintf("s%d", i)) == nil {
				taken++
			}
		}
	}
	if taken != 200 {
		t.Errorf("took %d messages of the account, want 200", taken)
	}
	if err := o.write(t, b, "GHIJKL", "s1"); err != nil {
		t.Errorf("another account: %v", err)
	}
}

func TestNothingIsTakenWithoutKnowing(t *testing.T) {
	o := &outbox{stored: map[string]int{}, fail: errors.New("no answer")}
	err := o.backlog(Bounds{Session: 10}).admit(t.Context(), "ABCDEF", "s1")
	if got := errs.From(err).Reason; got != axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE {
		t.Errorf("got %v (%v), want UNAVAILABLE", got, err)
	}
	if err := o.backlog(Bounds{}).admit(t.Context(), "ABCDEF", "s1"); err != nil || o.asked != 1 {
		t.Errorf("without bounds: %v, asked %d times, want no question", err, o.asked-1)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	o := &outbox{stored: map[string]int{}}
	b := o.backlog(Bounds{Session: 10})
	for i := range known + 100 {
		if err := b.admit(t.Context(), "ABCDEF", fmt.Sprintf("s%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.room) > known {
		t.Errorf("remembers %d sessions, want at most %d", len(b.room), known)
	}
}

func TestNATSCountsWhatWaits(t *testing.T) {
	b := bustest.Connect(t, bustest.Server(t), bustest.Config())
	publish := func(account, session string, n int) {
		t.Helper()
		for i := range n {
			e := &busv1.OutboxEntry{Account: account, SessionId: session}
			if _, err := b.PublishOutbox(t.Context(), e, fmt.Sprintf("%s.%s.%d", account, session, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish("ABCDEF", "s1", 3)
	publish("ABCDEF", "s2", 2)
	publish("GHIJKL", "s1", 4)
	log := newBacklog(b, Bounds{Session: 3, Account: 100}, time.Now)
	limited(t, log.admit(t.Context(), "ABCDEF", "s1"))
	if err := log.admit(t.Context(), "ABCDEF", "s2"); err != nil {
		t.Errorf("a session with room: %v", err)
	}
	log = newBacklog(b, Bounds{Account: 4}, time.Now)
	limited(t, log.admit(t.Context(), "GHIJKL", "s1"))
	log = newBacklog(b, Bounds{Account: 6}, time.Now)
	if err := log.admit(t.Context(), "ABCDEF", "s1"); err != nil {
		t.Errorf("an account with room: %v", err)
	}
}
