package keyring_test

import (
	"strings"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

func ring(t testing.TB, current, previous string) *keyring.Keyring {
	t.Helper()
	k, err := keyring.New(keyring.Config{Secret: config.Secret(current), Previous: config.Secret(previous)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	oldSecret = "0123456789abcdef-old"
	newSecret = "0123456789abcdef-new"
)

func TestCallbackKeySurvivesOneRotation(t *testing.T) {
	before, during, after := ring(t, oldSecret, ""), ring(t, newSecret, oldSecret), ring(t, newSecret, "")
	key := before.CallbackKey("ABCDEF")
	if !before.CheckCallbackKey("ABCDEF", key) || !during.CheckCallbackKey("ABCDEF", key) {
		t.Error("a key made with the old secret must hold before and during the rotation")
	}
	if after.CheckCallbackKey("ABCDEF", key) {
		t.Error("a key made with the old secret must not hold after the rotation")
	}
	if before.CheckCallbackKey("GHIJKL", key) {
		t.Error("a key must hold for its own account only")
	}
	if before.CheckCallbackKey("ABCDEF", "") || before.CheckCallbackKey("ABCDEF", key+"x") {
		t.Error("an empty or longer key must not hold")
	}
}

func TestParseDialogID(t *testing.T) {
	k := ring(t, newSecret, oldSecret)
	mine := k.MintDialogID("ABCDEF", "session-1", "engagement_1")
	old := ring(t, oldSecret, "").MintDialogID("ABCDEF", "session-1", "engagement_1")
	cases := []struct {
		name, account, in string
		want              keyring.Verdict
	}{
		{"made with the current secret", "ABCDEF", mine, keyring.Ours},
		{"made with the previous secret", "ABCDEF", old, keyring.Ours},
		{"of another account", "GHIJKL", mine, keyring.Forged},
		{"other session under the same proof", "ABCDEF", strings.Replace(mine, "session-1", "session-2", 1), keyring.Forged},
		{"made with an unknown secret", "ABCDEF", ring(t, "another-secret-of-16", "").MintDialogID("ABCDEF", "s", "e"), keyring.Forged},
		{"of another connector", "ABCDEF", "fjb-chat-000184", keyring.Foreign},
		{"empty", "ABCDEF", "", keyring.Foreign},
		{"with a wildcard", "ABCDEF", "*.>." + strings.Repeat("a", 22), keyring.Foreign},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			id, got := k.ParseDialogID(c.account, c.in)
			if got != c.want {
				t.Fatalf("verdict %v, want %v", got, c.want)
			}
			if got == keyring.Ours && (id.Session != "session-1" || id.Engagement != "engagement_1") {
				t.Errorf("got %+v", id)
			}
			if got != keyring.Ours && id != (keyring.DialogID{}) {
				t.Errorf("ids of an unproved value must not be handed out: %+v", id)
			}
		})
	}
}

func TestPublicDialogIDHidesTheProof(t *testing.T) {
	k := ring(t, newSecret, "")
	if got := keyring.PublicDialogID(k.MintDialogID("ABCDEF", "s1", "e1")); got != "s1.e1" {
		t.Errorf("got %q", got)
	}
	if got := keyring.PublicDialogID("fjb-chat-000184"); got != "fjb-chat-000184" {
		t.Errorf("a foreign value must stay: %q", got)
	}
}

func TestShortSecretsAreRefused(t *testing.T) {
	for _, cfg := range []keyring.Config{{Secret: "short"}, {Secret: newSecret, Previous: "short"}, {}} {
		if _, err := keyring.New(cfg); err == nil {
			t.Error("want an error")
		}
	}
}

func TestCallbackURL(t *testing.T) {
	k := ring(t, newSecret, "")
	got, err := k.CallbackURL("https://chat.example.com/base/", "ABCDEF")
	if err != nil || got != "https://chat.example.com/base/webhooks/axp/ABCDEF/"+k.CallbackKey("ABCDEF") {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := k.CallbackURL("chat.example.com", "ABCDEF"); err == nil {
		t.Error("a relative URL must be refused")
	}
}

func FuzzParseDialogID(f *testing.F) {
	k, err := keyring.New(keyring.Config{Secret: newSecret})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("fjb-chat-000184")
	f.Add(k.MintDialogID("ABCDEF", "s", "e"))
	f.Add("a.b." + strings.Repeat("A", 22))
	f.Fuzz(func(t *testing.T, s string) {
		id, v := k.ParseDialogID("ABCDEF", s)
		if v == keyring.Ours && k.MintDialogID("ABCDEF", id.Session, id.Engagement) != s {
			t.Errorf("%q is taken for ours", s)
		}
	})
}
