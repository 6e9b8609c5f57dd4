package idle

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config is what becomes of customers who do nothing. A session keeps the rules
// that it was created with.
type Config struct {
	Timeout      time.Duration `env:"IDLE_TIMEOUT" reload:"true" default:"15m" doc:"A chat whose customer does nothing for so long is warned of; 0s: never. Avaya's Chat SDK allows 300s to 3300s."`
	Grace        time.Duration `env:"IDLE_GRACE_PERIOD" reload:"true" default:"2m" doc:"How long after the warning the chat is disconnected; 0s: at once, without a warning."`
	SessionTTL   time.Duration `env:"SESSION_TTL" reload:"true" default:"30m" doc:"A session without an open chat, an act of the customer and an open stream for so long is deleted; 0s: never."`
	AgentExtends bool          `env:"IDLE_AGENT_EXTENDS" reload:"true" default:"true" doc:"An agent or supervisor who writes gives the customer the whole idle time again, until he is warned."`
	Accounts     []Override    `yaml:"idle_rules" reload:"true" doc:"Other rules for single accounts."`
}

// Override is what an account has of its own. What is left out is as for all.
type Override struct {
	AccountID  string        `yaml:"account_id" required:"true" doc:"AXP account (tenant) id." example:"ABCDEF"`
	Timeout    time.Duration `yaml:"idle_timeout" default:"-1s" doc:"Instead of IDLE_TIMEOUT; -1s: the same."`
	Grace      time.Duration `yaml:"grace_period" default:"-1s" doc:"Instead of IDLE_GRACE_PERIOD; -1s: the same."`
	SessionTTL time.Duration `yaml:"session_ttl" default:"-1s" doc:"Instead of SESSION_TTL; -1s: the same."`
}

// shortest is the shortest time that a timer is exact enough for.
const shortest = 100 * time.Millisecond

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	check := func(key string, d time.Duration) {
		if d < 0 || d > 0 && d < shortest {
			add(key, "must be 0s or at least "+shortest.String())
		}
	}
	check("IDLE_TIMEOUT", c.Timeout)
	check("IDLE_GRACE_PERIOD", c.Grace)
	check("SESSION_TTL", c.SessionTTL)
	seen := map[string]bool{}
	for _, o := range c.Accounts {
		if seen[o.AccountID] {
			add("idle_rules", "names account "+o.AccountID+" twice")
		}
		seen[o.AccountID] = true
		for _, d := range []time.Duration{o.Timeout, o.Grace, o.SessionTTL} {
			if d > 0 && d < shortest {
				add("idle_rules", "times of account "+o.AccountID+" must be 0s or at least "+shortest.String())
				break
			}
		}
	}
	return ms
}

// of returns the rules of an account.
func (c *Config) of(account string) (timeout, grace, ttl time.Duration) {
	timeout, grace, ttl = c.Timeout, c.Grace, c.SessionTTL
	for _, o := range c.Accounts {
		if o.AccountID != account {
			continue
		}
		for _, own := range []struct {
			from time.Duration
			to   *time.Duration
		}{{o.Timeout, &timeout}, {o.Grace, &grace}, {o.SessionTTL, &ttl}} {
			if own.from >= 0 {
				*own.to = own.from
			}
		}
	}
	return timeout, grace, ttl
}
