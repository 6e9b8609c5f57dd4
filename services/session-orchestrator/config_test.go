package orchestrator_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/config"
)

func TestConfigNamesEveryMistake(t *testing.T) {
	cases := []struct {
		name string
		vars map[string]string
		key  string
	}{
		{"no account at all", map[string]string{"AXP_ACCOUNT_ID": ""}, "AXP_ACCOUNT_ID"},
		{"an account id of the wrong form", map[string]string{"AXP_ACCOUNT_ID": "ABC123"}, "AXP_ACCOUNT_ID"},
		{"an account without secret", map[string]string{"AXP_CLIENT_SECRET": ""}, "AXP_CLIENT_SECRET"},
		{"an account without key", map[string]string{"AXP_APP_KEY": ""}, "AXP_APP_KEY"},
		{"an account without provider", map[string]string{"AXP_CHANNEL_PROVIDER_ID": ""}, "AXP_CHANNEL_PROVIDER_ID"},
		{"a base address with a path", map[string]string{"AXP_BASE_URL": "https://axp.example.com/api"}, "AXP_BASE_URL"},
		{"no public address", map[string]string{"WEBHOOK_PUBLIC_URL": ""}, "WEBHOOK_PUBLIC_URL"},
		{"a public address that is none", map[string]string{"WEBHOOK_PUBLIC_URL": "chat.example.com"}, "WEBHOOK_PUBLIC_URL"},
		{"messages that outlive the stream", map[string]string{"OUTBOX_MAX_AGE": "72h"}, "OUTBOX_MAX_AGE"},
		{"messages that may be sent when their ids are forgotten", map[string]string{"OUTBOX_DUPLICATE_WINDOW": "1h"}, "OUTBOX_MAX_AGE"},
		{"waits the wrong way round", map[string]string{"OUTBOX_RETRY_MIN": "1m"}, "OUTBOX_RETRY_MAX"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(variables("https://axp.example.com", c.vars))
			var mistakes config.Errors
			if !errors.As(err, &mistakes) {
				t.Fatalf("got %v", err)
			}
			if !slices.ContainsFunc(mistakes, func(m config.Mistake) bool { return m.Key == c.key }) {
				t.Errorf("%v does not name %s", mistakes, c.key)
			}
		})
	}
}
