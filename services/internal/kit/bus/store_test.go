package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// TestTheLeaderIsAskedBeforeAKeyCountsAsMissing: what a replica that is behind
// does not have is read from the leader, with the same outcome for a key that is
// there, was never there, and was deleted.
func TestTheLeaderIsAskedBeforeAKeyCountsAsMissing(t *testing.T) {
	b := bustest.Start(t)
	ctx, key := t.Context(), bus.SessionKeyOf("ABCDEF", "s1")
	if _, _, err := b.SessionFromLeader(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		t.Fatalf("a key that never was: %v", err)
	}
	rev, err := b.Sessions.Create(ctx, key, &busv1.SessionRecord{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	data, got, err := b.SessionFromLeader(ctx, key)
	rec := &busv1.SessionRecord{}
	if err != nil || got != rev || proto.Unmarshal(data, rec) != nil || rec.GetSubject() != "ada" {
		t.Fatalf("revision %d, want %d, record %v, error %v", got, rev, rec, err)
	}
	if err := b.Sessions.Delete(ctx, key, rev); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.SessionFromLeader(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		t.Fatalf("a deleted key: %v", err)
	}
}

func TestWhichFailuresOfPublishingAreTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"an earlier attempt is stored but not applied yet", &jetstream.APIError{Code: 409, ErrorCode: 10158}, true},
		{"no leader", fmt.Errorf("x: %w", &jetstream.APIError{Code: 503, ErrorCode: 10008}), true},
		{"nobody answers", nats.ErrNoResponders, true},
		{"a wrong request", &jetstream.APIError{Code: 400, ErrorCode: 10003}, false},
		{"too large", nats.ErrMaxPayload, false},
	} {
		if got := bus.Repeatable(c.err); got != c.want {
			t.Errorf("%s: tried again %v, want %v", c.name, got, c.want)
		}
	}
}

// TestAnUpdateWithoutAnAnswer: whether it was stored is found out, and another
// one's value is never taken for ours.
func TestAnUpdateWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		apply bool // the lost one was stored
		other bool // somebody else was faster meanwhile
		want  error
	}{
		{"it was stored", true, false, nil},
		{"it was not stored", false, false, nil},
		{"somebody else was faster", false, true, bus.ErrConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			b := bustest.Connect(t, s, bustest.Config())
			quick := bustest.Connect(t, s, bustest.Config())
			ctx, key := t.Context(), bus.SessionKeyOf("ABCDEF", "s1")
			rev, err := b.Sessions.Create(ctx, key, &busv1.SessionRecord{Subject: "ada"})
			if err != nil {
				t.Fatal(err)
			}
			lose := true
			err = b.LoseAnswers(ctx, func() (bool, bool) {
				first := lose
				lose = false
				if first && c.other {
					if _, err := quick.Sessions.Update(ctx, key, &busv1.SessionRecord{Subject: "eve"}, rev); err != nil {
						t.Error(err)
					}
				}
				return first, c.apply
			})
			if err != nil {
				t.Fatal(err)
			}
			next, err := b.Sessions.Update(ctx, key, &busv1.SessionRecord{Subject: "grace"}, rev)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			got, at, err := b.Sessions.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == nil && (at != next || got.GetSubject() != "grace") {
				t.Errorf("revision %d holds %q, the update said %d", at, got.GetSubject(), next)
			}
			if c.want != nil && got.GetSubject() != "eve" {
				t.Errorf("the other one's value is gone: %q", got.GetSubject())
			}
		})
	}
}

// TestACreationWithoutAnAnswer likewise.
func TestACreationWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		apply bool // the lost one was stored
		other bool // somebody else was faster
		want  error
	}{
		{"it was stored", true, false, nil},
		{"it was not stored", false, false, nil},
		{"somebody else was faster", false, true, bus.ErrExists},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			b := bustest.Connect(t, s, bustest.Config())
			quick := bustest.Connect(t, s, bustest.Config())
			ctx, key := t.Context(), bus.SessionKeyOf("ABCDEF", "s1")
			lose := true
			err := b.LoseAnswers(ctx, func() (bool, bool) {
				first := lose
				lose = false
				if first && c.other {
					if _, err := quick.Sessions.Create(ctx, key, &busv1.SessionRecord{Subject: "eve"}); err != nil {
						t.Error(err)
					}
				}
				return first, c.apply
			})
			if err != nil {
				t.Fatal(err)
			}
			rev, err := b.Sessions.Create(ctx, key, &busv1.SessionRecord{Subject: "ada"})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			got, at, err := b.Sessions.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == nil && (at != rev || got.GetSubject() != "ada") {
				t.Errorf("revision %d holds %q, the creation said %d", at, got.GetSubject(), rev)
			}
			if c.want != nil && got.GetSubject() != "eve" {
				t.Errorf("the other one's value is gone: %q", got.GetSubject())
			}
		})
	}
}

// TestChangesOfSessionsAreTold also where the bucket is an older version's.
func TestChangesOfSessionsAreTold(t *testing.T) {
	server, cfg := bustest.Server(t), bustest.Config()
	old := bustest.Connect(t, server, cfg)
	before, err := old.JS.KeyValue(t.Context(), bus.SessionsBucket)
	if err != nil {
		t.Fatal(err)
	}
	st, err := before.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	was := st.(*jetstream.KeyValueBucketStatus).Config()
	was.RePublish = nil
	if _, err := old.JS.UpdateKeyValue(t.Context(), was); err != nil {
		t.Fatal(err)
	}
	b := bustest.Connect(t, server, cfg)
	key := bus.SessionKeyOf("ABCDEF", "s1")
	sub, err := b.NC.SubscribeSync(b.Sessions.ChangesSubject())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Sessions.Create(t.Context(), key, &busv1.SessionRecord{Subject: "ada"}); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(b.Sessions.ChangesSubject(), ">") + key; m.Subject != want || len(m.Data) > 0 {
		t.Errorf("%s with %d bytes, want %s without", m.Subject, len(m.Data), want)
	}
}
