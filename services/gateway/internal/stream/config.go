package stream

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config says how streams live.
type Config struct {
	Heartbeat      time.Duration `env:"HEARTBEAT_INTERVAL" default:"20s" doc:"How often a stream gives a sign of life."`
	ClientIdle     time.Duration `env:"CLIENT_IDLE_TIMEOUT" default:"75s" doc:"A two-way stream whose client sends nothing for so long, not even a ping, is closed."`
	HelloTimeout   time.Duration `env:"STREAM_HELLO_TIMEOUT" default:"10s" doc:"How long a client may take for its first frame."`
	WriteTimeout   time.Duration `env:"STREAM_WRITE_TIMEOUT" default:"20s" doc:"How long one frame may take to be written."`
	MaxAge         time.Duration `env:"STREAM_MAX_AGE" default:"0s" doc:"Greatest age of a stream, then the client is told to come back; 0s: none."`
	ExpiryReminder time.Duration `env:"TOKEN_EXPIRY_REMINDER" default:"60s" doc:"How long before its token expires a client is reminded."`
	StateCheck     time.Duration `env:"STREAM_STATE_CHECK" default:"1m" doc:"How often a stream looks again at its session's record. It is told of changes, but a change of leader in NATS may swallow one."`
	FrameBytes     config.Bytes  `env:"STREAM_FRAME_BYTES" default:"64KiB" doc:"Largest frame that is read from a client."`
	InFlight       int           `env:"STREAM_IN_FLIGHT" default:"16" doc:"Commands of one stream that are worked at the same time; further ones wait."`
	DrainSpread    time.Duration `env:"DRAIN_SPREAD" default:"10s" doc:"Over how long the clients of a pod that ends are spread when they are told to come back."`
	DrainGrace     time.Duration `env:"DRAIN_GRACE" default:"3s" doc:"How long a client that was told to move is served beyond its moment."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var out []config.Mistake
	positive := func(key string, d time.Duration) {
		if d <= 0 {
			out = append(out, config.Mistake{Key: key, Problem: "must be above 0s"})
		}
	}
	positive("HEARTBEAT_INTERVAL", c.Heartbeat)
	positive("STREAM_HELLO_TIMEOUT", c.HelloTimeout)
	positive("STREAM_STATE_CHECK", c.StateCheck)
	positive("STREAM_WRITE_TIMEOUT", c.WriteTimeout)
	if c.ClientIdle <= c.Heartbeat {
		out = append(out, config.Mistake{Key: "CLIENT_IDLE_TIMEOUT", Problem: "must be above HEARTBEAT_INTERVAL"})
	}
	if c.MaxAge < 0 || c.ExpiryReminder < 0 || c.DrainSpread < 0 || c.DrainGrace < 0 {
		out = append(out, config.Mistake{Key: "STREAM_MAX_AGE", Problem: "this, TOKEN_EXPIRY_REMINDER, DRAIN_SPREAD and DRAIN_GRACE must not be negative"})
	}
	if c.FrameBytes < 16<<10 || c.FrameBytes > 4<<20 {
		out = append(out, config.Mistake{Key: "STREAM_FRAME_BYTES", Problem: "must be 16KiB to 4MiB"})
	}
	if c.InFlight < 1 || c.InFlight > 1000 {
		out = append(out, config.Mistake{Key: "STREAM_IN_FLIGHT", Problem: "must be 1 to 1000"})
	}
	return out
}
