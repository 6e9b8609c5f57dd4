package ingest_test

import (
	"net/http"
	"testing"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

const newSecret = "the secret of after the rotation"

// TestAReplicaWithoutTheSecretInForceHasAXPCallAgain, since another replica may
// know a key and a proof that it can't check.
func TestAReplicaWithoutTheSecretInForceHasAXPCallAgain(t *testing.T) {
	ring, err := keyring.New(keyring.Config{Secret: config.Secret(newSecret)})
	if err != nil {
		t.Fatal(err)
	}
	server := bustest.Server(t)
	b := bustest.Connect(t, server, bustest.Config())
	if _, err := b.Secrets.Create(t.Context(), bus.SecretsKey, &busv1.SecretAgreement{Current: ring.Fingerprint()}); err != nil {
		t.Fatal(err)
	}
	s := startOn(t, server, b, map[string]string{"WEBHOOK_AGREE_INTERVAL": "10ms"})
	body := `{"eventType":"PARTICIPANT_ADDED","accountId":"` + account + `","dialogId":"d-1","providerDialogId":"` +
		ring.MintDialogID(account, session, chat) + `"}`
	newKey := keyring.CallbackPath(account) + ring.CallbackKey(account)
	for name, path := range map[string]string{"by the new key": newKey, "with a proof of the new secret": s.path()} {
		a := s.do(s.request(http.MethodPost, path, body))
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: answer %d, Retry-After %q", name, a.status, a.header.Get("Retry-After"))
		}
	}
	s.nothingStored()

	// With both secrets it knows everything, and a stranger is one again.
	after := startOn(t, server, b, map[string]string{"WEBHOOK_SECRET": newSecret, "WEBHOOK_SECRET_PREVIOUS": secret})
	for name, path := range map[string]string{"by the new key": newKey, "by the old key": s.path()} {
		if a := after.do(after.request(http.MethodPost, path, body)); a.status != http.StatusOK {
			t.Errorf("%s: answer %d", name, a.status)
		}
	}
	if a := after.do(after.request(http.MethodPost, newKey+"x", body)); a.status != http.StatusNotFound {
		t.Errorf("a stranger: answer %d", a.status)
	}
	if n := after.stored(bus.EventsStream); n != 1 {
		t.Errorf("%d events are stored, want one", n)
	}
}
