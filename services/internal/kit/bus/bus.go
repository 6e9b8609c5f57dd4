// Package bus owns what NATS carries and keeps for the suite: the names of
// subjects, streams, buckets and consumers, their one declaration, and the
// ways to write and read them. Three invariants hold: what PublishEvent or
// PublishOutbox acknowledged is stored; a repeated message id is stored once;
// every token of a subject is checked to [A-Za-z0-9_-]. It knows nothing of
// AXP, HTTP or clients, and takes no decision of the chat.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config says which NATS to use and how much it keeps. Every service of a
// deployment must be given the same values.
type Config struct {
	URL             string        `env:"NATS_URL" doc:"NATS cluster, such as nats://nats:4222; the all-in-one connector runs an embedded server when it is empty."`
	User            string        `env:"NATS_USER" doc:"User name, where NATS asks for one."`
	Password        config.Secret `env:"NATS_PASSWORD" doc:"Password of NATS_USER."`
	CredsFile       string        `env:"NATS_CREDS_FILE" doc:"Credentials file (JWT and seed)."`
	CAFile          string        `env:"NATS_CA_FILE" doc:"PEM file with the authorities that NATS's certificate is checked against."`
	CertFile        string        `env:"NATS_CERT_FILE" doc:"PEM file with the client certificate."`
	KeyFile         string        `env:"NATS_KEY_FILE" doc:"PEM file with the key of NATS_CERT_FILE."`
	InboxPrefix     string        `env:"NATS_INBOX_PREFIX" doc:"Prefix of reply subjects; set it where each service has its own NATS user."`
	Replicas        int           `env:"NATS_REPLICAS" default:"1" doc:"Copies of every stream and bucket: 1 on one server, 3 in a cluster."`
	Manage          bool          `env:"NATS_MANAGE_STREAMS" default:"true" doc:"Declare streams, buckets and consumers at start; false only checks that they are there."`
	Retention       time.Duration `env:"EVENTS_RETENTION" default:"168h" doc:"How long the journal keeps what was said."`
	DuplicateWindow time.Duration `env:"EVENTS_DUPLICATE_WINDOW" default:"2h" doc:"How long a re-sent callback is recognised as one."`
	MaxBytes        config.Bytes  `env:"EVENTS_MAX_BYTES" default:"0" doc:"Largest size of the journal; 0: no limit but the disk's."`
	StateRetention  time.Duration `env:"STATE_RETENTION" default:"720h" doc:"How long a session or engagement that nothing happens to is remembered."`
	Partitions      int           `env:"OUTBOX_PARTITIONS" default:"16" doc:"Partitions of the outbox, 1 to 64; fixed once there are messages."`
	OutboxWindow    time.Duration `env:"OUTBOX_DUPLICATE_WINDOW" default:"24h" doc:"How long a repeated client_message_id is recognised by the outbox."`
	OutboxMaxAge    time.Duration `env:"OUTBOX_RETENTION" default:"48h" doc:"After this a message that could not be worked at all leaves the outbox."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if c.Partitions < 1 || c.Partitions > 64 {
		add("OUTBOX_PARTITIONS", "must be 1 to 64")
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		add("NATS_REPLICAS", "must be 1 to 5")
	}
	if c.Retention < time.Minute {
		add("EVENTS_RETENTION", "must be at least 1m")
	}
	if c.DuplicateWindow < time.Second || c.DuplicateWindow > c.Retention {
		add("EVENTS_DUPLICATE_WINDOW", "must be at least 1s and at most EVENTS_RETENTION")
	}
	if c.OutboxMaxAge < c.OutboxWindow {
		add("OUTBOX_RETENTION", "must be at least OUTBOX_DUPLICATE_WINDOW")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		add("NATS_CERT_FILE", "needs NATS_KEY_FILE, and the other way round")
	}
	return ms
}

// Params is what Connect needs.
type Params struct {
	Config     Config
	Name       string // of the service, shown by the NATS server
	Log        *slog.Logger
	Propagator propagation.TextMapPropagator // may be nil
	Options    []nats.Option                 // for an in-process server, and tests
}

// Bus is a connection to NATS. It is safe for concurrent use.
type Bus struct {
	NC *nats.Conn
	JS jetstream.JetStream

	Sessions    *Store[*busv1.SessionRecord]
	Engagements *Store[*busv1.EngagementRecord]
	Index       *Store[*busv1.IndexRecord]
	Sent        *Store[*busv1.SentRecord]
	Tickets     *Store[*busv1.TicketRecord]

	cfg        Config
	log        *slog.Logger
	propagator propagation.TextMapPropagator
	outbox     lazyStream

	mu          sync.Mutex
	reconnected map[int]func()
	nextHook    int
	denied      error
	journal     JournalInfo
	journalAt   time.Time
}

// Connect connects and keeps reconnecting for as long as the process lives.
// The first connection must succeed within ctx.
func Connect(ctx context.Context, p Params) (*Bus, error) {
	b := &Bus{cfg: p.Config, log: p.Log, propagator: p.Propagator, reconnected: map[int]func(){}}
	if b.propagator == nil {
		b.propagator = propagation.NewCompositeTextMapPropagator()
	}
	opts := append(b.options(p.Name), p.Options...)
	for {
		nc, err := nats.Connect(p.Config.URL, opts...)
		if err == nil {
			b.NC = nc
			break
		}
		if errors.Is(err, nats.ErrAuthorization) || ctx.Err() != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		b.log.Warn("NATS can't be reached yet", "error", err)
		if !wait(ctx, 500*time.Millisecond) {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
	}
	js, err := jetstream.New(b.NC)
	if err != nil {
		b.NC.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	b.JS = js
	b.openStores()
	return b, nil
}

func (b *Bus) options(name string) []nats.Option {
	c := b.cfg
	opts := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		// A direct get reads its answer from a queue of this length, made for it
		// alone. The default, 64Ki entries, is half a megabyte of garbage for each
		// client that connects.
		nats.SyncQueueLen(syncQueue),
		// What is published while disconnected must fail at once: the caller
		// decides, and may still answer AXP in time.
		nats.ReconnectBufSize(-1),
		nats.ReconnectHandler(func(*nats.Conn) { b.onReconnect() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: we closed it ourselves
				b.log.Warn("NATS disconnected", "error", err)
			}
		}),
		nats.ErrorHandler(b.onError),
	}
	if c.User != "" {
		opts = append(opts, nats.UserInfo(c.User, c.Password.Reveal()))
	}
	if c.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(c.CredsFile))
	}
	if c.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		opts = append(opts, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	if c.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	return opts
}

// onError notes denied subjects: a denied publish does not fail the call, it
// only times out, so readiness is the place where an operator can see it.
func (b *Bus) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		return // a full live channel; the journal fills the hole
	}
	attrs := []any{"error", err}
	if sub != nil {
		attrs = append(attrs, "subject", sub.Subject)
	}
	b.log.Error("NATS reports", attrs...)
	if errors.Is(err, nats.ErrPermissionViolation) {
		b.mu.Lock()
		b.denied = err
		b.mu.Unlock()
	}
}

func (b *Bus) onReconnect() {
	b.log.Info("NATS reconnected", "server", b.NC.ConnectedServerName())
	b.mu.Lock()
	hooks := make([]func(), 0, len(b.reconnected))
	for _, f := range b.reconnected {
		hooks = append(hooks, f)
	}
	b.mu.Unlock()
	for _, f := range hooks {
		f()
	}
}

// OnReconnect calls f after every reconnect, on NATS's own goroutine: f must
// not block. The returned function ends that.
func (b *Bus) OnReconnect(f func()) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.nextHook
	b.nextHook++
	b.reconnected[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.reconnected, id)
	}
}

// Config returns what the bus was opened with.
func (b *Bus) Config() Config { return b.cfg }

// Ready fails while NATS can't be reached or has denied a subject.
func (b *Bus) Ready(context.Context) error {
	b.mu.Lock()
	denied := b.denied
	b.mu.Unlock()
	if denied != nil {
		return denied
	}
	if s := b.NC.Status(); s != nats.CONNECTED {
		return fmt.Errorf("NATS is %s", s)
	}
	return nil
}

// Close sends what is buffered and closes the connection.
func (b *Bus) Close() error {
	err := b.NC.FlushTimeout(time.Second)
	b.NC.Close()
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrTimeout) {
		return nil
	}
	return err
}

// wait sleeps for d; false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
