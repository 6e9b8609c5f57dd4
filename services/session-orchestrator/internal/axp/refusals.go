package axp

import (
	"net/http"
	"sync"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

// refusalsInRow is how many calls AXP must refuse in a row before the others
// are not even made. One may be about that call alone.
const refusalsInRow = 3

// refusals notices that AXP grants tokens but accepts none of them, or not the
// application key. Then calls fail at once, but for one that tries after a
// growing while, until one is accepted.
//
// Background calls are not counted: an account may lack the right to one of
// those interfaces while chats work.
type refusals struct {
	client *Client

	mu     sync.Mutex
	inRow  int
	rounds int       // trials in a row that did not help
	fail   *Error    // what AXP said; nil: all is well
	until  time.Time // no call until then
	trying bool      // a call is under way that was let through although fail is there
}

// check gives the error of a call that need not be made.
func (r *refusals) check(op Operation) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		return nil
	}
	c := r.client
	now := c.clock.Now()
	if !now.Before(r.until) {
		// This call tries. Should nothing come of it, the next one may later.
		r.until, r.trying = now.Add(c.config.CallTimeout), true
		return nil
	}
	fail := *r.fail
	fail.Operation, fail.RetryAfter = op.Name, r.until.Sub(now)
	return &fail
}

// note takes in what came of a call that was made with token and key.
func (r *refusals) note(op Operation, fail *Error) {
	switch {
	case fail == nil || fail.Status != 0 && fail.Status != http.StatusUnauthorized:
		r.accepted()
	case fail.Status == http.StatusUnauthorized && op.Class != limiter.Background:
		r.refused(fail)
	}
}

func (r *refusals) accepted() {
	r.mu.Lock()
	before := r.fail
	r.inRow, r.rounds, r.fail, r.trying = 0, 0, nil, false
	r.mu.Unlock()
	if before != nil {
		r.client.log.Info("AXP accepts the connector's credentials again")
	}
}

func (r *refusals) refused(fail *Error) {
	c := r.client
	r.mu.Lock()
	r.inRow++
	first := r.fail == nil
	if r.inRow < refusalsInRow || !first && !r.trying { // the latter were under way when it was noticed
		r.mu.Unlock()
		return
	}
	own := *fail
	own.Outcome, own.Attempts = NotApplied, 0
	r.fail, r.trying = &own, false
	r.rounds++
	r.until = c.clock.Now().Add(c.tokens.patience(r.rounds))
	r.mu.Unlock()
	if first {
		c.log.Error("AXP refuses the connector's credentials; check the application key and what the client may do", "error", fail)
	}
}

// forget forgets what AXP refused, for the credentials have changed.
func (r *refusals) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inRow, r.rounds, r.fail, r.until, r.trying = 0, 0, nil, time.Time{}, false
}

// status tells what AXP refuses; nil: nothing.
func (r *refusals) status() *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		return nil
	}
	own := *r.fail
	return &own
}
