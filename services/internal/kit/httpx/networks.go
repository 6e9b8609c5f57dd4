package httpx

import (
	"fmt"
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

// Contain tells whether an address is in one of the ranges.
func (n Networks) Contain(addr netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Origin is the address that somebody comes from whose connection is peer's. What
// X-Forwarded-For says is believed of our own proxies alone, each of which names
// the one before it, the last proxy last. read takes such a name; where it is no
// address ok is false, and origin the proxy that let it through.
func Origin(peer netip.Addr, forwarded []string, proxies Networks, read func(hop string) (netip.Addr, error)) (origin netip.Addr, ok bool) {
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for len(hops) > 0 && proxies.Contain(peer) {
		hop := strings.TrimSpace(hops[len(hops)-1])
		hops = hops[:len(hops)-1]
		if hop == "" {
			continue
		}
		next, err := read(hop)
		if err != nil {
			return peer, false
		}
		peer = next
	}
	return peer, true
}
