package connector_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/axpchat/connector/services/connector"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/config/configtest"
)

// TestAWrongSettingIsToldByItsName: what could not work is a mistake of the
// configuration, told once, and not left to the start to find.
func TestAWrongSettingIsToldByItsName(t *testing.T) {
	right := map[string]string{
		"AXP_BASE_URL": "https://axp.example.com", "AXP_ACCOUNT_ID": "ABCDEF", "AXP_CLIENT_ID": "client", "AXP_CLIENT_SECRET": "s",
		"AXP_APP_KEY": "k", "AXP_CHANNEL_PROVIDER_ID": "chat-web", "WEBHOOK_PUBLIC_URL": "https://hooks.example.com",
		"WEBHOOK_SECRET": "0123456789abcdef", "AUTH_JWKS_URL": "https://login.example.com/keys",
	}
	load := func(key, value string) error {
		env := maps.Clone(right)
		env[key] = value
		return config.Load(&connector.Config{}, config.Map(env))
	}
	for _, c := range []struct{ key, value string }{
		{"WEBHOOK_SECRET", "fifteen-letters"},
		{"WEBHOOK_SECRET_PREVIOUS", "short"},
		{"WEBHOOK_PUBLIC_URL", "ftp://hooks.example.com"},
		{"ADMIN_ADDR", "9080"},
		{"GATEWAY_GRPC_ADDR", "localhost"},
		{"GATEWAY_HTTP_ADDR", ":80801"},
		{"ORCHESTRATOR_GRPC_ADDR", ":grpc-of-ours"},
		{"WEBHOOK_ADDR", "::8082"},
		{"NATS_URL", "http://nats:4222"},
		{"NATS_URL", "nats://one:4222, foo://two:4222"},
		{"NATS_URL", "nats://"},
		{"NATS_MAX_STORE", "1GiB"},
	} {
		var mistakes config.Errors
		if err := load(c.key, c.value); !errors.As(err, &mistakes) || len(mistakes) != 1 || mistakes[0].Key != c.key {
			t.Errorf("%s=%s: %v", c.key, c.value, err)
		}
	}
	for _, c := range []struct{ key, value string }{
		{"WEBHOOK_ADDR", "127.0.0.1:0"}, {"ADMIN_ADDR", "[::1]:9080"}, {"GATEWAY_HTTP_ADDR", ":8000"},
		{"NATS_URL", "nats:4222"}, {"NATS_URL", "tls://one:4222,nats://me:pass@two:4222"},
	} {
		if err := load(c.key, c.value); err != nil {
			t.Errorf("%s=%s: %v", c.key, c.value, err)
		}
	}
}

// FuzzConfiguration loads files into the configuration of all services at once,
// with what each of them checks of it.
func FuzzConfiguration(f *testing.F) {
	configtest.Fuzz(f, func() any { return &connector.Config{} })
}
