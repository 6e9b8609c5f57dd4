package callback

import (
	"net/http"
	"net/netip"

	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// caller is the address that a call comes from; the zero address where that can't
// be told.
func caller(r *http.Request, proxies httpx.Networks) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	origin, ok := httpx.Origin(peer.Addr().Unmap(), r.Header.Values("X-Forwarded-For"), proxies, func(hop string) (netip.Addr, error) {
		if withPort, err := netip.ParseAddrPort(hop); err == nil {
			return withPort.Addr().Unmap(), nil
		}
		addr, err := netip.ParseAddr(hop)
		return addr.Unmap(), err
	})
	if !ok {
		return netip.Addr{}
	}
	return origin
}

// welcome tells whether calls are taken from where this one comes from.
func (h *Handler) welcome(r *http.Request) bool {
	return len(h.p.Allowed) == 0 || h.p.Allowed.Contain(caller(r, h.p.Proxies))
}
