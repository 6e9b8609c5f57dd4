package limits

import "time"

// Kind is what is counted.
type Kind int

// Kinds of what is counted. Open streams are counted apart: they are given back.
const (
	Connects Kind = iota
	Frames
	Messages
	Bytes
	Sessions
	kinds
)

// String is the kind's name in metrics and answers.
func (k Kind) String() string {
	return [...]string{"connects", "frames", "messages", "bytes", "sessions", "streams"}[k]
}

// Scope is whose budget it is.
type Scope int

// Scopes, the narrow ones first.
const (
	Connection Scope = iota
	Session
	Customer
	Address
	AccountScope
)

// String is the scope's name in metrics and answers.
func (s Scope) String() string {
	return [...]string{"connection", "session", "customer", "address", "account"}[s]
}

// Cost is what something takes, by kind.
type Cost [kinds]int64

// bucket is a token bucket, kept as the moment at which it is full again, in
// nanoseconds of the limiter's clock. That is all of its state (GCRA; ITU-T
// I.371): eight bytes where a limiter of x/time/rate takes some ninety, and
// what others have taken can be taken off it afterwards.
type bucket int64

// cost is how long n tokens take to come back. More than the bucket holds count
// as all of it, for otherwise they could never be had.
func (r Rate) cost(n int64) int64 {
	return int64(float64(min(n, r.N)) / float64(r.N) * float64(r.Per))
}

// take takes n tokens, or says how long to wait for them and takes none.
func (b *bucket) take(now int64, r Rate, n int64) (wait time.Duration) {
	if n <= 0 || r.N <= 0 {
		return 0
	}
	full := max(int64(*b), now) + r.cost(n)
	if late := full - now - int64(r.Per); late > 0 {
		return time.Duration(late)
	}
	*b = bucket(full)
	return 0
}

// giveBack undoes take.
func (b *bucket) giveBack(r Rate, n int64) {
	if n > 0 && r.N > 0 {
		*b -= bucket(r.cost(n))
	}
}

// owe takes n tokens whether they are there or not, to a debt of at most so many
// full buckets.
func (b *bucket) owe(now int64, r Rate, n int64, buckets int) {
	if n <= 0 || r.N <= 0 {
		return
	}
	owed := min(float64(n)/float64(r.N), float64(buckets)) * float64(r.Per)
	*b = bucket(min(max(int64(*b), now)+int64(owed), now+int64(buckets)*int64(r.Per)))
}

// buckets are those of one of somebody's scopes.
type buckets [kinds]bucket

// take takes all of it or nothing.
func (b *buckets) take(now int64, r *rates, c *Cost) (Kind, time.Duration) {
	for kind := range kinds {
		wait := b[kind].take(now, r[kind], c[kind])
		if wait == 0 {
			continue
		}
		for before := range kind {
			b[before].giveBack(r[before], c[before])
		}
		return kind, wait
	}
	return 0, 0
}

func (b *buckets) giveBack(r *rates, c *Cost) {
	for kind := range kinds {
		b[kind].giveBack(r[kind], c[kind])
	}
}
