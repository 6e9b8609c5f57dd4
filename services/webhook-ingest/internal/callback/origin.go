package callback

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Networks are ranges of addresses.
type Networks []netip.Prefix

// ParseNetworks reads ranges such as 203.0.113.0/24, and single addresses.
func ParseNetworks(list []string) (Networks, error) {
	out := make(Networks, 0, len(list))
	for _, text := range list {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no address and no range of them", text)
		}
		out = append(out, prefix.Masked())
	}
	return out, nil
}

func (n Networks) contain(addr netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// caller is the address that a call comes from; the zero address where that can't
// be told. What X-Forwarded-For says is believed of our own proxies alone, each of
// which names the one before it, the last proxy last.
func caller(r *http.Request, proxies Networks) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for len(hops) > 0 && proxies.contain(addr) {
		hop := strings.TrimSpace(hops[len(hops)-1])
		hops = hops[:len(hops)-1]
		if hop == "" {
			continue
		}
		if withPort, err := netip.ParseAddrPort(hop); err == nil {
			addr = withPort.Addr().Unmap()
		} else if addr, err = netip.ParseAddr(hop); err != nil {
			return netip.Addr{}
		}
		addr = addr.Unmap()
	}
	return addr
}

// welcome tells whether calls are taken from where this one comes from.
func (h *Handler) welcome(r *http.Request) bool {
	return len(h.p.Allowed) == 0 || h.p.Allowed.contain(caller(r, h.p.Proxies))
}
