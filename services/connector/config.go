package connector

import (
	"time"

	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	ingest "github.com/axpchat/connector/services/webhook-ingest"

	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

// Config is the configuration of the process: that of its services, and what
// embedding adds. A setting that several services know is read once and given to
// all of them.
type Config struct {
	DataDir     string        `env:"DATA_DIR" default:"./data" doc:"Where the embedded NATS server keeps everything; not used where NATS_URL is set."`
	NATSListen  string        `env:"NATS_LISTEN" doc:"Address at which the embedded NATS server can be reached from outside, without a password; empty: not at all." example:"127.0.0.1:4222"`
	NATSStore   config.Bytes  `env:"NATS_MAX_STORE" default:"4GiB" doc:"Largest size of the embedded NATS server's data."`
	AdminAddr   string        `env:"ADMIN_ADDR" default:":9080" doc:"Address for health, metrics and version."`
	Delay       time.Duration `env:"SHUTDOWN_DELAY" default:"0s" doc:"How long to go on as usual after readiness is off, so that load balancers notice."`
	Grace       time.Duration `env:"SHUTDOWN_GRACE" default:"30s" doc:"How long everything may take to end."`
	Environment string        `env:"ENV" doc:"Name of the environment; connector-dev refuses to run where it is production."`

	Bus          bus.Config
	Log          logx.Config
	Telemetry    telemetry.Config
	Reload       config.Reload
	Gateway      gateway.Config
	Orchestrator orchestrator.Config
	Ingest       ingest.Config
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	if c.Bus.URL == "" && c.DataDir == "" {
		ms = append(ms, config.Mistake{Key: "DATA_DIR", Problem: "is required where NATS_URL is empty"})
	}
	if c.Bus.URL == "" && c.Bus.Replicas != 1 {
		ms = append(ms, config.Mistake{Key: "NATS_REPLICAS", Problem: "must be 1 with the embedded NATS server"})
	}
	if c.Bus.URL != "" && c.NATSListen != "" {
		ms = append(ms, config.Mistake{Key: "NATS_LISTEN", Problem: "is for the embedded NATS server, but NATS_URL names another one"})
	}
	if c.NATSStore < 64<<20 {
		ms = append(ms, config.Mistake{Key: "NATS_MAX_STORE", Problem: "must be at least 64MiB"})
	} else if c.Bus.URL == "" && c.NATSStore <= max(c.Bus.UnroutedBytes, 0)+max(c.Bus.MaxBytes, 0) {
		ms = append(ms, config.Mistake{Key: "NATS_MAX_STORE", Problem: "must be more than UNROUTED_MAX_BYTES and EVENTS_MAX_BYTES together, which NATS reserves of it"})
	}
	if c.Grace <= 0 {
		ms = append(ms, config.Mistake{Key: "SHUTDOWN_GRACE", Problem: "must be above 0"})
	}
	return append(ms, config.ListenMistakes("ADMIN_ADDR", c.AdminAddr)...)
}
