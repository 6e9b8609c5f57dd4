package limits

import (
	"net/netip"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// client is the address that somebody comes from. A name in X-Forwarded-For that
// is no address ends it: who is told apart then is the proxy that let it through.
func client(peer netip.Addr, forwarded []string, proxies httpx.Networks) netip.Addr {
	origin, _ := httpx.Origin(plain(peer), forwarded, proxies, func(hop string) (netip.Addr, error) {
		addr, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			var withPort netip.AddrPort
			withPort, err = netip.ParseAddrPort(hop)
			addr = withPort.Addr()
		}
		return plain(addr), err
	})
	return origin
}

// plain is an address as it is compared.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

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
