package grpcx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

type both struct {
	Server grpcx.ServerConfig
	Client grpcx.ClientConfig
}

func TestConfigDefaults(t *testing.T) {
	var got both
	if err := config.Load(&got, config.Map(nil)); err != nil {
		t.Fatal(err)
	}
	want := both{
		Server: grpcx.ServerConfig{
			MaxRecvBytes: 256 << 10, MaxConcurrentStreams: 1000, KeepaliveTime: 20 * time.Second, KeepaliveTimeout: 10 * time.Second,
			KeepaliveMinTime: 10 * time.Second, MaxConnectionAgeGrace: 30 * time.Second,
		},
		Client: grpcx.ClientConfig{MaxRecvBytes: 4 << 20, KeepaliveTime: 30 * time.Second, KeepaliveTimeout: 10 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, both{Server: grpcx.WithServerDefaults(grpcx.ServerConfig{}), Client: grpcx.WithClientDefaults(grpcx.ClientConfig{})}); diff != "" {
		t.Errorf("zero values stand for other defaults: %s", diff)
	}
}

func TestConfigMistakes(t *testing.T) {
	cases := []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"negative times", map[string]string{"GRPC_KEEPALIVE_TIME": "-1s", "GRPC_CLIENT_KEEPALIVE_TIMEOUT": "-1s"}, []string{"GRPC_KEEPALIVE_TIME", "GRPC_CLIENT_KEEPALIVE_TIMEOUT"}},
		{"messages beyond the protocol", map[string]string{"GRPC_MAX_RECV_BYTES": "2GiB", "GRPC_CLIENT_MAX_RECV_BYTES": "3GiB"}, []string{"GRPC_MAX_RECV_BYTES", "GRPC_CLIENT_MAX_RECV_BYTES"}},
		{"a certificate without its key", map[string]string{"GRPC_TLS_CERT_FILE": "c"}, []string{"GRPC_TLS_KEY_FILE"}},
		{"a key without its certificate", map[string]string{"GRPC_TLS_KEY_FILE": "k"}, []string{"GRPC_TLS_CERT_FILE"}},
		{"authorities of clients without TLS", map[string]string{"GRPC_TLS_CLIENT_CA_FILE": "c"}, []string{"GRPC_TLS_CLIENT_CA_FILE"}},
		{"a client's certificate without TLS", map[string]string{"GRPC_CLIENT_TLS_CERT_FILE": "c", "GRPC_CLIENT_TLS_KEY_FILE": "k"}, []string{"GRPC_CLIENT_TLS_CERT_FILE"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var mistakes config.Errors
			if err := config.Load(&both{}, config.Map(c.env)); !errors.As(err, &mistakes) {
				t.Fatalf("got %v", err)
			}
			var keys []string
			for _, m := range mistakes {
				keys = append(keys, m.Key)
			}
			if diff := cmp.Diff(c.want, keys); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// authority makes certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.key, a.cert = a.issue(t, "ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue writes name.pem and name.key.
func (a *authority) issue(t testing.TB, name string, c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(1), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	server := grpcx.ServerConfig{CertFile: a.file("server.pem"), KeyFile: a.file("server.key")}
	mutual := server
	mutual.ClientCAFile = a.file("ca.pem")
	plain := grpcx.ClientConfig{}
	trusting := grpcx.ClientConfig{CAFile: a.file("ca.pem")}
	known := trusting
	known.CertFile, known.KeyFile = a.file("client.pem"), a.file("client.key")
	misnamed := trusting
	misnamed.ServerName = "elsewhere.example"
	cases := []struct {
		name   string
		server grpcx.ServerConfig
		client grpcx.ClientConfig
		good   bool
	}{
		{"both without", grpcx.ServerConfig{}, plain, true},
		{"both with", server, trusting, true},
		{"both with certificates", mutual, known, true},
		{"a client without", server, plain, false},
		{"a client without a certificate", mutual, trusting, false},
		{"a server of another name", server, misnamed, false},
		{"a server without", grpcx.ServerConfig{}, trusting, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			addr := serveTCP(t, c.server)
			conn, err := grpcx.Dial(addr, c.client, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, err = axpchatv1.NewChatServiceClient(conn).SendMessage(patient(t), message())
			if c.good != (err == nil) || err != nil && !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	a := newAuthority(t)
	missing, notPEM := a.file("missing"), a.file("text")
	if err := os.WriteFile(notPEM, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []grpcx.ServerConfig{
		{CertFile: missing, KeyFile: missing}, {CertFile: a.file("ca.pem")}, {KeyFile: a.file("ca.key")}, {ClientCAFile: a.file("ca.pem")},
		{CertFile: a.file("ca.pem"), KeyFile: a.file("ca.key"), ClientCAFile: notPEM},
		{CertFile: a.file("ca.pem"), KeyFile: a.file("ca.key"), ClientCAFile: missing},
	} {
		if _, err := grpcx.NewServer(grpcx.ServerParams{Log: (&records{}).logger(), Config: c}); err == nil {
			t.Errorf("server %+v was made", c)
		}
	}
	for _, c := range []grpcx.ClientConfig{
		{CAFile: missing}, {CAFile: notPEM}, {CertFile: a.file("ca.pem"), KeyFile: a.file("ca.key")}, {CAFile: a.file("ca.pem"), CertFile: missing, KeyFile: missing},
	} {
		if conn, err := grpcx.Dial("127.0.0.1:1", c, nil); err == nil {
			_ = conn.Close()
			t.Errorf("client %+v was made", c)
		}
	}
}
