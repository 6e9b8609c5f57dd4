package idle_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/session-orchestrator/internal/idle"
)

func load(t *testing.T, file string) (idle.Config, error) {
	t.Helper()
	var cfg idle.Config
	err := config.Load(&cfg, config.Sources{
		Lookup:   func(key string) (string, bool) { return "/idle.yaml", key == config.FileKey },
		ReadFile: func(string) ([]byte, error) { return []byte(file), nil },
	})
	return cfg, err
}

func TestAnAccountHasItsOwnRules(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, "idle_timeout: 10m\nidle_rules:\n- account_id: ABCDEF\n  idle_timeout: 5m\n  session_ttl: 0s\n")
	if err != nil {
		t.Fatal(err)
	}
	policy := idle.NewPolicy(cfg, nil, slog.New(slog.DiscardHandler), time.Now)
	own := policy.Rules("ABCDEF")
	if own.GetIdleTimeout().AsDuration() != 5*time.Minute || own.GetGracePeriod().AsDuration() != 2*time.Minute || own.GetSessionTtl() != nil {
		t.Errorf("the account's own rules: %v", own)
	}
	all := policy.Rules("ZZZZZZ")
	if all.GetIdleTimeout().AsDuration() != 10*time.Minute || all.GetSessionTtl().AsDuration() != 30*time.Minute {
		t.Errorf("everybody's rules: %v", all)
	}
}

func TestRulesThatCannotWork(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"a timeout that no timer is exact enough for": "idle_timeout: 5ms\n",
		"a negative time":            "session_ttl: -1m\n",
		"an account twice":           "idle_rules:\n- account_id: ABCDEF\n- account_id: ABCDEF\n",
		"a short time of an account": "idle_rules:\n- account_id: ABCDEF\n  grace_period: 1ms\n",
	} {
		if _, err := load(t, file); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
