package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	// denialMemory is how long a denied publish counts against readiness. A right
	// that was given meanwhile holds at once, without a new connection, and shows
	// only in that nothing is denied any more.
	denialMemory = 5 * time.Minute
	// maxKinds bounds what is told apart; the suite uses some forty subjects.
	maxKinds = 64
)

// Operations that NATS may deny.
const (
	opPublish   = "publish"
	opSubscribe = "subscribe"
)

// denials remembers which subjects NATS has denied. A denied publish fails no
// call, the answer just never comes: this is where it is noticed. It is safe for
// concurrent use.
type denials struct {
	log   *slog.Logger
	count metric.Int64Counter
	api   string // prefix of JetStream's API

	mu    sync.Mutex
	kinds map[denial]time.Time // when last
}

// denial is what was denied, without the ids in the subject.
type denial struct{ operation, subject string }

func newDenials(log *slog.Logger, m metric.MeterProvider, api string) (*denials, error) {
	count, err := m.Meter(instrumentation).Int64Counter("axpchat_nats_denied",
		metric.WithDescription("Subjects that NATS has denied to this service, by operation and kind of subject."))
	if err != nil {
		return nil, fmt.Errorf("make a counter: %w", err)
	}
	return &denials{log: log, count: count, api: api, kinds: map[denial]time.Time{}}, nil
}

// note takes a permission violation.
func (d *denials) note(err error) {
	operation, subject := parseDenial(err.Error())
	k := denial{operation, kindOf(subject, d.api)}
	d.mu.Lock()
	last, known := d.kinds[k]
	if !known && len(d.kinds) >= maxKinds {
		k.subject = "other"
		last, known = d.kinds[k]
	}
	d.kinds[k] = time.Now()
	d.mu.Unlock()
	d.count.Add(context.Background(), 1, metric.WithAttributes(attribute.String("operation", k.operation), attribute.String("subject", k.subject)))
	if !known || time.Since(last) > denialMemory {
		d.log.Error("NATS denies a subject to this service: its user lacks a right", "operation", k.operation, "subject", k.subject)
	}
}

// err is why the service is not ready: what was denied lately. A subscription
// counts until there is a new connection, for the server never makes up for it.
func (d *denials) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, at := range d.kinds {
		if k.operation == opSubscribe || time.Since(at) <= denialMemory {
			return fmt.Errorf("NATS denies to %s on %s: %w", k.operation, k.subject, nats.ErrPermissionViolation)
		}
	}
	return nil
}

// forget is for when the connection ends: the next one may have other rights.
func (d *denials) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.kinds)
}

var errDenial = regexp.MustCompile(`(Publish|Subscription) .*?"([^"]+)"`)

// parseDenial reads the server's words, such as: Permissions Violation for
// Publish to "chat.event.A.b".
func parseDenial(text string) (operation, subject string) {
	m := errDenial.FindStringSubmatch(text)
	switch {
	case m == nil:
		return "unknown", ""
	case m[1] == "Publish":
		return opPublish, m[2]
	default:
		return opSubscribe, m[2]
	}
}

// kindOf is the part of a subject that names no account, session or client:
// it may be logged, and there are few of them.
func kindOf(subject, api string) string {
	if rest, ok := strings.CutPrefix(subject, api); ok && !strings.HasPrefix(rest, "$KV.") {
		return api + leading(rest, func(_ int, token string) bool { return strings.Trim(token, upper) == "" })
	}
	keep := 1
	for _, p := range []struct {
		prefix string
		tokens int
	}{
		{api + "$KV.", strings.Count(api, ".") + 2}, {"$KV.", 2}, {"$JS.ACK.", 3}, {"$JS.FC.", 3}, {"chat.", 2}, {"timer.", 2},
	} {
		if strings.HasPrefix(subject, p.prefix) {
			keep = p.tokens
			break
		}
	}
	return leading(subject, func(i int, _ string) bool { return i < keep })
}

// upper is what JetStream's verbs, streams and buckets are made of; the names of
// consumers are not.
const upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"

// leading are the first tokens that keep likes, with > for the others.
func leading(subject string, keep func(i int, token string) bool) string {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		if !keep(i, token) {
			return strings.Join(append(tokens[:i:i], ">"), ".")
		}
	}
	return subject
}

// onError notes denied subjects and logs the rest.
func (b *Bus) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		return // a full live channel; the journal fills the hole
	case errors.Is(err, nats.ErrPermissionViolation):
		b.denials.note(err)
		return
	}
	attrs := []any{"error", err}
	if sub != nil {
		attrs = append(attrs, "subject", kindOf(sub.Subject, b.apiPrefix()))
	}
	b.log.Error("NATS reports", attrs...)
}

// apiPrefix is what the subjects of JetStream's API begin with, with its dot.
func (b *Bus) apiPrefix() string {
	prefix := strings.TrimSuffix(b.cfg.APIPrefix, ".")
	if prefix == "" {
		return jetstream.DefaultAPIPrefix
	}
	return prefix + "."
}
