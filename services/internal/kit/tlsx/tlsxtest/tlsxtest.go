// Package tlsxtest makes authorities and certificates inside a test. For tests
// only.
package tlsxtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// Authority signs certificates of a test.
type Authority struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	// Cert is the authority's own certificate, PEM the same as files hold it.
	Cert *x509.Certificate
	PEM  []byte
}

// NewAuthority makes one of its own key, valid for an hour.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "authority of " + t.Name()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// Pair is a certificate and its key in PEM.
type Pair struct{ Cert, Key []byte }

// Issue makes a certificate for servers and clients with the names: addresses,
// URIs and DNS names. It is valid for an hour; the changes come last.
func (a *Authority) Issue(names []string, changes ...func(*x509.Certificate)) Pair {
	a.t.Helper()
	c := &x509.Certificate{
		SerialNumber: serial(a.t), Subject: pkix.Name{CommonName: "of " + a.t.Name()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
			continue
		}
		if u, err := url.Parse(n); err == nil && strings.Contains(n, "://") {
			c.URIs = append(c.URIs, u)
			continue
		}
		c.DNSNames = append(c.DNSNames, n)
	}
	for _, change := range changes {
		change(c)
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, c, a.Cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// Expired makes a certificate end a minute ago.
func Expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

// Files writes the pair and the authorities, one after the other, into a folder of
// their own. Either may be left out.
func Files(t testing.TB, p Pair, authorities ...*Authority) tlsx.Files {
	t.Helper()
	dir := t.TempDir()
	var f tlsx.Files
	if p.Cert != nil {
		f.Cert, f.Key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	}
	if len(authorities) > 0 {
		f.CA = filepath.Join(dir, "ca.crt")
	}
	Write(t, f, p, authorities...)
	return f
}

// Write replaces the files that f names, each as a whole and none at the same time
// as another, as renewals do.
func Write(t testing.TB, f tlsx.Files, p Pair, authorities ...*Authority) {
	t.Helper()
	var bundle []byte
	for _, a := range authorities {
		bundle = append(bundle, a.PEM...)
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{f.Cert, p.Cert}, {f.Key, p.Key}, {f.CA, bundle}} {
		if file.name == "" || file.data == nil {
			continue
		}
		if err := os.WriteFile(file.name+".new", file.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file.name+".new", file.name); err != nil {
			t.Fatal(err)
		}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
