package ingest_test

import (
	"net/http"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/keyring"
)

// TestAccountsComeAndGoWhileRunning: with a right key, an account's callbacks are
// taken from the moment on at which it is listed, and no longer than it is; the
// other account notices nothing.
func TestAccountsComeAndGoWhileRunning(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ACCOUNTS": account})
	const other = "OTHERS"
	call := func() int {
		t.Helper()
		body := `{"eventType":"MESSAGES","accountId":"` + other + `","providerDialogId":"` + s.keys.MintDialogID(other, session, chat) + `","messageId":"m1"}`
		return s.do(s.request(http.MethodPost, keyring.CallbackPath(other)+s.keys.CallbackKey(other), body)).status
	}
	list := func(accounts string) { s.Reload(settings(t, map[string]string{"WEBHOOK_ACCOUNTS": accounts})) }
	for _, step := range []struct {
		accounts string
		want     int
	}{{account, 404}, {account + "," + other, 200}, {account, 404}, {"", 200}} {
		list(step.accounts)
		if got := call(); got != step.want {
			t.Errorf("with WEBHOOK_ACCOUNTS=%q: %d, want %d", step.accounts, got, step.want)
		}
		s.accepted(message(s.ours(), `,"x":"`+step.accounts+`"`))
	}
}
