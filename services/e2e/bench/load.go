package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// posters is how many callbacks can be under way in a run of a fixed rate: so
	// many that none has to wait for another one at half load.
	posters = 128
	// answerMax is AXP's patience.
	answerMax = 5 * time.Second
	// arriveMax is how long the last events may take after the last POST.
	arriveMax = 15 * time.Second
)

// load posts callbacks to a side.
type load struct {
	side    *side
	fleet   *fleet
	calls   *callbacks
	next    int // number of the next event
	rounds  []*round
	posters []*poster
}

// drive sends n callbacks, at a rate, or as fast as they are answered where it is
// 0, and waits until all their events are there. It fails unless each came
// exactly once.
func (l *load) drive(ctx context.Context, n int, rate float64, inFlight int) (*round, error) {
	r := newRound(l.next, n)
	l.next += n
	l.rounds = append(l.rounds, r)
	l.fleet.current.Store(r)
	due := make(chan int, n)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(due)
		return pace(groupCtx, r, n, rate, due)
	})
	for len(l.posters) < inFlight {
		l.posters = append(l.posters, &poster{addr: l.side.hookAddr, path: l.side.hookPath})
	}
	for _, p := range l.posters[:inFlight] {
		group.Go(func() error {
			for i := range due {
				var late time.Duration
				if rate > 0 {
					late = time.Duration(r.now() - dueAt(i, rate))
				}
				p.body = l.calls.body(p.body[:0], r.first+i)
				if err := p.post(groupCtx, func() { r.posting(i, late) }); err != nil {
					return fmt.Errorf("callback %d: %w", i, err)
				}
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil {
		late := time.NewTimer(arriveMax)
		defer late.Stop()
		select {
		case <-r.done:
		case <-late.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err = errors.Join(err, r.verdict(), l.fleet.whole()); err != nil {
		return nil, fmt.Errorf("%s: %w", l.side.name, err)
	}
	return r, nil
}

func dueAt(i int, rate float64) int64 { return int64(float64(i) / rate * 1e9) }

// pace names each event when it is due, whatever became of those before.
func pace(ctx context.Context, r *round, n int, rate float64, due chan<- int) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		if rate > 0 {
			if wait := dueAt(i, rate) - r.now(); wait > 0 {
				timer.Reset(time.Duration(wait))
				select {
				case <-timer.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		due <- i // it holds all of them
	}
	return nil
}

// verdict looks at all rounds once more: a copy may come late.
func (l *load) verdict() error {
	err := l.fleet.whole()
	for _, r := range l.rounds {
		err = errors.Join(err, r.verdict())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.side.name, err)
	}
	return nil
}

func (l *load) close() {
	l.fleet.close()
	for _, p := range l.posters {
		p.close()
	}
}

// poster posts callbacks over one connection. It is not net/http's client: on
// the machine that is measured the load should cost as little as it can.
type poster struct {
	addr, path string
	body       []byte
	head       []byte
	conn       net.Conn
	answers    *bufio.Reader
}

// post sends the body; began is called just before the first byte leaves.
func (p *poster) post(ctx context.Context, began func()) error {
	if p.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.addr)
		if err != nil {
			return err
		}
		p.conn, p.answers = conn, bufio.NewReader(conn)
	}
	p.head = append(p.head[:0], "POST "+p.path+" HTTP/1.1\r\nHost: "+p.addr+"\r\nContent-Type: application/json\r\nUser-Agent: bench\r\nContent-Length: "...)
	p.head = strconv.AppendInt(p.head, int64(len(p.body)), 10)
	p.head = append(p.head, "\r\n\r\n"...)
	p.head = append(p.head, p.body...)
	if err := p.conn.SetDeadline(time.Now().Add(answerMax)); err != nil {
		return err
	}
	began()
	if _, err := p.conn.Write(p.head); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.answers, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return nil
}

func (p *poster) close() {
	if p.conn != nil {
		_ = p.conn.Close() // nothing is under way
	}
}
