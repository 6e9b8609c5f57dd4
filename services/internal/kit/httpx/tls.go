package httpx

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// TLSConfig names the certificate of a server for apps and browsers, whom nobody
// asks for one of theirs.
type TLSConfig struct {
	CertFile string `env:"HTTP_TLS_CERT_FILE" doc:"Certificate chain of the HTTP server in PEM, read anew when it changes; none: no TLS, which is for a proxy in front."`
	KeyFile  string `env:"HTTP_TLS_KEY_FILE" doc:"Private key of the certificate in PEM."`
}

// Validate refuses one file without the other.
func (c TLSConfig) Validate() []config.Mistake {
	return c.Files().Mistakes(tlsx.Keys{Cert: "HTTP_TLS_CERT_FILE", Key: "HTTP_TLS_KEY_FILE"})
}

// Files are those that are configured, perhaps none.
func (c TLSConfig) Files() tlsx.Files { return tlsx.Files{Cert: c.CertFile, Key: c.KeyFile} }

// Secure returns the listener with TLS, or as it is where no file is named. It
// speaks HTTP/1.1 as the server does without TLS; HTTP/2 is for a proxy in front.
// Where the files have authorities, clients need a certificate of theirs, and one
// of the names, if there are any.
func Secure(lis net.Listener, f tlsx.Files, clients []string, log *slog.Logger) (net.Listener, error) {
	if f == (tlsx.Files{}) {
		return lis, nil
	}
	source, err := tlsx.Open(f, log)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tls.NewListener(lis, source.Server(tlsx.ServerOptions{Protocols: []string{"http/1.1"}, Clients: clients})), nil
}
