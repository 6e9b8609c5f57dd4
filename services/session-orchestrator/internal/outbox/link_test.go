package outbox

import (
	"io"
	"net"
	"sync"
	"testing"
)

// link is a TCP connection's way to the server that a test can cut or freeze.
type link struct {
	target string
	lis    net.Listener

	mu     sync.Mutex
	cond   *sync.Cond
	down   bool
	frozen bool
	conns  map[net.Conn]struct{}
	group  sync.WaitGroup
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{target: target, lis: lis, conns: map[net.Conn]struct{}{}}
	l.cond = sync.NewCond(&l.mu)
	l.group.Go(l.accept)
	t.Cleanup(func() {
		_ = lis.Close()
		l.set(true, false)
		l.group.Wait()
	})
	return l
}

func (l *link) url() string { return "nats://" + l.lis.Addr().String() }

// set cuts the link, or freezes it: then it stands, and nothing gets through.
func (l *link) set(down, frozen bool) {
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

func (l *link) accept() {
	for {
		c, err := l.lis.Accept()
		if err != nil {
			return
		}
		l.group.Go(func() { l.serve(c) })
	}
}

func (l *link) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", l.target)
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

func (l *link) copy(dst io.WriteCloser, src io.ReadCloser) {
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
