package gateway

import (
	"net"

	"golang.org/x/sys/unix"
)

// frugal is a listener whose connections let the system hold at most so many
// bytes unsent. By itself it holds up to some MiB for a client that reads
// nothing, and the delivery would notice only when that is full.
type frugal struct {
	net.Listener
	unsent int
}

func bounded(l net.Listener, unsent int) net.Listener { return frugal{l, unsent} }

// Accept implements net.Listener.
func (l frugal) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok && err == nil {
		if raw, err := t.SyscallConn(); err == nil {
			// Best effort: without it the connection works as well.
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, l.unsent)
			})
		}
	}
	return c, err
}
