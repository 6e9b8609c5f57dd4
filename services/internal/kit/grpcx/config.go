package grpcx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/axpchat/connector/services/internal/kit/config"
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
	CertFile              string        `env:"GRPC_TLS_CERT_FILE" doc:"Certificate chain of the server in PEM; none: no TLS."`
	KeyFile               string        `env:"GRPC_TLS_KEY_FILE" doc:"Private key of the certificate in PEM."`
	ClientCAFile          string        `env:"GRPC_TLS_CLIENT_CA_FILE" doc:"Certificate authorities in PEM whose clients are let in; none: clients need no certificate."`
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
	})
	out = append(out, tooBig("GRPC_MAX_RECV_BYTES", c.MaxRecvBytes)...)
	out = append(out, pair("GRPC_TLS_CERT_FILE", c.CertFile, "GRPC_TLS_KEY_FILE", c.KeyFile)...)
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
	return c
}

// credentials reads the files once; a renewed certificate needs a restart.
func (c ServerConfig) credentials() (credentials.TransportCredentials, error) {
	if c.CertFile == "" && c.KeyFile == "" {
		if c.ClientCAFile != "" {
			return nil, errors.New("client certificates are asked for, but there is no certificate of the server")
		}
		return insecure.NewCredentials(), nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate of the server: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if c.ClientCAFile != "" {
		if t.ClientCAs, err = pool(c.ClientCAFile); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(t), nil
}

// ClientConfig says how a service calls another one. Zero values stand for the
// defaults.
type ClientConfig struct {
	MaxRecvBytes     config.Bytes  `env:"GRPC_CLIENT_MAX_RECV_BYTES" default:"4MiB" doc:"Largest answer that a client takes."`
	KeepaliveTime    time.Duration `env:"GRPC_CLIENT_KEEPALIVE_TIME" default:"30s" doc:"Silence on a connection after which the client asks whether the server is still there; at least the server's GRPC_KEEPALIVE_MIN_TIME."`
	KeepaliveTimeout time.Duration `env:"GRPC_CLIENT_KEEPALIVE_TIMEOUT" default:"10s" doc:"How long the server may take to answer that."`
	CAFile           string        `env:"GRPC_CLIENT_TLS_CA_FILE" doc:"Certificate authorities in PEM that may vouch for the server; none: no TLS."`
	CertFile         string        `env:"GRPC_CLIENT_TLS_CERT_FILE" doc:"Certificate chain of the client in PEM, if the server asks for one."`
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
	out = append(out, pair("GRPC_CLIENT_TLS_CERT_FILE", c.CertFile, "GRPC_CLIENT_TLS_KEY_FILE", c.KeyFile)...)
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

func (c ClientConfig) credentials() (credentials.TransportCredentials, error) {
	if c.CAFile == "" {
		if c.CertFile != "" || c.KeyFile != "" {
			return nil, errors.New("there is a certificate of the client, but no authority for the server's")
		}
		return insecure.NewCredentials(), nil
	}
	roots, err := pool(c.CAFile)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: c.ServerName}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate of the client: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(t), nil
}

func pool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities: %s holds no certificate", file)
	}
	return p, nil
}

// or returns v unless it is zero.
func or[T comparable](v, preset T) T {
	var zero T
	if v == zero {
		return preset
	}
	return v
}
