package sandbox

import (
	"regexp"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config is how the sandbox behaves. The defaults make a demonstration; tests
// shorten the delays.
type Config struct {
	Addr              string        `env:"SANDBOX_ADDR" default:":8090" doc:"Address of the AXP API, the agent desk and the control API."`
	AccountID         string        `env:"SANDBOX_ACCOUNT_ID" default:"SANDBX" doc:"The account that exists, six letters."`
	ClientID          string        `env:"SANDBOX_CLIENT_ID" default:"sandbox-client" doc:"The client that may have tokens."`
	ClientSecret      config.Secret `env:"SANDBOX_CLIENT_SECRET" default:"sandbox-secret" doc:"Its secret."`
	AppKey            config.Secret `env:"SANDBOX_APP_KEY" default:"sandbox-appkey" doc:"The application key."`
	ChannelProviderID string        `env:"SANDBOX_CHANNEL_PROVIDER_ID" default:"sandbox-chat" doc:"The Chat connector element that exists."`
	TokenLifetime     time.Duration `env:"SANDBOX_TOKEN_LIFETIME" default:"15m" doc:"Life of an access token."`
	ActivationDelay   time.Duration `env:"SANDBOX_ACTIVATION_DELAY" default:"150ms" doc:"From Create Engagement until the dialog is ACTIVE."`
	QueueMessage      bool          `env:"SANDBOX_QUEUE_MESSAGE" default:"true" doc:"Tell customers their place in the queue."`
	AutoAgent         bool          `env:"SANDBOX_AUTO_AGENT" default:"true" doc:"Let an automatic agent serve customers; the desk can switch it."`
	AgentName         string        `env:"SANDBOX_AGENT_NAME" default:"Robin" doc:"Name of the automatic agent, and of an agent at the desk who gives none."`
	AcceptDelay       time.Duration `env:"SANDBOX_AGENT_ACCEPT_DELAY" default:"1s" doc:"How long the automatic agent lets a customer wait."`
	ReplyDelay        time.Duration `env:"SANDBOX_AGENT_REPLY_DELAY" default:"600ms" doc:"How long the automatic agent takes to answer."`
	RetryDelay        time.Duration `env:"SANDBOX_RETRY_DELAY" default:"5s" doc:"When a callback that failed is sent again."`
	MaxAttempts       int           `env:"SANDBOX_MAX_ATTEMPTS" default:"10" doc:"After so many attempts a callback is given up."`
	CallbackTimeout   time.Duration `env:"SANDBOX_CALLBACK_TIMEOUT" default:"5s" doc:"How long a receiver of callbacks may take."`
	AllowHTTP         bool          `env:"SANDBOX_ALLOW_HTTP_CALLBACKS" default:"true" doc:"Take callback URLs without TLS; AXP itself wants https."`
	Seed              uint64        `env:"SANDBOX_SEED" default:"1" doc:"Makes faults with a probability repeatable."`
	DataFile          string        `env:"SANDBOX_DATA_FILE" doc:"Where the sandbox keeps its world over a restart; empty: in memory only."`
	TokenSecret       config.Secret `env:"AUTH_HS256_SECRET" doc:"Signs customers' tokens at /dev/token; the same as the gateway's."`
	TokenIssuer       string        `env:"AUTH_ISSUER" default:"axp-sandbox" doc:"Issuer in customers' tokens."`
	TokenAudience     string        `env:"AUTH_AUDIENCE" default:"axp-chat-connector" doc:"Audience in customers' tokens."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	wrong := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if !accountPattern.MatchString(c.AccountID) {
		wrong("SANDBOX_ACCOUNT_ID", "must be six letters")
	}
	if n := len(c.ChannelProviderID); n < 3 || n > 256 {
		wrong("SANDBOX_CHANNEL_PROVIDER_ID", "must have 3 to 256 characters")
	}
	ms = append(ms, config.ListenMistakes("SANDBOX_ADDR", c.Addr)...)
	if c.MaxAttempts < 1 {
		wrong("SANDBOX_MAX_ATTEMPTS", "must be at least 1")
	}
	if c.TokenLifetime < time.Second {
		wrong("SANDBOX_TOKEN_LIFETIME", "must be at least 1s")
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"SANDBOX_RETRY_DELAY", c.RetryDelay}, {"SANDBOX_CALLBACK_TIMEOUT", c.CallbackTimeout}} {
		if d.value <= 0 {
			wrong(d.key, "must be more than 0")
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"SANDBOX_ACTIVATION_DELAY", c.ActivationDelay}, {"SANDBOX_AGENT_ACCEPT_DELAY", c.AcceptDelay}, {"SANDBOX_AGENT_REPLY_DELAY", c.ReplyDelay}} {
		if d.value < 0 {
			wrong(d.key, "must not be negative")
		}
	}
	return ms
}

var accountPattern = regexp.MustCompile(`^[a-zA-Z]{6}$`)
