// Package tenants owns what the gateway is told about single accounts: which
// are served, and the origins whose pages may speak for their customers.
//
// Invariants: readers get an immutable snapshot, so one request is judged by one
// configuration however often it is replaced; an account that is not listed has
// no tenant as soon as any is listed. The package knows neither tokens nor HTTP:
// whoever has found out whose request it is asks here.
package tenants

import (
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Config says who is served. Its zero value serves every account and no pages
// but the gateway's own.
type Config struct {
	AllowedOrigins []string `env:"HTTP_ALLOWED_ORIGINS" reload:"true" doc:"Origins, beside the gateway's own, whose pages may use the API from a browser, whatever the account." example:"https://www.example.com"`
	Tenants        []Tenant `yaml:"tenants" reload:"true" doc:"Accounts whose customers are served, with what each has of its own. Tokens of other accounts are refused; without a list those of every account are taken."`
}

// Tenant is what one account has of its own.
type Tenant struct {
	// AccountID is AXP's account id, compared with that of tokens as it is written.
	AccountID string `yaml:"account_id" required:"true" doc:"AXP account (tenant) id, six letters, as it stands in tokens." example:"ABCDEF"`
	// AllowedOrigins are those whose pages may use the API with its tokens.
	AllowedOrigins []string `yaml:"allowed_origins" doc:"Origins, beside the gateway's own and HTTP_ALLOWED_ORIGINS, whose pages may use the API from a browser with tokens and tickets of this account." example:"https://www.example.com"`
	// Limits are what its customers may have together.
	Limits limits.Account
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	const form = "each must be an origin such as https://www.example.com"
	if !areOrigins(c.AllowedOrigins) {
		add("HTTP_ALLOWED_ORIGINS", form)
	}
	seen := map[string]bool{}
	for i, t := range c.Tenants {
		key := func(name string) string { return fmt.Sprintf("tenants[%d].%s", i, name) }
		switch {
		case !isAccount(t.AccountID):
			add(key("account_id"), "must be six letters")
		case seen[t.AccountID]:
			add(key("account_id"), "is there twice")
		}
		seen[t.AccountID] = true
		if !areOrigins(t.AllowedOrigins) {
			add(key("allowed_origins"), form)
		}
		if t.Limits.Streams < 0 {
			add(key("limit_streams"), "must not be negative")
		}
	}
	return ms
}

func isAccount(s string) bool {
	return len(s) == 6 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz") == ""
}

// areOrigins takes no wildcard: whoever wants everybody in has not thought
// about it.
func areOrigins(list []string) bool {
	for _, text := range list {
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return false
		}
	}
	return true
}

// Book holds the configuration in force. It is safe for concurrent use.
type Book struct {
	current atomic.Pointer[snapshot]
}

// snapshot is a configuration, made for looking things up. It never changes.
type snapshot struct {
	tenants map[string]tenant // nil: every account is served
	all     origins           // allowed whatever the account
	any     origins           // allowed for at least one account
}

type tenant struct {
	Tenant

	origins origins
}

// origins is a set of them, in lower case.
type origins map[string]bool

func (o origins) add(list []string) {
	for _, text := range list {
		o[strings.ToLower(text)] = true
	}
}

// NewBook makes a book of a configuration without mistakes.
func NewBook(c Config) *Book {
	b := &Book{}
	b.Set(c)
	return b
}

// Set replaces the configuration. Requests that are being judged are judged by
// the one before.
func (b *Book) Set(c Config) {
	s := &snapshot{all: origins{}, any: origins{}}
	s.all.add(c.AllowedOrigins)
	s.any.add(c.AllowedOrigins)
	for _, t := range c.Tenants {
		if s.tenants == nil {
			s.tenants = make(map[string]tenant, len(c.Tenants))
		}
		own := tenant{Tenant: t, origins: origins{}}
		own.origins.add(t.AllowedOrigins)
		s.any.add(t.AllowedOrigins)
		s.tenants[t.AccountID] = own
	}
	b.current.Store(s)
}

// Tenant is what an account has of its own, and whether it is served. Where no
// tenants are listed every account is, with nothing of its own.
func (b *Book) Tenant(account string) (Tenant, bool) {
	s := b.current.Load()
	if s.tenants == nil {
		return Tenant{AccountID: account}, true
	}
	t, ok := s.tenants[account]
	return t.Tenant, ok
}

// Limits is what an account may have of its own.
func (b *Book) Limits(account string) limits.Account {
	return b.current.Load().tenants[account].Limits
}

// Admit fails with ACCOUNT_UNKNOWN where an account is not served.
func (b *Book) Admit(account string) error {
	if _, ok := b.Tenant(account); !ok {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN, "the account is not served here")
	}
	return nil
}

// Listed tells whether tenants are listed, so that origins depend on the account.
func (b *Book) Listed() bool { return b.current.Load().tenants != nil }

// AllowsAny tells whether pages of an origin may speak for customers of at least
// one account. It is for the moment when the account is not known yet.
func (b *Book) AllowsAny(origin string) bool {
	return b.current.Load().any[strings.ToLower(origin)]
}

// Allows tells whether pages of an origin may speak for customers of the account.
func (b *Book) Allows(account, origin string) bool {
	s := b.current.Load()
	origin = strings.ToLower(origin)
	return s.all[origin] || s.tenants[account].origins[origin]
}
