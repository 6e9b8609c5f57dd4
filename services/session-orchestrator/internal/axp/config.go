package axp

import (
	"math/rand/v2"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

// Config holds the figures of a Client. AXP publishes none, so each is a
// setting. A zero field means its default.
type Config struct {
	// CallTimeout bounds one attempt of a call.
	CallTimeout time.Duration `env:"AXP_CALL_TIMEOUT" default:"10s" doc:"Longest time that one attempt of a call to AXP may take."`
	// MaxAttempts bounds how often a call is made.
	MaxAttempts int `env:"AXP_MAX_ATTEMPTS" default:"3" doc:"How often a call to AXP is made at most, where its retry rule allows to repeat it."`
	// MinBackoff is the first wait before a repetition.
	MinBackoff time.Duration `env:"AXP_BACKOFF_MIN" default:"200ms" doc:"First wait before a call to AXP is repeated; doubled each time, with jitter."`
	// MaxBackoff bounds the wait before a repetition.
	MaxBackoff time.Duration `env:"AXP_BACKOFF_MAX" default:"5s" doc:"Longest wait before a call to AXP is repeated, where AXP gives no advice."`
	// MaxAdvisedWait is the longest Retry-After that a call sits out itself;
	// after a longer one the call fails and tells how long to wait.
	MaxAdvisedWait time.Duration `env:"AXP_MAX_RETRY_AFTER" default:"10s" doc:"Longest Retry-After of AXP that a call waits for; a longer one is passed on to the caller."`
	// Limit bounds how many calls are under way at once.
	Limit limiter.Config
	// Breaker says when calls are held back because AXP fails.
	Breaker BreakerConfig
	// TokenRenewAt is the part of a token's life after which it is renewed.
	TokenRenewAt float64 `env:"AXP_TOKEN_RENEW_AT" default:"0.8" doc:"Part of an access token's life after which it is renewed."`
	// TokenFallbackLife is the life of a token that comes without expires_in.
	TokenFallbackLife time.Duration `env:"AXP_TOKEN_FALLBACK_LIFE" default:"60s" doc:"Life of an access token for which AXP does not state one."`
	// TokenBackoffMin is how long a failed renewal is remembered first.
	TokenBackoffMin time.Duration `env:"AXP_TOKEN_BACKOFF_MIN" default:"1s" doc:"How long no access token is asked for after a failure; doubled with each failure."`
	// TokenBackoffMax bounds how long a failed renewal is remembered.
	TokenBackoffMax time.Duration `env:"AXP_TOKEN_BACKOFF_MAX" default:"1m" doc:"Longest time that no access token is asked for after failures, and that calls wait for AXP to accept the credentials again."`
}

func (c Config) withDefaults() Config {
	duration := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	duration(&c.CallTimeout, 10*time.Second)
	duration(&c.MinBackoff, 200*time.Millisecond)
	duration(&c.MaxBackoff, 5*time.Second)
	duration(&c.MaxAdvisedWait, 10*time.Second)
	duration(&c.TokenFallbackLife, time.Minute)
	duration(&c.TokenBackoffMin, time.Second)
	duration(&c.TokenBackoffMax, time.Minute)
	if c.MaxAttempts <= 0 {
		c.MaxAttempts = 3
	}
	if c.TokenRenewAt <= 0 || c.TokenRenewAt > 1 {
		c.TokenRenewAt = 0.8
	}
	return c
}

// backoff gives the wait after the n-th failure in a row (n from 1): doubled
// each time up to longest, then spread over its upper half, so that many
// callers that failed together do not come back together.
func backoff(n int, shortest, longest time.Duration, jitter func() float64) time.Duration {
	d := longest
	if n < 31 {
		if grown := shortest << (n - 1); grown > 0 && grown < longest {
			d = grown
		}
	}
	half := d / 2
	return half + time.Duration(jitter()*float64(d-half))
}

func randomJitter() float64 {
	return rand.Float64() //nolint:gosec // spreads waits, guards no secret
}
