//go:build !linux

package gateway

import "net"

// bounded leaves it to the system how much it holds for a connection.
func bounded(l net.Listener, _ int) net.Listener { return l }
