package ingest

import (
	"net/http"
	"strings"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/proxied"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/rotation"
)

// Config is what the service itself can be told. A main adds what its process
// needs: NATS, log, admin address.
type Config struct {
	Addr             string        `env:"WEBHOOK_ADDR" default:":8082" doc:"Address for AXP's callbacks: POST /webhooks/axp/{account}/{key}."`
	Accounts         []string      `env:"WEBHOOK_ACCOUNTS" reload:"true" doc:"AXP accounts whose callbacks are taken; empty: every one whose key is right." example:"ABCDEF"`
	ChannelProviders []string      `env:"WEBHOOK_CHANNEL_PROVIDERS" doc:"Channel providers whose events clients are told; those of others are set aside. Empty: all." example:"fjord-bikes-webchat"`
	AllowedNetworks  []string      `env:"WEBHOOK_ALLOWED_NETWORKS" doc:"Addresses and ranges that callbacks are taken from; empty: any. AXP documents none." example:"203.0.113.0/24"`
	TrustedProxies   []string      `env:"WEBHOOK_TRUSTED_PROXIES" doc:"Addresses and ranges of our own proxies, whose X-Forwarded-For is believed for WEBHOOK_ALLOWED_NETWORKS." example:"10.0.0.0/8"`
	CertFile         string        `env:"WEBHOOK_TLS_CERT_FILE" doc:"Certificate chain of the listener in PEM, read anew when it changes; none: no TLS, which is for a proxy in front."`
	KeyFile          string        `env:"WEBHOOK_TLS_KEY_FILE" doc:"Private key of the certificate in PEM."`
	ClientCAFile     string        `env:"WEBHOOK_TLS_CLIENT_CA_FILE" doc:"Certificate authorities in PEM, one of which must vouch for who calls, read anew when they change; none: callers need no certificate."`
	ClientNames      []string      `env:"WEBHOOK_TLS_CLIENT_NAMES" doc:"DNS names or URIs of which a caller's certificate must have one; empty: the authority's word is enough, which is right for an authority that serves nobody else." example:"callbacks.example.com"`
	MaxBody          config.Bytes  `env:"WEBHOOK_MAX_BODY" default:"1MiB" doc:"Largest callback body; NATS must be able to carry it (its max_payload)."`
	ReadTimeout      time.Duration `env:"WEBHOOK_READ_TIMEOUT" default:"3s" doc:"How long a callback's body may take to arrive."`
	RouteWait        time.Duration `env:"WEBHOOK_ROUTE_WAIT" default:"1500ms" doc:"How long a callback whose session is not known yet is held."`
	RouteHolds       int           `env:"WEBHOOK_ROUTE_HOLDS" default:"64" doc:"How many such callbacks are held at a time; more are set aside at once."`
	StoreTimeout     time.Duration `env:"WEBHOOK_STORE_TIMEOUT" default:"2s" doc:"How long storing is tried before AXP is answered 503; AXP itself gives up after 5s."`
	MaxConcurrent    int           `env:"WEBHOOK_MAX_CONCURRENT" default:"256" doc:"Callbacks worked at a time; more are answered 503."`
	SignatureHeader  string        `env:"WEBHOOK_SIGNATURE_HEADER" doc:"Header with an HMAC-SHA-256 of the body, in hex or base64; empty: none is asked for."`
	SignatureSecret  config.Secret `env:"WEBHOOK_SIGNATURE_SECRET" doc:"Secret of that signature; at least 16 bytes."`

	Keys     keyring.Config
	Rotation rotation.Config
	HTTP     httpx.ServerConfig
	Proxied  proxied.Config
}

// answerLimit is what reading, routing and storing may take together: AXP gives up
// after five seconds, of which the network needs some.
const answerLimit = 4 * time.Second

// minSecret is the shortest secret of a signature, in bytes.
const minSecret = 16

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	for _, account := range c.Accounts {
		if !isAccount(account) {
			add("WEBHOOK_ACCOUNTS", "must be account ids of six letters each")
			break
		}
	}
	for _, n := range []struct {
		key  string
		list []string
	}{{"WEBHOOK_ALLOWED_NETWORKS", c.AllowedNetworks}, {"WEBHOOK_TRUSTED_PROXIES", c.TrustedProxies}} {
		if _, err := httpx.ParseNetworks(n.list); err != nil {
			add(n.key, "must be addresses or ranges such as 203.0.113.0/24")
		}
	}
	ms = append(ms, config.ListenMistakes("WEBHOOK_ADDR", c.Addr)...)
	ms = append(ms, c.files().Mistakes(tlsx.Keys{Cert: "WEBHOOK_TLS_CERT_FILE", Key: "WEBHOOK_TLS_KEY_FILE"})...)
	if c.ClientCAFile != "" && c.CertFile == "" {
		add("WEBHOOK_TLS_CLIENT_CA_FILE", "needs WEBHOOK_TLS_CERT_FILE too")
	}
	if len(c.ClientNames) > 0 && c.ClientCAFile == "" {
		add("WEBHOOK_TLS_CLIENT_NAMES", "needs WEBHOOK_TLS_CLIENT_CA_FILE too")
	}
	if c.MaxBody < 1024 {
		add("WEBHOOK_MAX_BODY", "must be at least 1KiB")
	}
	if c.ReadTimeout <= 0 || c.ReadTimeout > answerLimit {
		add("WEBHOOK_READ_TIMEOUT", "must be above 0 and at most "+answerLimit.String()+": AXP gives up after 5s")
	}
	if c.RouteWait < 0 {
		add("WEBHOOK_ROUTE_WAIT", "must not be negative")
	}
	if c.RouteHolds < 1 {
		add("WEBHOOK_ROUTE_HOLDS", "must be at least 1")
	}
	if c.StoreTimeout < 100*time.Millisecond {
		add("WEBHOOK_STORE_TIMEOUT", "must be at least 100ms")
	} else if c.StoreTimeout+c.RouteWait > answerLimit {
		add("WEBHOOK_STORE_TIMEOUT", "must be at most "+answerLimit.String()+" together with WEBHOOK_ROUTE_WAIT: AXP gives up after 5s")
	}
	if c.MaxConcurrent < 1 {
		add("WEBHOOK_MAX_CONCURRENT", "must be at least 1")
	}
	switch secret := c.SignatureSecret.Reveal(); {
	case c.SignatureHeader == "" && secret != "":
		add("WEBHOOK_SIGNATURE_HEADER", "is missing: WEBHOOK_SIGNATURE_SECRET is set")
	case c.SignatureHeader != "" && len(secret) < minSecret:
		add("WEBHOOK_SIGNATURE_SECRET", "must have at least 16 bytes where WEBHOOK_SIGNATURE_HEADER is set")
	case c.SignatureHeader != "" && (strings.ContainsAny(c.SignatureHeader, " :\t") || http.CanonicalHeaderKey(c.SignatureHeader) == "Authorization"):
		add("WEBHOOK_SIGNATURE_HEADER", "must be the name of a header of its own")
	}
	return ms
}

func (c *Config) files() tlsx.Files {
	return tlsx.Files{Cert: c.CertFile, Key: c.KeyFile, CA: c.ClientCAFile}
}

func isAccount(s string) bool {
	return len(s) == 6 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz") == ""
}
