package parameters

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config says how often AXP is told.
type Config struct {
	Interval time.Duration `env:"SESSION_PARAMETERS_INTERVAL" default:"2s" doc:"AXP is told a session's parameters at most once in this time, several updates in one call; 0s: every update at once."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	if c.Interval < 0 || c.Interval > time.Hour {
		return []config.Mistake{{Key: "SESSION_PARAMETERS_INTERVAL", Problem: "must be 0s to 1h"}}
	}
	return nil
}
