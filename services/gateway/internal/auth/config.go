package auth

import (
	"net/url"
	"regexp"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config says which tokens are accepted.
type Config struct {
	HS256Secret    config.Secret `env:"AUTH_HS256_SECRET" doc:"Secret that tokens are signed with (HS256), at least 32 bytes. Either this or AUTH_JWKS_URL."`
	JWKSURL        string        `env:"AUTH_JWKS_URL" doc:"Address of the key set that tokens are signed with (RS256, PS256, ES256 or EdDSA)." example:"https://login.example.com/.well-known/jwks.json"`
	Issuer         string        `env:"AUTH_ISSUER" doc:"The only issuer (iss) whose tokens are accepted; empty: any."`
	Audience       string        `env:"AUTH_AUDIENCE" doc:"Audience (aud) that a token must name; empty: any."`
	DefaultAccount string        `env:"AUTH_DEFAULT_ACCOUNT" doc:"AXP account of tokens that have no claim account."`
	Leeway         time.Duration `env:"AUTH_LEEWAY" default:"30s" doc:"How far the clocks of issuer and connector may differ."`
}

const minSecret = 32

var accountPattern = regexp.MustCompile(`^[A-Za-z]{6}$`)

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var out []config.Mistake
	add := func(key, problem string) { out = append(out, config.Mistake{Key: key, Problem: problem}) }
	secret := c.HS256Secret.Reveal()
	switch {
	case secret == "" && c.JWKSURL == "":
		add("AUTH_HS256_SECRET", "is required where AUTH_JWKS_URL is not set")
	case secret != "" && c.JWKSURL != "":
		add("AUTH_JWKS_URL", "must not be set together with AUTH_HS256_SECRET")
	case secret != "" && len(secret) < minSecret:
		add("AUTH_HS256_SECRET", "must have at least 32 bytes")
	case c.JWKSURL != "":
		if u, err := url.Parse(c.JWKSURL); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
			add("AUTH_JWKS_URL", "is not an http or https address")
		}
	}
	if c.DefaultAccount != "" && !accountPattern.MatchString(c.DefaultAccount) {
		add("AUTH_DEFAULT_ACCOUNT", "must be six letters")
	}
	if c.Leeway < 0 || c.Leeway > 5*time.Minute {
		add("AUTH_LEEWAY", "must be 0s to 5m")
	}
	return out
}
