package world_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open() *world.World {
	return world.New(world.Config{AccountID: "SANDBX", ChannelProviderID: "p", ActivationDelay: time.Second}, func(world.Event) {}, time.Now)
}

func chat(t testing.TB, w *world.World, customer string) (session, engagement, dialog string) {
	t.Helper()
	s, refusal := w.CreateSession(world.CreateSession{ChannelProviderID: "p", CustomerIdentifiers: map[string][]string{"id": {customer}}})
	if refusal != nil {
		t.Fatal(refusal.Detail)
	}
	e, refusal := w.CreateEngagement(world.CreateEngagement{SessionID: s.SessionID, ChannelID: "Chat"})
	if refusal != nil {
		t.Fatal(refusal.Detail)
	}
	return s.SessionID, e.EngagementID, e.Dialogs[0].DialogID
}

// A sandbox that runs for weeks, or under load, must not grow with every chat.
func TestChatsThatHaveEndedAreForgottenInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open()
		defer w.Close()
		_, first, _ := chat(t, w, "first")
		var oldest, newest string
		for i := range 2001 {
			s, e, d := chat(t, w, fmt.Sprint(i))
			if refusal := w.Disconnect(e, world.Leave{SessionID: s, DialogID: d}); refusal != nil {
				t.Fatal(refusal.Detail)
			}
			if i == 0 {
				oldest = e
			}
			newest = e
		}
		if n := len(w.Chats()); n != 2001 { // and the open one
			t.Errorf("%d chats, want 2001", n)
		}
		for engagement, want := range map[string]bool{first: true, oldest: false, newest: true} {
			if _, refusal := w.GetEngagement(engagement); (refusal == nil) != want {
				t.Errorf("engagement is there: %t, want %t", refusal == nil, want)
			}
		}
		data, err := w.Save()
		if err != nil {
			t.Fatal(err)
		}
		again := open()
		defer again.Close()
		if err := again.Load(data); err != nil {
			t.Fatal(err)
		}
		if n := len(again.Chats()); n != 2001 {
			t.Errorf("%d chats after a restart, want 2001", n)
		}
		chat(t, again, "first")
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock, not the machine's
		synctest.Wait()
		for _, c := range again.Chats() {
			if c.Status == world.Pending {
				t.Error("a dialog is PENDING for ever")
			}
		}
	})
}

func TestDataThatMakesNoSenseIsRefused(t *testing.T) {
	w := open()
	defer w.Close()
	for _, data := range []string{`{`, `{"dialogs":[{"sessionId":"x"}]}`, `{"sessions":[{"sessionId":"x"}],"dialogs":[{"sessionId":"x","dialog":{}}]}`} {
		if w.Load([]byte(data)) == nil {
			t.Errorf("%s was taken", data)
		}
	}
}
