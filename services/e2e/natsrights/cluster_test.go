package natsrights

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

// TestNoServicesCertificateOpensARoute: who opens one is every user at once.
func TestNoServicesCertificateOpensARoute(t *testing.T) {
	ca := tlsxtest.NewAuthority(t)
	c := startThree(t, ca)
	cfg := c.config(t, svcOrchestrator)
	mine := tlsx.Files{Cert: cfg.CertFile, Key: cfg.KeyFile}
	for _, tt := range []struct {
		name  string
		files tlsx.Files
		opens bool
	}{
		{"a server's own", c.routes, true},
		{"a service's", mine, false},
		{"none", tlsx.Files{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := c.knock(t, tt.files); (err == nil) != tt.opens {
				t.Errorf("opens: %v", err)
			}
		})
	}
	// Nor are routes' certificates of use to clients.
	nc, err := nats.Connect(c.url, nats.ClientCert(c.routes.Cert, c.routes.Key), nats.RootCAs(cfg.CAFile), nats.NoReconnect())
	if err == nil {
		nc.Close()
		t.Error("a client comes in with a route's certificate")
	}
}

// knock begins a route with a certificate, and hears what the server says to it.
func (c *cluster) knock(t *testing.T, files tlsx.Files) error {
	t.Helper()
	pem, err := os.ReadFile(c.routes.CA)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
	cfg.RootCAs.AppendCertsFromPEM(pem)
	if files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: cfg}).DialContext(t.Context(), "tcp", c.server.ClusterAddr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1)) // INFO; with TLS 1.3 a refusal comes here
	return err
}
