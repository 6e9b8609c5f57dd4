package reaper

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

// Config says how often and how fast it is looked for left-overs.
type Config struct {
	Interval time.Duration `env:"REAPER_INTERVAL" default:"5m" doc:"How often all sessions are looked through for what a crash has left behind; 0s: never."`
	After    time.Duration `env:"REAPER_AFTER" default:"2m" doc:"Something that nobody has worked on for so long counts as left behind."`
	Rate     float64       `env:"REAPER_RATE" default:"5" doc:"Left-overs put right per second and replica, at most."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if c.Interval < 0 || c.Interval > 0 && c.Interval < time.Second {
		add("REAPER_INTERVAL", "must be 0s or at least 1s")
	}
	if c.After < patience.Leftover {
		add("REAPER_AFTER", "must be at least "+patience.Leftover.String()+": what is younger may still be at work")
	}
	if c.Rate <= 0 || c.Rate > 1000 {
		add("REAPER_RATE", "must be above 0 and at most 1000")
	}
	return ms
}
