package grpcx

import (
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// ServerConfig says how a gRPC server treats its connections. Zero values stand
// for the defaults.
type ServerConfig struct {
	MaxRecvBytes          config.Bytes  `env:"GRPC_MAX_RECV_BYTES" default:"256KiB" doc:"Largest message that a server takes."`
	MaxConcurrentStreams  int           `env:"GRPC_MAX_CONCURRENT_STREAMS" default:"1000" doc:"Calls and streams that one connection may have open at once."`
	KeepaliveTime         time.Duration `env:"GRPC_KEEPALIVE_TIME" default:"20s" doc:"Silence on a connection after which the server asks whether the other side is still there."`
	KeepaliveTimeout      time.Duration `env:"GRPC_KEEPALIVE_TIMEOUT" default:"10s" doc:"How long the other side may take to answer that."`
	KeepaliveMinTime      time.Duration `env:"GRPC_KEEPALIVE_MIN_TIME" default:"10s" doc:"Clients that ask more often than this are cut off."`
	MaxConnectionAge      time.Duration `env:"GRPC_MAX_CONNECTION_AGE" default:"0s" doc:"Age at which a connection is asked to go, so that load spreads over new servers; 0s: never."`
	MaxConnectionAgeGrace time.Duration `env:"GRPC_MAX_CONNECTION_AGE_GRACE" default:"30s" doc:"How long its calls and streams may go on after that."`
	MaxConnectionIdle     time.Duration `env:"GRPC_MAX_CONNECTION_IDLE" default:"5m" doc:"How long a connection without a call or stream is kept."`
	HandshakeTimeout      time.Duration `env:"GRPC_HANDSHAKE_TIMEOUT" default:"10s" doc:"How long a new connection may take, with TLS, until it is ready for calls."`
	MessageTimeout        time.Duration `env:"GRPC_MESSAGE_TIMEOUT" default:"15s" doc:"How long the message of a call, or of a stream that takes one message, may take to arrive."`
	CertFile              string        `env:"GRPC_TLS_CERT_FILE" doc:"Certificate chain of the server in PEM, read anew when it changes; none: no TLS."`
	KeyFile               string        `env:"GRPC_TLS_KEY_FILE" doc:"Private key of the certificate in PEM."`
	ClientCAFile          string        `env:"GRPC_TLS_CLIENT_CA_FILE" doc:"Certificate authorities in PEM whose clients are let in, read anew when they change; none: clients need no certificate."`
}

// Validate checks what concerns more than one field.
func (c ServerConfig) Validate() []config.Mistake {
	out := negative(map[string]int64{
		"GRPC_MAX_CONCURRENT_STREAMS":   int64(c.MaxConcurrentStreams),
		"GRPC_KEEPALIVE_TIME":           int64(c.KeepaliveTime),
		"GRPC_KEEPALIVE_TIMEOUT":        int64(c.KeepaliveTimeout),
		"GRPC_KEEPALIVE_MIN_TIME":       int64(c.KeepaliveMinTime),
		"GRPC_MAX_CONNECTION_AGE":       int64(c.MaxConnectionAge),
		"GRPC_MAX_CONNECTION_AGE_GRACE": int64(c.MaxConnectionAgeGrace),
		"GRPC_MAX_CONNECTION_IDLE":      int64(c.MaxConnectionIdle),
		"GRPC_HANDSHAKE_TIMEOUT":        int64(c.HandshakeTimeout),
		"GRPC_MESSAGE_TIMEOUT":          int64(c.MessageTimeout),
	})
	out = append(out, tooBig("GRPC_MAX_RECV_BYTES", c.MaxRecvBytes)...)
	out = append(out, c.files().Mistakes(serverKeys())...)
	if c.ClientCAFile != "" && c.CertFile == "" {
		out = append(out, config.Mistake{Key: "GRPC_TLS_CLIENT_CA_FILE", Problem: "needs GRPC_TLS_CERT_FILE too"})
	}
	return out
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.MaxRecvBytes = or(c.MaxRecvBytes, 256<<10)
	c.MaxConcurrentStreams = or(c.MaxConcurrentStreams, 1000)
	c.KeepaliveTime = or(c.KeepaliveTime, 20*time.Second)
	c.KeepaliveTimeout = or(c.KeepaliveTimeout, 10*time.Second)
	c.KeepaliveMinTime = or(c.KeepaliveMinTime, 10*time.Second)
	c.MaxConnectionAgeGrace = or(c.MaxConnectionAgeGrace, 30*time.Second)
	c.MaxConnectionIdle = or(c.MaxConnectionIdle, 5*time.Minute)
	c.HandshakeTimeout = or(c.HandshakeTimeout, 10*time.Second)
	c.MessageTimeout = or(c.MessageTimeout, 15*time.Second)
	return c
}

func serverKeys() tlsx.Keys {
	return tlsx.Keys{Cert: "GRPC_TLS_CERT_FILE", Key: "GRPC_TLS_KEY_FILE", CA: "GRPC_TLS_CLIENT_CA_FILE"}
}

func (c ServerConfig) files() tlsx.Files {
	return tlsx.Files{Cert: c.CertFile, Key: c.KeyFile, CA: c.ClientCAFile}
}

// ClientConfig says how a service calls another one. Zero values stand for the
// defaults.
type ClientConfig struct {
	MaxRecvBytes     config.Bytes  `env:"GRPC_CLIENT_MAX_RECV_BYTES" default:"4MiB" doc:"Largest answer that a client takes."`
	KeepaliveTime    time.Duration `env:"GRPC_CLIENT_KEEPALIVE_TIME" default:"30s" doc:"Silence on a connection after which the client asks whether the server is still there; at least the server's GRPC_KEEPALIVE_MIN_TIME."`
	KeepaliveTimeout time.Duration `env:"GRPC_CLIENT_KEEPALIVE_TIMEOUT" default:"10s" doc:"How long the server may take to answer that."`
	CAFile           string        `env:"GRPC_CLIENT_TLS_CA_FILE" doc:"Certificate authorities in PEM that may vouch for the server, read anew when they change; none: no TLS."`
	CertFile         string        `env:"GRPC_CLIENT_TLS_CERT_FILE" doc:"Certificate chain of the client in PEM, if the server asks for one; read anew when it changes."`
	KeyFile          string        `env:"GRPC_CLIENT_TLS_KEY_FILE" doc:"Private key of the client's certificate in PEM."`
	ServerName       string        `env:"GRPC_CLIENT_TLS_SERVER_NAME" doc:"Name that the server's certificate must have; none: the host of the address."`
}

// Validate checks what concerns more than one field.
func (c ClientConfig) Validate() []config.Mistake {
	out := negative(map[string]int64{
		"GRPC_CLIENT_KEEPALIVE_TIME":    int64(c.KeepaliveTime),
		"GRPC_CLIENT_KEEPALIVE_TIMEOUT": int64(c.KeepaliveTimeout),
	})
	out = append(out, tooBig("GRPC_CLIENT_MAX_RECV_BYTES", c.MaxRecvBytes)...)
	out = append(out, c.files().Mistakes(clientKeys())...)
	if c.CAFile == "" && c.CertFile != "" {
		out = append(out, config.Mistake{Key: "GRPC_CLIENT_TLS_CERT_FILE", Problem: "needs GRPC_CLIENT_TLS_CA_FILE too"})
	}
	return out
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.MaxRecvBytes = or(c.MaxRecvBytes, 4<<20)
	c.KeepaliveTime = or(c.KeepaliveTime, 30*time.Second)
	c.KeepaliveTimeout = or(c.KeepaliveTimeout, 10*time.Second)
	return c
}

func clientKeys() tlsx.Keys {
	return tlsx.Keys{Cert: "GRPC_CLIENT_TLS_CERT_FILE", Key: "GRPC_CLIENT_TLS_KEY_FILE", CA: "GRPC_CLIENT_TLS_CA_FILE"}
}

func (c ClientConfig) files() tlsx.Files {
	return tlsx.Files{Cert: c.CertFile, Key: c.KeyFile, CA: c.CAFile}
}

// or returns v unless it is zero.
func or[T comparable](v, preset T) T {
	var zero T
	if v == zero {
		return preset
	}
	return v
}
