package limits

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// An account's limits hold for all gateways together. Each has the account's
// whole budget in its own bucket, decides at once and asks nobody; every second it
// tells the others what its clients have taken, and what the others tell it takes
// off its own bucket, into debt if need be. So N gateways may together give N full
// buckets at once, in the second before they have heard of one another; that is
// taken back from what comes, and over any longer time the account gets its rate.
// A share of the budget for each gateway, the other simple way, would refuse
// customers whenever streams are spread unevenly, which they are after each roll-out.
//
// A gateway that hears nobody, because NATS is away, gives the account's whole
// budget by itself. It is not ready then, and what costs most does not work.

const (
	tellEvery = time.Second
	// goneAfter is how long a gateway may keep silent until its streams count no
	// more, and what it has taken meanwhile is let go.
	goneAfter = 5 * tellEvery
	// rememberPods is how long a gateway that keeps silent is not taken for a new one.
	rememberPods = 10 * time.Minute
	// idleAfter is how long an account is told of after its last call.
	idleAfter = time.Minute
	// maxAccounts bounds the accounts that are known. Only tokens that the issuer
	// has signed name one.
	maxAccounts = 4096
	maxPods     = 1024
)

// Wire carries reports between gateways. They may get lost.
type Wire interface {
	// TellUsage sends a report to all other gateways.
	TellUsage(r *busv1.UsageReport) error
	// HearUsage has f called, by one goroutine at a time, with each report of any
	// gateway, until stop is called.
	HearUsage(f func(*busv1.UsageReport)) (stop func(), err error)
}

// accounts are the buckets and open streams of all accounts.
type accounts struct {
	own     func(account string) Account
	rates   rates
	streams int
	wire    Wire
	began   time.Time
	id      string

	mu   sync.Mutex
	all  map[string]*account
	pods map[string]*pod
}

// account is one of them, as this gateway sees it.
type account struct {
	buckets buckets
	taken   [kinds]uint64 // ever, by this gateway's clients
	open    int           // streams of this gateway
	used    int64         // when last
}

// pod is what another gateway has told last.
type pod struct {
	heard time.Time
	told  map[string]*busv1.AccountUsage
}

func newAccounts(p Params) *accounts {
	a := &accounts{own: p.Account, wire: p.Wire, began: time.Now(), id: rand.Text(), all: map[string]*account{}, pods: map[string]*pod{}}
	if a.own == nil {
		a.own = func(string) Account { return Account{} }
	}
	a.rates, a.streams = p.Config.rates(AccountScope)
	return a
}

// limits are those of an account.
func (a *accounts) limits(name string) (rates, int) {
	own := a.own(name)
	return own.over(a.rates, a.streams)
}

// get finds an account, or makes room for it. It is called with the lock held.
func (a *accounts) get(now int64, name string) *account {
	acc := a.all[name]
	if acc == nil {
		if len(a.all) >= maxAccounts {
			a.forget(now)
		}
		acc = &account{}
		a.all[name] = acc
	}
	acc.used = now
	return acc
}

// forget drops accounts that nobody uses; where most are used, any half of those
// that have no streams: their buckets begin full again.
func (a *accounts) forget(now int64) {
	for _, idle := range []int64{int64(idleAfter), 0} {
		for name, acc := range a.all {
			if acc.open == 0 && now-acc.used >= idle && len(a.all) > maxAccounts/2 {
				delete(a.all, name)
			}
		}
	}
}

// take takes all of it or nothing.
func (a *accounts) take(now int64, name string, c *Cost) (Kind, time.Duration) {
	r, _ := a.limits(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.get(now, name)
	kind, wait := acc.buckets.take(now, &r, c)
	if wait == 0 {
		for k, n := range c {
			acc.taken[k] += uint64(max(0, n))
		}
	}
	return kind, wait
}

// enter counts a stream in, unless there are too many in all gateways.
func (a *accounts) enter(now int64, name string) bool {
	_, limit := a.limits(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.get(now, name)
	if limit > 0 {
		n := acc.open
		for _, p := range a.pods {
			if time.Since(p.heard) <= goneAfter {
				n += int(p.told[name].GetStreams())
			}
		}
		if n >= limit {
			return false
		}
	}
	acc.open++
	return true
}

// leave counts a stream out.
func (a *accounts) leave(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all[name].open-- // open streams keep it from being forgotten
}

// report is what the others are to know; nil: nothing.
func (a *accounts) report(now int64) *busv1.UsageReport {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &busv1.UsageReport{Pod: a.id}
	for name, acc := range a.all {
		if acc.open == 0 && now-acc.used > int64(idleAfter) {
			delete(a.all, name)
			continue
		}
		r.Accounts = append(r.Accounts, &busv1.AccountUsage{
			Account: name, Connects: acc.taken[Connects], Frames: acc.taken[Frames], Messages: acc.taken[Messages],
			Bytes: acc.taken[Bytes], Sessions: acc.taken[Sessions], Streams: uint32(acc.open),
		})
	}
	if len(r.GetAccounts()) == 0 {
		return nil
	}
	return r
}

// hear takes what another gateway's clients have taken off the buckets here.
func (a *accounts) hear(now int64, r *busv1.UsageReport) {
	if r.GetPod() == a.id || r.GetPod() == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p, known := a.pods[r.GetPod()]
	// All that a new one tells it has taken just now. What others have taken while
	// this one was not there, or cut off, would be a debt of long ago.
	count := time.Since(a.began) > goneAfter
	if known {
		count = time.Since(p.heard) <= goneAfter
	} else {
		if len(a.pods) >= maxPods {
			return
		}
		p = &pod{}
		a.pods[r.GetPod()] = p
	}
	before := p.told
	p.heard, p.told = time.Now(), make(map[string]*busv1.AccountUsage, len(r.GetAccounts()))
	for _, told := range r.GetAccounts()[:min(len(r.GetAccounts()), maxAccounts)] {
		p.told[told.GetAccount()] = told
		if count {
			a.owe(now, told, before[told.GetAccount()])
		}
	}
}

// owe takes off the difference between two reports.
func (a *accounts) owe(now int64, told, before *busv1.AccountUsage) {
	is, was := counts(told), counts(before)
	rates, _ := a.limits(told.GetAccount())
	acc := a.all[told.GetAccount()]
	for kind := range kinds {
		n := is[kind] - was[kind]
		if is[kind] < was[kind] {
			n = is[kind] // it had forgotten the account meanwhile, and counts anew
		}
		if n == 0 {
			continue
		}
		if acc == nil {
			if len(a.all) >= maxAccounts {
				return
			}
			acc = &account{used: now}
			a.all[told.GetAccount()] = acc
		}
		acc.buckets[kind].owe(now, rates[kind], int64(min(n, 1<<62)), len(a.pods)+1)
	}
}

func counts(u *busv1.AccountUsage) [kinds]uint64 {
	return [kinds]uint64{u.GetConnects(), u.GetFrames(), u.GetMessages(), u.GetBytes(), u.GetSessions()}
}

// miss forgets gateways that are gone.
func (a *accounts) miss() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.pods {
		if time.Since(p.heard) > rememberPods {
			delete(a.pods, id)
		}
	}
}

// Run tells the other gateways what is taken here, and hears them, until ctx is
// done.
func (l *Limiter) Run(ctx context.Context) error {
	if l.shared.wire == nil {
		<-ctx.Done()
		return nil
	}
	stop, err := l.shared.wire.HearUsage(func(r *busv1.UsageReport) { l.shared.hear(l.now(), r) })
	if err != nil {
		return err
	}
	defer stop()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.shared.miss()
			if r := l.shared.report(l.now()); r != nil {
				if err := l.shared.wire.TellUsage(r); err != nil {
					// The next report makes it good.
					l.log.DebugContext(ctx, "the other gateways can't be told what was taken", "error", err)
				}
			}
		}
	}
}
