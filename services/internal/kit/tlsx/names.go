package tlsx

import (
	"crypto/x509"
	"slices"
	"strings"
)

// Names are the identities that a certificate's authority vouches for: its DNS
// names and URIs, such as spiffe://cluster/ns/chat/sa/gateway. Its common name,
// which authorities do not vouch for, is none.
func Names(cert *x509.Certificate) []string {
	out := make([]string, 0, len(cert.DNSNames)+len(cert.URIs))
	for _, n := range cert.DNSNames {
		out = append(out, strings.ToLower(n))
	}
	for _, u := range cert.URIs {
		out = append(out, u.String())
	}
	return out
}

// Named tells whether the certificate has one of the names. DNS names are
// compared regardless of case; a wildcard of the certificate is itself alone.
func Named(cert *x509.Certificate, names []string) bool {
	has := Names(cert)
	return slices.ContainsFunc(names, func(n string) bool {
		return slices.Contains(has, n) || !strings.Contains(n, "://") && slices.Contains(has, strings.ToLower(n))
	})
}
