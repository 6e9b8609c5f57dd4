package bustest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Link is a TCP connection's way to the server that a test can cut or freeze.
type Link struct {
	ctx    context.Context //nolint:containedctx // of the test, which the link lives as long as
	target string
	lis    net.Listener

	mu     sync.Mutex
	cond   *sync.Cond
	down   bool
	frozen bool
	conns  map[net.Conn]struct{}
	group  sync.WaitGroup
}

// NewLink listens for connections and leads them to target, an address, until the
// test ends.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{ctx: context.WithoutCancel(t.Context()), target: target, lis: lis, conns: map[net.Conn]struct{}{}}
	l.cond = sync.NewCond(&l.mu)
	l.group.Go(l.accept)
	t.Cleanup(func() {
		_ = lis.Close()
		l.Set(true, false)
		l.group.Wait()
	})
	return l
}

// URL is where to connect instead.
func (l *Link) URL() string { return "nats://" + l.lis.Addr().String() }

// Set cuts the link, or freezes it: then it stands, and nothing gets through.
func (l *Link) Set(down, frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.frozen = down, frozen
	if down {
		for c := range l.conns {
			_ = c.Close()
		}
		clear(l.conns)
	}
	l.cond.Broadcast()
}

func (l *Link) accept() {
	for {
		c, err := l.lis.Accept()
		if err != nil {
			return
		}
		l.group.Go(func() { l.serve(c) })
	}
}

func (l *Link) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	up, err := (&net.Dialer{}).DialContext(l.ctx, "tcp", l.target)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return
	}
	l.conns[c], l.conns[up] = struct{}{}, struct{}{}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.copy(up, c) })
	both.Go(func() { l.copy(c, up) })
	both.Wait()
}

func (l *Link) copy(dst io.WriteCloser, src io.ReadCloser) {
	defer func() { _, _ = dst.Close(), src.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		l.mu.Lock()
		for l.frozen && !l.down {
			l.cond.Wait()
		}
		l.mu.Unlock()
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
