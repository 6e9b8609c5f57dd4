package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// mode is what a link does with what passes.
type mode int

const (
	passing mode = iota
	cut          // breaks connections and refuses new ones
	stalled      // keeps connections, passes nothing
)

const (
	chunkSize  = 8 << 10
	chunkQueue = 4 // little is kept, so that a reader that stops is felt at the other end
	dialLimit  = time.Second
)

// Link is the network between two parts: connections to it go on to one of its
// backends, in turn, leaving out those that do not answer. It is safe for
// concurrent use.
type Link struct {
	name string
	lis  net.Listener

	ctx    context.Context //nolint:containedctx // the link's lifetime
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu       sync.Mutex
	backends []string
	next     int
	prefer   bool // the first backend as long as it answers, not each in turn
	mode     mode
	delay    time.Duration
	changed  chan struct{}
	pairs    map[*pair]struct{}
}

// newLink listens on a free port of the loopback interface.
func newLink(ctx context.Context, name string, backends ...string) (*Link, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	l := &Link{name: name, lis: lis, backends: backends, changed: make(chan struct{}), pairs: map[*pair]struct{}{}}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.group.Go(l.accept)
	return l, nil
}

// addr is where the link is reached.
func (l *Link) addr() string { return l.lis.Addr().String() }

// close ends the link and everything on it.
func (l *Link) close() {
	l.cancel()
	_ = l.lis.Close() // nothing to be done about it
	l.set(cut, 0)
	l.group.Wait()
}

// set changes what the link does from now on.
func (l *Link) set(m mode, delay time.Duration) {
	l.mu.Lock()
	l.mode, l.delay = m, delay
	close(l.changed)
	l.changed = make(chan struct{})
	var broken []*pair
	if m == cut {
		for p := range l.pairs {
			broken = append(broken, p)
		}
	}
	l.mu.Unlock()
	for _, p := range broken {
		p.kill()
	}
}

func (l *Link) heal() { l.set(passing, 0) }

func (l *Link) state() (mode, time.Duration, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mode, l.delay, l.changed
}

func (l *Link) accept() {
	for {
		conn, err := l.lis.Accept()
		if err != nil {
			return
		}
		l.group.Go(func() { l.serve(conn) })
	}
}

func (l *Link) serve(client net.Conn) {
	p := &pair{link: l, client: client, done: make(chan struct{})}
	defer p.kill()
	if !p.wait(0) {
		return
	}
	server, backend, ok := l.dial()
	if !ok {
		return
	}
	p.server, p.backend = server, backend
	narrow(client)
	narrow(server)
	l.mu.Lock()
	refused := l.mode == cut
	if !refused {
		l.pairs[p] = struct{}{}
	}
	l.mu.Unlock()
	if refused {
		return
	}
	defer func() {
		l.mu.Lock()
		delete(l.pairs, p)
		l.mu.Unlock()
	}()
	var group sync.WaitGroup
	group.Go(func() { p.pump(server, client) })
	group.Go(func() { p.pump(client, server) })
	group.Wait()
}

// home breaks the connections that had to do with another backend than the
// preferred one; they are made anew.
func (l *Link) home() {
	var away []*pair
	l.mu.Lock()
	for p := range l.pairs {
		if l.prefer && p.backend != 0 {
			away = append(away, p)
		}
	}
	l.mu.Unlock()
	for _, p := range away {
		p.kill()
	}
}

// preferFirst makes new connections go to the first backend while it answers,
// instead of to all in turn.
func (l *Link) preferFirst() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prefer = true
}

// dial connects to the next backend that answers.
func (l *Link) dial() (conn net.Conn, backend int, ok bool) {
	l.mu.Lock()
	first := l.next
	if !l.prefer {
		l.next++
	}
	l.mu.Unlock()
	d := net.Dialer{Timeout: dialLimit}
	for i := range l.backends {
		backend = (first + i) % len(l.backends)
		conn, err := d.DialContext(l.ctx, "tcp", l.backends[backend])
		if err == nil {
			return conn, backend, true
		}
	}
	return nil, 0, false
}

// narrow keeps the system's buffers small, so that a reader that stops is felt
// at the other end.
func narrow(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetReadBuffer(readBuffer)  // best effort
		_ = t.SetWriteBuffer(readBuffer) // best effort
	}
}

// pair is one connection through a link.
type pair struct {
	link           *Link
	client, server net.Conn
	backend        int
	done           chan struct{}
	once           sync.Once
}

// kill breaks the connection as a lost peer does: with a reset.
func (p *pair) kill() {
	p.once.Do(func() {
		close(p.done)
		for _, c := range []net.Conn{p.client, p.server} {
			if t, ok := c.(*net.TCPConn); ok && t != nil {
				_ = t.SetLinger(0) // best effort
				_ = t.Close()      // it may be closed already
			}
		}
	})
}

type chunk struct {
	data []byte
	at   time.Time
}

// pump copies one direction until it ends.
func (p *pair) pump(dst, src net.Conn) {
	chunks := make(chan chunk, chunkQueue)
	var group sync.WaitGroup
	group.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, chunkSize)
			n, err := src.Read(buf)
			if n > 0 {
				select {
				case chunks <- chunk{buf[:n], time.Now()}:
				case <-p.done:
					return
				}
			}
			if err == io.EOF { //nolint:errorlint // net.Conn's own
				return
			}
			if err != nil {
				p.kill()
				return
			}
		}
	})
	for c := range chunks {
		if !p.wait(time.Since(c.at)) {
			continue // until the reader has seen the end
		}
		if _, err := dst.Write(c.data); err != nil {
			p.kill()
		}
	}
	group.Wait()
	if t, ok := dst.(*net.TCPConn); ok {
		_ = t.CloseWrite() // the other direction may go on
	}
}

// wait returns when the link lets something pass that has waited for age; false
// when the connection is broken.
func (p *pair) wait(age time.Duration) bool {
	began := time.Now()
	for {
		m, delay, changed := p.link.state()
		left := delay - age - time.Since(began)
		var due <-chan time.Time
		switch {
		case m == cut:
			return false
		case m == passing && left <= 0:
			select {
			case <-p.done:
				return false
			default:
				return true
			}
		case m == passing:
			timer := time.NewTimer(left)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-due:
		case <-changed:
		case <-p.done:
			return false
		case <-p.link.ctx.Done():
			return false
		}
	}
}
