package dev

import (
	"path/filepath"
	"strings"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/connector"
	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config is the connector's configuration and the sandbox's.
type Config struct {
	Connector connector.Config
	Sandbox   sandbox.Config
}

// Secrets that everybody knows, which is why connector-dev listens on the
// loopback interface and refuses to run in production. They are fixed so that
// tokens and chats survive a restart.
const (
	webhookSecret = "connector-dev-webhook-secret-not-for-production" //nolint:gosec // known on purpose
	tokenSecret   = "connector-dev-token-secret-not-for-production"   //nolint:gosec // known on purpose
)

const loopback = "127.0.0.1"

// Defaults is what makes the chat run without any setting: addresses of the
// loopback interface, the sandbox's account and credentials, and logs that
// leave the terminal to people.
func Defaults() Config {
	var c Config
	c.Connector.AdminAddr = loopback + ":9080"
	c.Connector.Log.Level, c.Connector.Log.Format = "warn", "text"
	c.Connector.Gateway.GRPCAddr, c.Connector.Gateway.HTTPAddr = loopback+":8080", loopback+":8081"
	c.Connector.Gateway.Auth.HS256Secret = tokenSecret
	c.Connector.Gateway.Auth.Issuer, c.Connector.Gateway.Auth.Audience = "axp-sandbox", "axp-chat-connector"
	c.Connector.Ingest.Addr = loopback + ":8082"
	c.Connector.Ingest.Keys.Secret = webhookSecret
	c.Connector.Orchestrator.Keyring.Secret = webhookSecret
	c.Connector.Orchestrator.WebhookPublicURL = "http://" + loopback + ":8082"
	c.Connector.Orchestrator.BaseURL = "http://" + loopback + ":8090"
	c.Connector.Orchestrator.AccountID = "SANDBX"
	c.Connector.Orchestrator.ClientID, c.Connector.Orchestrator.ClientSecret = "sandbox-client", "sandbox-secret"
	c.Connector.Orchestrator.AppKey = "sandbox-appkey"
	c.Connector.Orchestrator.ChannelProviderID = "sandbox-chat"
	c.Sandbox.Addr = loopback + ":8090"
	c.Sandbox.TokenSecret = tokenSecret
	return c
}

// Validate refuses production, and credentials that the sandbox does not know.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if env := strings.ToLower(c.Connector.Environment); env == "production" || env == "prod" {
		add("ENV", "is production: connector-dev has a sandbox and known secrets; run connector")
	}
	o := &c.Connector.Orchestrator
	for _, pair := range []struct{ key, got, want string }{
		{"AXP_ACCOUNT_ID", o.AccountID, c.Sandbox.AccountID},
		{"AXP_CLIENT_ID", o.ClientID, c.Sandbox.ClientID},
		{"AXP_CLIENT_SECRET", o.ClientSecret.Reveal(), c.Sandbox.ClientSecret.Reveal()},
		{"AXP_APP_KEY", o.AppKey.Reveal(), c.Sandbox.AppKey.Reveal()},
		{"AXP_CHANNEL_PROVIDER_ID", o.ChannelProviderID, c.Sandbox.ChannelProviderID},
	} {
		if pair.got != pair.want {
			add(pair.key, "differs from the sandbox's "+strings.Replace(pair.key, "AXP_", "SANDBOX_", 1)+"; for a real AXP account run connector")
		}
	}
	return ms
}

// Pointed is the connector's configuration with the addresses that were bound, of
// the sandbox and for callbacks.
func (c *Config) Pointed(axp, webhook string) connector.Config {
	out := c.Connector
	out.Orchestrator.BaseURL = URL(axp)
	out.Orchestrator.WebhookPublicURL = URL(webhook)
	return out
}

// sandboxFile is where the sandbox keeps its world beside the journal, so that
// both remember the same chats after a restart.
func (c *Config) sandboxFile() string {
	if c.Sandbox.DataFile != "" || c.Connector.DataDir == "" {
		return c.Sandbox.DataFile
	}
	return filepath.Join(c.Connector.DataDir, "sandbox.json")
}
