package bus

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// files are the PEM files of the connection.
func (c *Config) files() tlsx.Files {
	return tlsx.Files{Cert: c.CertFile, Key: c.KeyFile, CA: c.CAFile}
}

// secure returns what makes a connection use the files. They are read anew, where
// they have changed, for every connection that is made: a renewed certificate, or
// another authority, needs no restart.
func (b *Bus) secure() ([]nats.Option, error) {
	files := b.cfg.files()
	if files == (tlsx.Files{}) {
		return nil, nil
	}
	source, err := tlsx.Open(files, b.log)
	if err != nil {
		return nil, err
	}
	var cert nats.TLSCertHandler
	var authorities nats.RootCAsHandler
	if files.Cert != "" {
		cert = func() (tls.Certificate, error) { return *source.Certificate(), nil }
	}
	if files.CA != "" {
		authorities = func() (*x509.CertPool, error) { return source.Authorities(), nil }
	}
	return []nats.Option{nats.ClientTLSConfig(cert, authorities)}, nil
}

// inboxPrefix is where answers to this service arrive. With a certificate the
// service is a user of its own, which must not hear the answers to others.
func (b *Bus) inboxPrefix(service string) string {
	if b.cfg.InboxPrefix == "" && b.cfg.CertFile != "" {
		return "_INBOX_" + service
	}
	return b.cfg.InboxPrefix
}
