package delivery

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config bounds what delivery uses.
type Config struct {
	QueueBytes   config.Bytes  `env:"DELIVERY_QUEUE_BYTES" default:"256KiB" doc:"Events that wait for one client, in bytes; a client that lets them grow beyond is told to resume from its cursor and is dropped."`
	UnsentBytes  config.Bytes  `env:"DELIVERY_UNSENT_BYTES" default:"64KiB" doc:"What the system holds unsent for one connection before it counts as slow (TCP_NOTSENT_LOWAT; on Linux only); 0: what the system likes, up to some MiB."`
	TailCheck    time.Duration `env:"DELIVERY_TAIL_CHECK" default:"5s" doc:"How often the journal's tail is compared with what was handed on, for events whose live copy was lost."`
	CatchUps     int           `env:"DELIVERY_CATCH_UPS" default:"4" doc:"Reads of the journal that run at the same time; more of them slow down storing."`
	StallTimeout time.Duration `env:"DELIVERY_STALL_TIMEOUT" default:"20s" doc:"A client that takes nothing for so long while events wait for it is dropped."`
	GiveUp       time.Duration `env:"DELIVERY_GIVE_UP" default:"30s" doc:"When the journal can't be read for so long, clients are sent away to try another pod."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var out []config.Mistake
	add := func(key, problem string) { out = append(out, config.Mistake{Key: key, Problem: problem}) }
	if c.QueueBytes < minQueueBytes {
		add("DELIVERY_QUEUE_BYTES", "must be at least 16KiB")
	}
	if c.UnsentBytes < 0 || c.UnsentBytes > 0 && c.UnsentBytes < minUnsentBytes {
		add("DELIVERY_UNSENT_BYTES", "must be 0 or at least 4KiB")
	}
	if c.TailCheck < 10*time.Millisecond {
		add("DELIVERY_TAIL_CHECK", "must be at least 10ms")
	}
	if c.CatchUps < 1 || c.CatchUps > 64 {
		add("DELIVERY_CATCH_UPS", "must be 1 to 64")
	}
	if c.StallTimeout <= 0 {
		add("DELIVERY_STALL_TIMEOUT", "must be above 0")
	}
	if c.GiveUp <= 0 {
		add("DELIVERY_GIVE_UP", "must be above 0")
	}
	return out
}

// minQueueBytes leaves room for what arrives while a catch-up goes over to
// live events.
const minQueueBytes = 16 << 10

// minUnsentBytes lets a usual event go out in one piece.
const minUnsentBytes = 4 << 10
