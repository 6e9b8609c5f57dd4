package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// FloodKey is the environment variable that makes cmd/badinput the flood: it
// holds the target, as JSON.
const FloodKey = "BADINPUT_TARGET"

// flooding is the line that the flood writes when it has begun.
const flooding = "flooding"

// target is whom a flood hits.
type target struct {
	Hook, HTTP, GRPC string  // addresses
	HookPath         string  // with the right key: what is wrong is the body
	Token            string  // a right one, of a customer without a session: what is wrong are the frames
	Rate             float64 // bad inputs a second
	Senders          int     // at a time
}

// tally is what became of the bad inputs of one kind.
type tally struct {
	Sent, Refused int
	Answers       map[string]int
	Fault         string // the first one that was not refused
}

// floodResult is what a flood tells when it ends.
type floodResult struct {
	Seconds float64
	Kinds   map[string]*tally
}

func (r floodResult) sent() (n int) {
	for _, k := range r.Kinds {
		n += k.Sent
	}
	return n
}

// add adds up floods.
func (r *floodResult) add(o floodResult) {
	if r.Kinds == nil {
		r.Kinds = map[string]*tally{}
	}
	r.Seconds += o.Seconds
	for name, k := range o.Kinds {
		sum := r.Kinds[name]
		if sum == nil {
			sum = &tally{Answers: map[string]int{}}
			r.Kinds[name] = sum
		}
		sum.Sent += k.Sent
		sum.Refused += k.Refused
		for answer, n := range k.Answers {
			sum.Answers[answer] += n
		}
		if sum.Fault == "" {
			sum.Fault = k.Fault
		}
	}
}

// Flood sends bad input to the target, given as JSON, until ctx ends, and writes
// what became of it to out.
func Flood(ctx context.Context, given string, out io.Writer) error {
	var t target
	if err := json.Unmarshal([]byte(given), &t); err != nil {
		return fmt.Errorf("%s: %w", FloodKey, err)
	}
	fmt.Fprintln(out, flooding)
	res, err := t.flood(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(res)
}

// flood sends until ctx ends; what is under way then gets its answer.
func (t target) flood(ctx context.Context) (floodResult, error) {
	mix := mixOf(badInputs())
	due := make(chan int, t.Senders)
	group, whole := errgroup.WithContext(context.WithoutCancel(ctx))
	res := floodResult{Kinds: map[string]*tally{}}
	var mu sync.Mutex
	for range t.Senders {
		s, err := newSender(t)
		if err != nil {
			return res, err
		}
		group.Go(func() error {
			defer s.close()
			for i := range due {
				in := mix[i%len(mix)]
				one, stop := context.WithTimeout(whole, answerMax)
				answer, err := in.send(one, s)
				stop()
				mu.Lock()
				res.note(in, answer, err)
				mu.Unlock()
			}
			return nil
		})
	}
	began := time.Now()
	t.pace(ctx, due)
	close(due)
	err := group.Wait()
	res.Seconds = time.Since(began).Seconds()
	return res, err
}

// lagMax is how far a flood may fall behind its rate before it gives up catching up.
const lagMax = 100 * time.Millisecond

func (t target) pace(ctx context.Context, due chan<- int) {
	base, n := time.Now(), 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		wait := time.Until(base.Add(time.Duration(dueAt(n, t.Rate))))
		switch {
		case wait < -lagMax:
			base, n = time.Now(), 0
		case wait > 0:
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		n++
		select {
		case due <- i:
		case <-ctx.Done():
			return
		}
	}
}

func (r *floodResult) note(in badInput, answer string, err error) {
	k := r.Kinds[in.name]
	if k == nil {
		k = &tally{Answers: map[string]int{}}
		r.Kinds[in.name] = k
	}
	if err != nil {
		answer = "none"
	}
	k.Sent++
	k.Answers[answer]++
	switch {
	case err == nil && in.refused(answer):
		k.Refused++
	case k.Fault == "":
		k.Fault = fmt.Sprintf("answer %s, error %v; want %s", answer, err, in.want)
	}
}

// sender sends bad input, one at a time.
type sender struct {
	t     target
	conns map[string]*wire // by address
	grpc  *grpc.ClientConn
}

type wire struct {
	net.Conn
	answers *bufio.Reader
}

func newSender(t target) (*sender, error) {
	conn, err := grpc.NewClient("passthrough:///"+t.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return &sender{t: t, conns: map[string]*wire{}, grpc: conn}, err
}

func (s *sender) close() {
	_ = s.grpc.Close() // nothing is under way
	for addr := range s.conns {
		s.drop(addr)
	}
}

func (s *sender) drop(addr string) {
	if w := s.conns[addr]; w != nil {
		_ = w.Close() // nothing is under way
		delete(s.conns, addr)
	}
}

// http sends a request as it is, over a connection that is kept where the server
// keeps it, and tells the answer's status.
func (s *sender) http(ctx context.Context, addr, request string) (string, error) {
	fresh := s.conns[addr] == nil
	status, err := s.try(ctx, addr, request)
	if err != nil && !fresh && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err)) {
		// The server may end a kept connection at any time.
		status, err = s.try(ctx, addr, request)
	}
	return status, err
}

func (s *sender) try(ctx context.Context, addr, request string) (_ string, err error) {
	defer func() {
		if err != nil {
			s.drop(addr)
		}
	}()
	w := s.conns[addr]
	if w == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return "", err
		}
		w = &wire{conn, bufio.NewReader(conn)}
		s.conns[addr] = w
	}
	end, _ := ctx.Deadline()
	if err := w.SetDeadline(end); err != nil {
		return "", err
	}
	if _, err := io.WriteString(w, request); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(w.answers, nil)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", err
	}
	if resp.Close {
		s.drop(addr)
	}
	return strconv.Itoa(resp.StatusCode), nil
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}
