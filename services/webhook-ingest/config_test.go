package ingest_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/config"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ key, value, also, alsoValue string }{
		{"WEBHOOK_SECRET", "", "", ""},
		{"WEBHOOK_ACCOUNTS", "ABCDEF,ABC", "", ""},
		{"WEBHOOK_ALLOWED_NETWORKS", "203.0.113.0/24,example.com", "", ""},
		{"WEBHOOK_TRUSTED_PROXIES", "10.0.0.0/40", "", ""},
		{"WEBHOOK_MAX_BODY", "10", "", ""},
		{"WEBHOOK_READ_TIMEOUT", "-1s", "", ""},
		{"WEBHOOK_READ_TIMEOUT", "5s", "", ""},
		{"WEBHOOK_ROUTE_WAIT", "-1s", "", ""},
		{"WEBHOOK_ROUTE_HOLDS", "-1", "", ""},
		{"WEBHOOK_STORE_TIMEOUT", "3s", "", ""},
		{"WEBHOOK_STORE_TIMEOUT", "1ms", "", ""},
		{"WEBHOOK_MAX_CONCURRENT", "-1", "", ""},
		{"WEBHOOK_TLS_KEY_FILE", "", "WEBHOOK_TLS_CERT_FILE", "c"},
		{"WEBHOOK_TLS_CERT_FILE", "", "WEBHOOK_TLS_KEY_FILE", "k"},
		{"WEBHOOK_TLS_CLIENT_CA_FILE", "a", "", ""},
		{"WEBHOOK_TLS_CLIENT_NAMES", "callbacks.example.com", "", ""},
		{"WEBHOOK_SIGNATURE_HEADER", "", "WEBHOOK_SIGNATURE_SECRET", "0123456789abcdef"},
		{"WEBHOOK_SIGNATURE_SECRET", "short", "WEBHOOK_SIGNATURE_HEADER", "X-Signature"},
		{"WEBHOOK_SIGNATURE_HEADER", "X: Signature", "WEBHOOK_SIGNATURE_SECRET", "0123456789abcdef"},
	} {
		env := map[string]string{"WEBHOOK_SECRET": secret}
		maps.Copy(env, map[string]string{tt.key: tt.value, tt.also: tt.alsoValue})
		var cfg ingest.Config
		err := config.Load(&cfg, config.Map(env))
		var mistakes config.Errors
		if !errors.As(err, &mistakes) || len(mistakes) != 1 || mistakes[0].Key != tt.key {
			t.Errorf("%s=%s: %v", tt.key, tt.value, err)
		}
	}
}

func TestConfigIsDocumented(t *testing.T) {
	var out strings.Builder
	if err := config.Doc(&out, "webhook-ingest", &ingest.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"WEBHOOK_ADDR", "WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS", "WEBHOOK_STORE_TIMEOUT", "HTTP_IDLE_TIMEOUT"} {
		if !strings.Contains(out.String(), key) {
			t.Errorf("%s is missing", key)
		}
	}
}
