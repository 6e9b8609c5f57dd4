package websocket

import (
	"context"
	"sync"
	"time"

	ws "github.com/coder/websocket"
)

// pinger keeps a connection alive and finds out whether its client is: its pongs
// count as signs of life, their absence lets the stream end as idle. Between two
// pings it has no goroutine, of which every idle client would have one.
type pinger struct {
	ctx    context.Context //nolint:containedctx // of what the timer runs
	cancel context.CancelFunc
	conn   *ws.Conn
	every  time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	ended   bool
	running sync.WaitGroup
}

// pinging returns a pinger that works. It must be stopped.
func (t *transport) pinging(ctx context.Context, every time.Duration) *pinger {
	p := &pinger{conn: t.conn, every: every}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(every, p.ping)
	return p
}

// ping runs on a goroutine of the timer's.
func (p *pinger) ping() {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()
	began := time.Now()
	within, cancel := context.WithTimeout(p.ctx, p.every)
	_ = p.conn.Ping(within) // a missing pong shows as silence
	cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.timer.Reset(max(0, p.every-time.Since(began)))
	}
}

// end lets nothing begin any more and breaks off what runs.
func (p *pinger) end() {
	p.mu.Lock()
	p.ended = true
	p.timer.Stop()
	p.mu.Unlock()
	p.cancel()
}

// stop ends the pinger and waits for what runs.
func (p *pinger) stop() {
	p.end()
	p.running.Wait()
}
