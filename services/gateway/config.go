package gateway

import (
	"time"

	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/proxied"
)

// Config is what the gateway can be told. A main adds what its process needs:
// NATS, log, admin address.
type Config struct {
	GRPCAddr         string        `env:"GATEWAY_GRPC_ADDR" default:":8080" doc:"Address of ChatService for apps (gRPC)."`
	HTTPAddr         string        `env:"GATEWAY_HTTP_ADDR" default:":8081" doc:"Address of REST, WebSocket, server-sent events, long polling, API description and web chat."`
	OrchestratorAddr string        `env:"ORCHESTRATOR_ADDR" default:"localhost:8083" doc:"Address of the session-orchestrator's gRPC service."`
	Reflection       bool          `env:"GRPC_REFLECTION" default:"true" doc:"Let gRPC tools ask for the description of the API."`
	MaxBody          config.Bytes  `env:"HTTP_MAX_BODY" default:"256KiB" doc:"Largest body of a REST request."`
	RequestTimeout   time.Duration `env:"REQUEST_TIMEOUT" default:"30s" doc:"How long one command may take."`
	WebChat          bool          `env:"WEB_CHAT" default:"true" doc:"Show the web chat at /."`
	WebTokenURL      string        `env:"WEB_TOKEN_URL" doc:"Where the web chat fetches the customer's token; empty: it says that logging in is not set up."`
	WebCompany       string        `env:"WEB_COMPANY_NAME" doc:"Name of the company on the web chat's page."`

	Tenants  tenants.Config
	Auth     auth.Config
	Tickets  tickets.Config
	Limits   limits.Config
	Streams  stream.Config
	Delivery delivery.Config
	GRPC     grpcx.ServerConfig
	Client   grpcx.ClientConfig
	HTTP     httpx.ServerConfig
	HTTPTLS  httpx.TLSConfig
	Proxied  proxied.Config
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var out []config.Mistake
	add := func(key, problem string) { out = append(out, config.Mistake{Key: key, Problem: problem}) }
	if c.MaxBody < 1<<10 {
		add("HTTP_MAX_BODY", "must be at least 1KiB")
	}
	if c.RequestTimeout <= 0 {
		add("REQUEST_TIMEOUT", "must be above 0s")
	}
	if c.GRPC.MaxRecvBytes > 0 && c.Streams.FrameBytes > c.GRPC.MaxRecvBytes {
		add("STREAM_FRAME_BYTES", "must be at most GRPC_MAX_RECV_BYTES")
	}
	out = append(out, config.ListenMistakes("GATEWAY_GRPC_ADDR", c.GRPCAddr)...)
	return append(out, config.ListenMistakes("GATEWAY_HTTP_ADDR", c.HTTPAddr)...)
}
