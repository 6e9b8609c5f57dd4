package tlsx

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Files are names of PEM files. Cert and Key belong together; CA holds the
// authorities that may vouch for the other side.
type Files struct {
	Cert, Key, CA string
}

// Keys are the settings that the names come from, for mistakes that name them.
type Keys struct {
	Cert, Key, CA string
}

// Mistakes reports a certificate without its key, and a key without its
// certificate.
func (f Files) Mistakes(k Keys) []config.Mistake {
	switch {
	case f.Cert != "" && f.Key == "":
		return []config.Mistake{{Key: k.Key, Problem: "is needed with " + k.Cert}}
	case f.Cert == "" && f.Key != "":
		return []config.Mistake{{Key: k.Cert, Problem: "is needed with " + k.Key}}
	}
	return nil
}

// loaded is what the files held.
type loaded struct {
	cert *tls.Certificate
	pool *x509.CertPool
}

func (f Files) load() (loaded, error) {
	var l loaded
	if f.Cert != "" || f.Key != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return loaded{}, fmt.Errorf("certificate %s: %w", f.Cert, err)
		}
		l.cert = &cert
	}
	if f.CA != "" {
		pool, err := authorities(f.CA)
		if err != nil {
			return loaded{}, fmt.Errorf("certificate authorities %s: %w", f.CA, err)
		}
		l.pool = pool
	}
	return l, nil
}

// authorities reads a bundle as a whole: x509's own reader skips what it does not
// understand, and would take the half of a file that is being written for all.
func authorities(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		n++
	}
	switch {
	case n == 0:
		return nil, errors.New("holds no certificate")
	case beginsBlock(rest):
		return nil, errors.New("ends within a certificate")
	}
	return pool, nil
}
