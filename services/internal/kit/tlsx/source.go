package tlsx

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Source is what the files hold now. It is safe for concurrent use.
type Source struct {
	files Files
	log   *slog.Logger

	mu      sync.Mutex
	loaded  loaded
	server  *tls.Config // of loaded
	seen    []os.FileInfo
	settled bool   // no later write can hide behind the times of seen
	problem string // why the files of now are not in use; empty: they are
}

// Open reads the files for the first time. Unlike later, what can't be used is an
// error.
func Open(f Files, log *slog.Logger) (*Source, error) {
	if f == (Files{}) {
		return nil, errors.New("no certificate is named")
	}
	s := &Source{files: f, log: log}
	seen, settled := look(f)
	l, err := f.load()
	if err != nil {
		return nil, err
	}
	s.use(l, seen, settled)
	return s, nil
}

// Certificate is the certificate of now; nil where the files name none.
func (s *Source) Certificate() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().cert
}

// Authorities are those of now; nil where the files name none. The pool must not
// be changed.
func (s *Source) Authorities() *x509.CertPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().pool
}

// ServerOptions are what a server asks for beside the files.
type ServerOptions struct {
	Protocols []string // those of ALPN, the best first
	// Clients are names of which a client's certificate must have one, see [Named];
	// none: the authority's word is enough.
	Clients []string
}

// Server returns a configuration for servers whose every handshake uses the
// files of that moment. Where they name authorities, a client must have a
// certificate of theirs.
func (s *Source) Server(o ServerOptions) *tls.Config {
	outer := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: o.Protocols}
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now()
		c := s.server.Clone()
		c.NextProtos = o.Protocols
		if len(o.Clients) > 0 {
			c.VerifyConnection = o.verify
		}
		return c, nil
	}
	return outer
}

// verify refuses clients of other names, and those without a certificate.
func (o ServerOptions) verify(cs tls.ConnectionState) error {
	if len(cs.VerifiedChains) == 0 {
		return errors.New("the client showed no certificate")
	}
	if cert := cs.PeerCertificates[0]; !Named(cert, o.Clients) {
		return fmt.Errorf("the client's certificate is of %q, allowed are %q", Names(cert), o.Clients)
	}
	return nil
}

// Client returns a configuration of this moment for one connection to a server
// whose certificate has the name. Ask anew for the next one.
func (s *Source) Client(name string) *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.now()
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: l.pool}
	if l.cert != nil {
		// It is sent to whoever asks: where the server does not know its authority,
		// its refusal says so, which no certificate at all would hide.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.cert, nil }
	}
	return c
}

// now returns what to use, which it reads anew where the files have changed. The
// caller holds the lock.
func (s *Source) now() loaded {
	seen, settled := look(s.files)
	if s.settled && same(s.seen, seen) {
		return s.loaded
	}
	l, err := s.files.load()
	if err != nil {
		// What is seen stays as it was: the next connection looks again.
		if err.Error() != s.problem {
			s.problem = err.Error()
			s.log.Error("changed certificates can't be used; the old ones stay", "error", err)
		}
		return s.loaded
	}
	changed := s.problem != "" || !s.loaded.same(l)
	s.use(l, seen, settled)
	if changed {
		s.log.Info("certificates read anew", "ends", s.ends())
	}
	return s.loaded
}

func (s *Source) use(l loaded, seen []os.FileInfo, settled bool) {
	if s.server == nil || !s.loaded.same(l) {
		s.loaded = l
		s.server = &tls.Config{MinVersion: tls.VersionTLS12, ClientCAs: l.pool}
		if l.cert != nil {
			s.server.Certificates = []tls.Certificate{*l.cert}
		}
		if l.pool != nil {
			s.server.ClientAuth = tls.RequireAndVerifyClientCert
			// A ticket would let in a client whose authority is gone.
			s.server.SessionTicketsDisabled = true
		}
	}
	s.seen, s.settled, s.problem = seen, settled, ""
}

// ends is when the certificate does; the zero time where there is none.
func (s *Source) ends() time.Time {
	if s.loaded.cert == nil {
		return time.Time{}
	}
	return s.loaded.cert.Leaf.NotAfter
}

func (l loaded) same(other loaded) bool {
	if (l.cert == nil) != (other.cert == nil) || (l.pool == nil) != (other.pool == nil) {
		return false
	}
	if l.pool != nil && !l.pool.Equal(other.pool) {
		return false
	}
	// A chain may be renewed below the same leaf.
	return l.cert == nil || equalChains(l.cert.Certificate, other.cert.Certificate)
}

func equalChains(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
