package ingest_test

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

// unroutedNow lists or replays what was set aside, and returns the counts.
func (s *service) unroutedNow(replay bool, env map[string]string) []string {
	s.t.Helper()
	var out strings.Builder
	err := ingest.Unrouted(s.t.Context(), ingest.UnroutedParams{
		Config: settings(s.t, env), Log: slog.New(slog.DiscardHandler), Bus: s.bus, Out: &out, Replay: replay,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var counts []string
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); !strings.Contains(line, account) {
			counts = append(counts, line)
		}
		if strings.Contains(line, "hello") || strings.Contains(line, session) {
			s.t.Errorf("it tells what was said, or by whom: %s", line)
		}
	}
	return counts
}

// told counts the journal's events by their ids.
func (s *service) told() map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for _, e := range s.events() {
		out[e.GetEventId()]++
	}
	return out
}

func (s *service) wantCounts(what string, got []string, want ...string) {
	s.t.Helper()
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestWhatWasSetAsideIsReplayed once it can be routed, each event once; what still
// can't be stays.
func TestWhatWasSetAsideIsReplayed(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "0s"})
	other, err := keyring.New(keyring.Config{Secret: config.Secret(newSecret)})
	if err != nil {
		t.Fatal(err)
	}
	said := func(dialog, id string) string {
		return fmt.Sprintf(`{"eventType":"MESSAGES","accountId":%q,"dialogId":%q,"messageId":%q,"senderParticipantType":"AGENT","body":{"elementType":"text","elementText":{"text":"hello"}}}`, account, dialog, id)
	}
	forged := fmt.Sprintf(`{"eventType":"MESSAGES","accountId":%q,"messageId":"m-9","senderParticipantType":"AGENT","providerDialogId":%q}`, account, other.MintDialogID(account, session, chat))
	for _, body := range []string{said("d-1", "m-1"), said("d-1", "m-2"), said("nobody's", "m-3"), "null"} {
		s.accepted(body)
	}
	if a := s.post(forged); a.status != 403 {
		t.Fatalf("answer %d", a.status)
	}
	s.wantCounts("nothing is known yet", s.unroutedNow(false, nil), "1 forged", "1 no-event", "3 no-session")

	s.index(bus.IndexDialog(account, "d-1"))
	s.accepted(said("d-1", "m-2")) // AXP has sent it again, and now it could be routed
	s.wantCounts("the session is known", s.unroutedNow(false, nil), "1 forged", "1 no-event", "1 no-session", "2 routable")
	if n := s.stored(bus.UnroutedStream); n != 5 || len(s.told()) != 1 {
		t.Fatalf("a list has changed something: %d set aside, %v told", n, s.told())
	}
	s.wantCounts("a replay", s.unroutedNow(true, nil), "1 duplicate", "1 forged", "1 no-event", "1 no-session", "1 stored")
	s.wantCounts("the next one", s.unroutedNow(true, nil), "1 forged", "1 no-event", "1 no-session")
	if n := s.stored(bus.UnroutedStream); n != 3 {
		t.Errorf("%d are set aside, want those that can't be routed", n)
	}
	// The secret had been replaced twice in the life of a chat.
	s.wantCounts("with the secret of before", s.unroutedNow(true, map[string]string{"WEBHOOK_SECRET_PREVIOUS": newSecret}),
		"1 no-event", "1 no-session", "1 stored")
	for _, n := range slices.Collect(maps.Values(s.told())) {
		if n != 1 || len(s.told()) != 3 {
			t.Fatalf("the journal has %v, want three events once each", s.told())
		}
	}
}

func TestAReplayOfNothing(t *testing.T) {
	s := &service{t: t, bus: bustest.Start(t)}
	s.wantCounts("nothing was set aside", s.unroutedNow(true, nil))
}
