package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// refusalsEvery is how often a failed handshake is told of: strangers can make any
// number of them.
const refusalsEvery = 10 * time.Second

// credentials are plain where no certificate is configured. What the files hold is
// read anew when they change.
func (c ServerConfig) credentials(log *slog.Logger) (credentials.TransportCredentials, error) {
	f := c.files()
	if f.Cert == "" && f.Key == "" {
		if f.CA != "" {
			return nil, errors.New("client certificates are asked for, but there is no certificate of the server")
		}
		return insecure.NewCredentials(), nil
	}
	source, err := tlsx.Open(f, log)
	if err != nil {
		return nil, err
	}
	return &serverCredentials{
		TransportCredentials: credentials.NewTLS(source.Server(tlsx.ServerOptions{})),
		refused:              logx.Sparse(log, refusalsEvery),
	}, nil
}

// serverCredentials tell of handshakes that fail: gRPC keeps them to itself, and
// the other side learns little.
type serverCredentials struct {
	credentials.TransportCredentials
	refused *slog.Logger
}

// ServerHandshake is that of TLS.
func (c *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		c.refused.Warn("TLS handshake failed", "error", handshakeFault(err))
	}
	return conn, info, err
}

// handshakeFault leaves out whose connection it was: addresses of customers are not for logs.
func handshakeFault(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// Clone returns the credentials themselves, which never change.
func (c *serverCredentials) Clone() credentials.TransportCredentials { return c }

func (c ClientConfig) credentials(log *slog.Logger) (credentials.TransportCredentials, error) {
	f := c.files()
	if f.CA == "" {
		if f.Cert != "" || f.Key != "" {
			return nil, errors.New("there is a certificate of the client, but no authority for the server's")
		}
		return insecure.NewCredentials(), nil
	}
	source, err := tlsx.Open(f, log)
	if err != nil {
		return nil, err
	}
	return &clientCredentials{
		TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}),
		source:               source, failed: logx.Sparse(log, refusalsEvery),
	}, nil
}

// clientCredentials are TLS with what the files hold when a connection is made.
// The embedded ones say what they are.
type clientCredentials struct {
	credentials.TransportCredentials
	source *tlsx.Source
	failed *slog.Logger
}

// ClientHandshake checks that the server is who the authority says.
func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := credentials.NewTLS(c.source.Client("")).ClientHandshake(ctx, authority, raw)
	if err != nil {
		// Calls fail with UNAVAILABLE, as they do when the server is not there.
		c.failed.WarnContext(ctx, "TLS handshake failed", "server", authority, "error", err)
	}
	return conn, info, err
}

// Clone returns the credentials themselves, which never change.
func (c *clientCredentials) Clone() credentials.TransportCredentials { return c }
