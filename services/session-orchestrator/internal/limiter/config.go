package limiter

import "github.com/axpchat/connector/services/internal/kit/config"

// Config holds the figures of a Limiter. A zero field means its default.
type Config struct {
	// Start is the limit before anything is known.
	Start int `env:"AXP_CONCURRENCY_START" default:"16" doc:"Calls to AXP that an account may have under way at once, in one replica, before anything is known of its limits."`
	// Max bounds the limit.
	Max int `env:"AXP_CONCURRENCY_MAX" default:"64" doc:"Most calls to AXP that an account may have under way at once, in one replica."`
	// Decrease is what the limit is multiplied by.
	Decrease float64 `env:"AXP_CONCURRENCY_DECREASE" default:"0.5" doc:"What the number of calls at once is multiplied by when AXP answers 429, answers too late, or fails several times in a row."`
	// Burst is how many faults in a row count as overload.
	Burst int `env:"AXP_CONCURRENCY_BURST" default:"3" doc:"Failures of AXP in a row from which on there are fewer calls at once."`
	// Queue bounds the waiting calls of each class.
	Queue int `env:"AXP_QUEUE_MAX" default:"2048" doc:"Calls of an account that may wait for their turn, of each class: messages, life cycle, background. More are refused."`
	// Yield is how often a class is passed over before it gets a turn.
	Yield int `env:"AXP_QUEUE_YIELD" default:"16" doc:"How often waiting calls are passed over by more urgent ones before one of them gets a turn."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	atLeastOne := func(key string, n int) {
		if n < 1 {
			add(key, "must be at least 1")
		}
	}
	atLeastOne("AXP_CONCURRENCY_START", c.Start)
	atLeastOne("AXP_CONCURRENCY_MAX", c.Max)
	atLeastOne("AXP_CONCURRENCY_BURST", c.Burst)
	atLeastOne("AXP_QUEUE_MAX", c.Queue)
	atLeastOne("AXP_QUEUE_YIELD", c.Yield)
	if c.Decrease <= 0 || c.Decrease >= 1 {
		add("AXP_CONCURRENCY_DECREASE", "must be more than 0 and less than 1")
	}
	return ms
}

func (c Config) withDefaults() Config {
	whole := func(n *int, value int) {
		if *n < 1 {
			*n = value
		}
	}
	whole(&c.Start, 16)
	whole(&c.Max, 64)
	whole(&c.Burst, 3)
	whole(&c.Queue, 2048)
	whole(&c.Yield, 16)
	if c.Decrease <= 0 || c.Decrease >= 1 {
		c.Decrease = 0.5
	}
	return c
}
