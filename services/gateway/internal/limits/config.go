package limits

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// Rate is how much of something: so many at once, and as many again over a time,
// evenly. It is written as 60/1m; sizes as 1MiB/10s; off is no limit. The zero
// value is not set.
type Rate struct {
	N   int64
	Per time.Duration
}

var errRate = errors.New("is not a rate such as 60/1m or 1MiB/10s, nor off")

// off is how a rate without a limit is written.
const off = "off"

// UnmarshalText reads a rate as [Rate] describes it.
func (r *Rate) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == off {
		*r = Rate{Per: time.Second}
		return nil
	}
	n, per, ok := strings.Cut(string(text), "/")
	size, err := config.ParseBytes(n)
	if !ok || err != nil || size < 1 {
		return errRate
	}
	d, err := time.ParseDuration(strings.TrimSpace(per))
	if err != nil || d < time.Second || d > 24*time.Hour {
		return errRate
	}
	*r = Rate{N: int64(size), Per: d}
	return nil
}

// MarshalText writes the rate as people would.
func (r Rate) MarshalText() ([]byte, error) {
	if r.N == 0 {
		return []byte(off), nil
	}
	n := strconv.FormatInt(r.N, 10)
	if r.N >= 1<<20 {
		n = config.Bytes(r.N).String()
	}
	return []byte(n + "/" + r.Per.String()), nil
}

// set tells whether the rate says anything.
func (r Rate) set() bool { return r.Per > 0 }

// Config says how much each may have. A figure is what is allowed at once, and
// comes back over its time.
type Config struct {
	TrustedProxies []string `env:"GATEWAY_TRUSTED_PROXIES" doc:"Addresses and ranges of our own proxies and load balancers, whose X-Forwarded-For is believed for the limits per address. Without it everybody behind one of them has one address." example:"10.0.0.0/8"`
	TableSize      int      `env:"LIMIT_TABLE_SIZE" default:"20000" doc:"How many sessions, customers, addresses and connections are remembered each; who was not seen for longest is forgotten first. Some 100 bytes each."`

	ConnectionFrames   Rate `env:"LIMIT_CONNECTION_FRAMES" default:"600/10s" doc:"Calls and frames of one connection: so many at once, and over the time as many again. Written as 600/10s, or off."`
	ConnectionMessages Rate `env:"LIMIT_CONNECTION_MESSAGES" default:"100/30s" doc:"Messages of one connection."`
	ConnectionBytes    Rate `env:"LIMIT_CONNECTION_BYTES" default:"8MiB/10s" doc:"Bytes that one connection may send."`

	SessionConnects Rate `env:"LIMIT_SESSION_CONNECTS" default:"120/1m" doc:"Streams that may be opened on one session."`
	SessionFrames   Rate `env:"LIMIT_SESSION_FRAMES" default:"600/10s" doc:"Calls and frames in one session."`
	SessionMessages Rate `env:"LIMIT_SESSION_MESSAGES" default:"100/30s" doc:"Messages in one session."`
	SessionBytes    Rate `env:"LIMIT_SESSION_BYTES" default:"8MiB/10s" doc:"Bytes that are sent in one session."`
	SessionStreams  int  `env:"LIMIT_SESSION_STREAMS" default:"50" doc:"Streams that are open on one session at a time, in one gateway; 0: no limit. A poll that waits counts as one."`

	CustomerConnects Rate `env:"LIMIT_CUSTOMER_CONNECTS" default:"240/1m" doc:"Streams that one customer may open."`
	CustomerFrames   Rate `env:"LIMIT_CUSTOMER_FRAMES" default:"1000/10s" doc:"Calls and frames of one customer."`
	CustomerMessages Rate `env:"LIMIT_CUSTOMER_MESSAGES" default:"200/30s" doc:"Messages of one customer."`
	CustomerBytes    Rate `env:"LIMIT_CUSTOMER_BYTES" default:"16MiB/10s" doc:"Bytes that one customer may send."`
	CustomerSessions Rate `env:"LIMIT_CUSTOMER_SESSIONS" default:"60/10m" doc:"Sessions that one customer may create. With SESSION_TTL it bounds how many he has open."`
	CustomerStreams  int  `env:"LIMIT_CUSTOMER_STREAMS" default:"100" doc:"Streams that one customer has open at a time, in one gateway; 0: no limit."`

	AddressConnects Rate `env:"LIMIT_ADDRESS_CONNECTS" default:"6000/1m" doc:"Streams that may be opened from one address (IPv6: one /64). Whole companies share one."`
	AddressFrames   Rate `env:"LIMIT_ADDRESS_FRAMES" default:"20000/10s" doc:"Calls and frames from one address, refused ones with them."`
	AddressMessages Rate `env:"LIMIT_ADDRESS_MESSAGES" default:"5000/10s" doc:"Messages from one address."`
	AddressBytes    Rate `env:"LIMIT_ADDRESS_BYTES" default:"128MiB/10s" doc:"Bytes that are sent from one address."`
	AddressSessions Rate `env:"LIMIT_ADDRESS_SESSIONS" default:"3000/10m" doc:"Sessions that may be created from one address."`
	AddressStreams  int  `env:"LIMIT_ADDRESS_STREAMS" default:"20000" doc:"Streams that are open from one address at a time, in one gateway; 0: no limit."`

	AccountConnects Rate `env:"LIMIT_ACCOUNT_CONNECTS" default:"60000/1m" doc:"Streams that may be opened by all customers of one account, across gateways; so for the other limits of accounts."`
	AccountFrames   Rate `env:"LIMIT_ACCOUNT_FRAMES" default:"100000/10s" doc:"Calls and frames of one account."`
	AccountMessages Rate `env:"LIMIT_ACCOUNT_MESSAGES" default:"20000/10s" doc:"Messages of one account."`
	AccountBytes    Rate `env:"LIMIT_ACCOUNT_BYTES" default:"512MiB/10s" doc:"Bytes that are sent by one account's customers."`
	AccountSessions Rate `env:"LIMIT_ACCOUNT_SESSIONS" default:"30000/10m" doc:"Sessions that may be created in one account."`
	AccountStreams  int  `env:"LIMIT_ACCOUNT_STREAMS" default:"200000" doc:"Streams that one account's customers have open at a time; 0: no limit."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var out []config.Mistake
	if _, err := httpx.ParseNetworks(c.TrustedProxies); err != nil {
		out = append(out, config.Mistake{Key: "GATEWAY_TRUSTED_PROXIES", Problem: "must be addresses or ranges such as 10.0.0.0/8"})
	}
	if c.TableSize < 100 || c.TableSize > 10_000_000 {
		out = append(out, config.Mistake{Key: "LIMIT_TABLE_SIZE", Problem: "must be 100 to 10000000"})
	}
	for _, s := range []struct {
		key string
		n   int
	}{
		{"LIMIT_SESSION_STREAMS", c.SessionStreams},
		{"LIMIT_CUSTOMER_STREAMS", c.CustomerStreams},
		{"LIMIT_ADDRESS_STREAMS", c.AddressStreams},
		{"LIMIT_ACCOUNT_STREAMS", c.AccountStreams},
	} {
		if s.n < 0 {
			out = append(out, config.Mistake{Key: s.key, Problem: "must not be negative"})
		}
	}
	return out
}

// Account is what one account may have instead of what the configuration says of
// all. What is not set holds as configured.
type Account struct {
	Connects Rate `yaml:"limit_connects" doc:"Instead of LIMIT_ACCOUNT_CONNECTS."`
	Frames   Rate `yaml:"limit_frames" doc:"Instead of LIMIT_ACCOUNT_FRAMES."`
	Messages Rate `yaml:"limit_messages" doc:"Instead of LIMIT_ACCOUNT_MESSAGES."`
	Bytes    Rate `yaml:"limit_bytes" doc:"Instead of LIMIT_ACCOUNT_BYTES."`
	Sessions Rate `yaml:"limit_sessions" doc:"Instead of LIMIT_ACCOUNT_SESSIONS."`
	Streams  int  `yaml:"limit_streams" doc:"Instead of LIMIT_ACCOUNT_STREAMS."`
}

// rates are the limits of one scope, by kind.
type rates [kinds]Rate

func (c *Config) rates(s Scope) (rates, int) {
	switch s {
	case Connection:
		return rates{Frames: c.ConnectionFrames, Messages: c.ConnectionMessages, Bytes: c.ConnectionBytes}, 0
	case Session:
		return rates{Connects: c.SessionConnects, Frames: c.SessionFrames, Messages: c.SessionMessages, Bytes: c.SessionBytes}, c.SessionStreams
	case Customer:
		return rates{c.CustomerConnects, c.CustomerFrames, c.CustomerMessages, c.CustomerBytes, c.CustomerSessions}, c.CustomerStreams
	case Address:
		return rates{c.AddressConnects, c.AddressFrames, c.AddressMessages, c.AddressBytes, c.AddressSessions}, c.AddressStreams
	default:
		return rates{c.AccountConnects, c.AccountFrames, c.AccountMessages, c.AccountBytes, c.AccountSessions}, c.AccountStreams
	}
}

// over puts what is set in its place.
func (a *Account) over(r rates, streams int) (rates, int) {
	for kind, own := range (rates{a.Connects, a.Frames, a.Messages, a.Bytes, a.Sessions}) {
		if own.set() {
			r[kind] = own
		}
	}
	if a.Streams > 0 {
		streams = a.Streams
	}
	return r, streams
}
