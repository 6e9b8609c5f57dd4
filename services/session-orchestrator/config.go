package orchestrator

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/internal/rotation"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/backfill"
	"github.com/axpchat/connector/services/session-orchestrator/internal/idle"
	"github.com/axpchat/connector/services/session-orchestrator/internal/outbox"
	"github.com/axpchat/connector/services/session-orchestrator/internal/parameters"
	"github.com/axpchat/connector/services/session-orchestrator/internal/provisioning"
	"github.com/axpchat/connector/services/session-orchestrator/internal/reaper"
)

// Config is the configuration of the session-orchestrator.
type Config struct {
	GRPCAddr      string        `env:"ORCHESTRATOR_GRPC_ADDR" default:":8083" doc:"Address of the orchestrator's gRPC service, for the gateway."`
	Callers       []string      `env:"ORCHESTRATOR_ALLOWED_CLIENTS" default:"gateway" doc:"Who may call, where client certificates are asked for (GRPC_TLS_CLIENT_CA_FILE): DNS names or URIs that such a certificate has one of." example:"gateway,spiffe://cluster.local/ns/chat/sa/gateway"`
	AdminAddr     string        `env:"ADMIN_ADDR" default:":9083" doc:"Address of health, metrics and version."`
	ShutdownGrace time.Duration `env:"SHUTDOWN_GRACE" default:"25s" doc:"How long draining may take; less than the time that the platform gives before it kills."`

	BaseURL           string        `env:"AXP_BASE_URL" reload:"true" doc:"Origin of AXP's API: scheme, host, port. Also for accounts of the list that name none." example:"https://eu.api.avayacloud.com"`
	AccountID         string        `env:"AXP_ACCOUNT_ID" reload:"true" doc:"AXP account (tenant) id, six letters; for several accounts use the list." example:"ABCDEF"`
	ClientID          string        `env:"AXP_CLIENT_ID" reload:"true" doc:"OAuth client id of the connector in AXP."`
	ClientSecret      config.Secret `env:"AXP_CLIENT_SECRET" reload:"true" doc:"OAuth client secret of the connector in AXP."`
	AppKey            config.Secret `env:"AXP_APP_KEY" reload:"true" doc:"AXP application key, sent with every call."`
	ChannelProviderID string        `env:"AXP_CHANNEL_PROVIDER_ID" reload:"true" doc:"Id of the Chat connector element in AXP's element inventory."`
	ChannelID         string        `env:"AXP_CHANNEL_ID" reload:"true" default:"Chat" doc:"Channel of new engagements."`
	MediaHosts        []string      `env:"AXP_MEDIA_HOSTS" reload:"true" doc:"Hosts, beside that of AXP_BASE_URL, that signed media addresses may point to; a leading dot means any subdomain."`
	Accounts          []axp.Account `yaml:"accounts" reload:"true" doc:"One entry for each AXP account; instead of, or beside, the account of the AXP_ variables."`

	WebhookPublicURL string `env:"WEBHOOK_PUBLIC_URL" required:"true" doc:"Where AXP reaches webhook-ingest; the callback URL is built on it." example:"https://chat.example.com"`

	AXP        axp.Config
	Removal    accounts.Config
	Keyring    keyring.Config
	Rotation   rotation.Config
	Webhook    provisioning.Config
	Outbox     outbox.Config
	Backfill   backfill.Config
	Idle       idle.Config
	Reaper     reaper.Config
	Parameters parameters.Config
	Bus        bus.Config
	GRPC       grpcx.ServerConfig
	Operator   OperatorConfig
	Log        logx.Config
	Telemetry  telemetry.Config
}

// AccountList is every account to serve: the one of the variables, if there is
// one, and those of the list, with what they leave open filled in.
func (c *Config) AccountList() []axp.Account {
	var out []axp.Account
	if c.AccountID != "" {
		out = append(out, axp.Account{
			AccountID: c.AccountID, ClientID: c.ClientID, ClientSecret: c.ClientSecret, AppKey: c.AppKey,
			ChannelProviderID: c.ChannelProviderID, ChannelID: c.ChannelID, BaseURL: c.BaseURL, MediaHosts: c.MediaHosts,
		})
	}
	for _, a := range c.Accounts {
		if a.BaseURL == "" {
			a.BaseURL = c.BaseURL
		}
		out = append(out, a)
	}
	return out
}

// Validate reports what concerns more than one field.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	all := c.AccountList()
	if len(all) == 0 {
		add("AXP_ACCOUNT_ID", "is required: set it and the other AXP_ variables, or list accounts in the configuration file")
	}
	seen, ids := map[string]bool{}, map[string]bool{}
	for i, a := range all {
		key := func(field string) string { return "AXP_" + strings.ToUpper(field) }
		if n := i - (len(all) - len(c.Accounts)); n >= 0 {
			key = func(field string) string { return fmt.Sprintf("accounts[%d].%s", n, field) }
		}
		// AXP promises nothing about case, so it must not be what tells two apart.
		if folded := strings.ToUpper(a.AccountID); seen[folded] {
			add(key("account_id"), "is there twice")
		} else {
			seen[folded] = true
		}
		ids[a.AccountID] = true
		for field, problem := range problems(a.Validate()) {
			add(key(field), problem)
		}
	}
	if c.ShutdownGrace <= 0 {
		add("SHUTDOWN_GRACE", "must be more than 0")
	}
	if c.Outbox.MaxAge >= c.Bus.OutboxMaxAge {
		// Else NATS would drop the message before anybody tells the customer.
		add("OUTBOX_MAX_AGE", "must be less than OUTBOX_RETENTION")
	}
	if c.Outbox.MaxAge > c.Bus.OutboxWindow {
		// Else a repeat whose first time the journal has lost (EVENTS_RETENTION,
		// EVENTS_MAX_BYTES) could be sent once more instead of being too old.
		add("OUTBOX_MAX_AGE", "must be at most OUTBOX_DUPLICATE_WINDOW")
	}
	for _, o := range c.Idle.Accounts {
		if !ids[o.AccountID] {
			add("idle_rules", "names account "+o.AccountID+", which is not configured")
		}
	}
	if c.WebhookPublicURL != "" {
		if u, err := url.Parse(c.WebhookPublicURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			add("WEBHOOK_PUBLIC_URL", "must be an absolute URL, such as https://chat.example.com")
		}
	}
	ms = append(ms, config.ListenMistakes("ORCHESTRATOR_GRPC_ADDR", c.GRPCAddr)...)
	return append(ms, config.ListenMistakes("ADMIN_ADDR", c.AdminAddr)...)
}

// problems takes an account's joined error apart, by field.
func problems(err error) map[string]string {
	out := map[string]string{}
	if err == nil {
		return out
	}
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	for _, p := range parts {
		field, text, _ := strings.Cut(p.Error(), ": ")
		out[field] = text
	}
	return out
}
