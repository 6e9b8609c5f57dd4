package limits

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

func (n Networks) contain(addr netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// client is the address that somebody comes from. What X-Forwarded-For says is
// believed of our own proxies alone, each of which names the one before it, the
// last proxy last. A name that is no address ends it: who is told apart then is
// the proxy that let it through.
func client(peer netip.Addr, forwarded []string, proxies Networks) netip.Addr {
	addr := peer.Unmap().WithZone("")
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for len(hops) > 0 && proxies.contain(addr) {
		hop := strings.TrimSpace(hops[len(hops)-1])
		hops = hops[:len(hops)-1]
		if hop == "" {
			continue
		}
		next, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			withPort, err := netip.ParseAddrPort(hop)
			if err != nil {
				return addr
			}
			next = withPort.Addr()
		}
		addr = next.Unmap().WithZone("")
	}
	return addr
}

// ipv6Bits is what one customer of a provider has at least: whoever has a /64 has
// all of its addresses.
const ipv6Bits = 64

// block is what counts as one address.
func block(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = ipv6Bits
	}
	p, _ := addr.Prefix(bits) // the zero prefix where there is no address
	return p
}
