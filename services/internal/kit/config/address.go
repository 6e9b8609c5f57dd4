package config

import (
	"net"
	"strconv"
)

// ListenMistakes reports an address that nothing can listen at. None at all is an
// address: any port of this machine.
func ListenMistakes(key, addr string) []Mistake {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return []Mistake{{Key: key, Problem: "must be an address such as :8080 or 127.0.0.1:8080"}}
	}
	return nil
}
