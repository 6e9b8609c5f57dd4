package backfill

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config says when a dialog is looked at. AXP documents none of it.
type Config struct {
	HoleWait   time.Duration `env:"BACKFILL_HOLE_WAIT" default:"6s" doc:"How long a hole in AXP's messageIndex may stay open before the missing messages are fetched; AXP sends a failed callback again after some 5s."`
	EchoWait   time.Duration `env:"BACKFILL_ECHO_WAIT" default:"15s" doc:"How long AXP may take to show a message that it has taken, before the dialog is looked up."`
	QuietAfter time.Duration `env:"BACKFILL_QUIET_AFTER" default:"60s" doc:"A dialog in which nothing happened for so long is looked up, for what was lost at its end, and again each time that the silence has doubled; 0s: never."`
	Concurrent int           `env:"BACKFILL_CONCURRENT" default:"4" doc:"Dialogs that are looked up at the same time."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if c.HoleWait <= 0 {
		add("BACKFILL_HOLE_WAIT", "must be more than 0")
	}
	if c.EchoWait <= 0 {
		add("BACKFILL_ECHO_WAIT", "must be more than 0")
	}
	if c.QuietAfter < 0 {
		add("BACKFILL_QUIET_AFTER", "must not be negative")
	}
	if c.Concurrent < 1 || c.Concurrent > 64 {
		add("BACKFILL_CONCURRENT", "must be 1 to 64")
	}
	return ms
}
