package axp

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	dialTimeout         = 5 * time.Second
	idleConnections     = 64
	idleConnTimeout     = 90 * time.Second
	maxResponseHeader   = 64 << 10
	http2PingAfter      = 15 * time.Second
	http2PingTimeout    = 5 * time.Second
	continueWaitTimeout = time.Second
)

// NewTransport gives the HTTP transport of a Client: HTTP/2 where AXP offers
// it, connections kept for reuse, silent ones found dead by pings. tlsConfig
// may be nil; TLS 1.2 is the least that is spoken.
func NewTransport(tlsConfig *tls.Config) *http.Transport {
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: http2PingAfter}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           2 * idleConnections,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  continueWaitTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: http2PingAfter,
			PingTimeout:     http2PingTimeout,
		},
	}
}

// newHTTPClient wraps a transport. Redirects are answers, not orders: following
// one could carry the token, or a customer's words, to another host.
func newHTTPClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// withoutURL drops the address from an error of net/http: that of a medium is
// a secret, and one of a list names a session.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}
