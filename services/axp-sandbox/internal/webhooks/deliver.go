package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// wants tells whether a subscription's types cover an event.
func wants(types []string, e world.Event) bool {
	for _, t := range types {
		switch {
		case t == "ALL", t == e.Type:
			return true
		case t == "CUSTOMER_MESSAGES" && e.Type == "MESSAGES" && e.SenderType == world.Customer:
			return true
		case t == "CC_MESSAGES" && e.Type == "MESSAGES" && e.SenderType != world.Customer:
			return true
		}
	}
	return false
}

// Emit delivers an event to whoever subscribed to it. It does not block.
func (h *Hooks) Emit(e world.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var body []byte
	for _, s := range h.subs {
		if s.ChannelProviderID != e.Provider || !wants(s.EventTypes, e) {
			continue
		}
		if body == nil {
			var err error
			if body, err = json.Marshal(e.Body); err != nil {
				h.log.Error("event can't be encoded", "error", err)
				return
			}
		}
		if j := h.add(s, s.SubscriptionID+" "+e.Lane, body); j != nil {
			h.dispatch(j, e)
		}
	}
}

// EmitRaw delivers a body as it is to every subscription.
func (h *Hooks) EmitRaw(body []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		if j := h.add(s, s.SubscriptionID, body); j != nil {
			h.queue(j)
		}
	}
	return len(h.subs)
}

// add notes an event that has to be delivered; mu is held.
func (h *Hooks) add(s world.Subscription, lane string, body []byte) *Job {
	if len(h.jobs) >= maxPending || h.ctx.Err() != nil {
		h.stats.GivenUp++
		return nil
	}
	h.lastID++
	j := &Job{ID: h.lastID, SubscriptionID: s.SubscriptionID, Lane: lane, Body: body}
	j.describe()
	h.jobs[j.ID] = j
	h.changed()
	return j
}

// describe reads from the body what the records tell.
func (j *Job) describe() {
	var in struct{ EventType, DialogID, MessageID string }
	_ = json.Unmarshal(j.Body, &in) // a raw body may be anything
	j.eventType, j.dialogID, j.messageID = in.EventType, in.DialogID, in.MessageID
}

// done ends a job; mu is held.
func (h *Hooks) done(j *Job) {
	delete(h.jobs, j.ID)
	h.changed()
}

// queue puts a job into its lane and starts the lane's worker where it has
// none; mu is held.
func (h *Hooks) queue(j *Job) {
	q, busy := h.lanes[j.Lane]
	h.lanes[j.Lane] = append(q, j)
	if !busy {
		h.group.Go(func() { h.work(j.Lane) })
	}
}

// work makes first attempts of a lane, one after the other.
func (h *Hooks) work(lane string) {
	for {
		h.mu.Lock()
		q := h.lanes[lane]
		if len(q) == 0 || h.ctx.Err() != nil {
			delete(h.lanes, lane)
			h.mu.Unlock()
			return
		}
		j := q[0]
		h.lanes[lane] = q[1:]
		h.mu.Unlock()
		h.attempt(j, 1)
	}
}

// attempt makes one call; a failed one is sent again later, beside the lane.
// What the end of the sandbox interrupts stays pending.
func (h *Hooks) attempt(j *Job, n int) {
	release, ok := h.clear()
	if !ok {
		return
	}
	target, known := h.target(j)
	status := 0
	if known {
		status = h.call(target, j.Body)
	}
	release()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !known:
		h.stats.GivenUp++
		h.done(j)
		return
	case status == http.StatusOK:
		h.stats.Delivered++
		h.done(j)
	case h.ctx.Err() != nil:
		return
	case n >= h.cfg.MaxAttempts:
		h.stats.Failed++
		h.stats.GivenUp++
		h.done(j)
	default:
		h.stats.Failed++
		h.group.Go(func() { h.after(h.cfg.RetryDelay, j, n+1) })
	}
	h.record(j, n, status)
}

// record remembers an attempt; mu is held.
func (h *Hooks) record(j *Job, n, status int) {
	if len(h.attempts) >= maxAttempts {
		h.attempts = slices.Delete(h.attempts, 0, maxAttempts/10)
	}
	h.attempts = append(h.attempts, Attempt{
		Time: time.Now().UTC(), SubscriptionID: j.SubscriptionID, EventType: j.eventType, DialogID: j.dialogID, MessageID: j.messageID,
		Attempt: n, Status: status,
	})
}

// after makes an attempt later.
func (h *Hooks) after(d time.Duration, j *Job, n int) {
	if h.wait(d, nil) {
		h.attempt(j, n)
	}
}

// wait lets d pass, or less where early closes; false: the sandbox ends.
func (h *Hooks) wait(d time.Duration, early <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-h.ctx.Done():
		return false
	case <-early:
	case <-t.C:
	}
	return true
}

// clear waits until a call may be made: no outage, and not too many at a time.
func (h *Hooks) clear() (release func(), ok bool) {
	for {
		h.mu.Lock()
		left, healed := time.Until(h.outage), h.healed
		h.mu.Unlock()
		if left <= 0 {
			break
		}
		if !h.wait(left, healed) {
			return nil, false
		}
	}
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, true
	case <-h.ctx.Done():
		return nil, false
	}
}

// target is where a subscription's events go now.
func (h *Hooks) target(j *Job) (string, bool) {
	s, ok := h.Get(j.SubscriptionID)
	return s.CallbackURL, ok
}

// call returns the status that was answered in time, else 0.
func (h *Hooks) call(target string, body []byte) int {
	ctx, cancel := context.WithTimeout(h.ctx, h.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		h.log.WarnContext(ctx, "callback can't be made", "error", err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		if target, ok := errors.AsType[*url.Error](err); ok {
			err = target.Err // without the address, whose end is a secret
		}
		h.log.DebugContext(ctx, "callback failed", "error", err)
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return 0 // an answer that is not complete in time is none
	}
	return resp.StatusCode
}
