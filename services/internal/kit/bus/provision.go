package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// schema counts incompatible changes of what is stored. A service refuses to
// run against a higher number than its own.
const schema = 1

const (
	metaSchema     = "axpchat.schema"
	metaPartitions = "axpchat.partitions"
)

// unroutedRetention is how long an operator has to look at callbacks that
// could not be routed.
const unroutedRetention = 7 * 24 * time.Hour

// minUnrouted is the smallest UNROUTED_MAX_BYTES: room for some callbacks of the
// largest size, not for one.
const minUnrouted = 16 << 20

// NATS's codes for streams that find no place: on no server of a cluster, and on
// this one, which cannot reserve what the stream asks for.
const (
	jsNoPeers   = 10005
	jsNoStorage = 10047
)

// outboxAhead is how many messages of a partition may be with its worker. One
// customer whose messages are held must not keep those of the others from it.
const outboxAhead = 4096

// ticketTTL is the longest life of a one-time ticket.
const ticketTTL = 2 * time.Minute

// Provision brings every stream, bucket and consumer up to date with this
// version, or, where NATS_MANAGE_STREAMS is false, checks that those are there
// which the service uses. It is safe to call from several processes at once, and
// refuses streams that a newer version has made. It fails where NATS denies it
// something.
func (b *Bus) Provision(ctx context.Context) error {
	for _, cfg := range b.streams() {
		if !b.looksAt(cfg.Name, b.uses.Streams) {
			continue
		}
		if err := b.ensure(ctx, "stream "+cfg.Name, func(ctx context.Context) error { return b.ensureStream(ctx, cfg) }); err != nil {
			return err
		}
	}
	for _, cfg := range b.buckets() {
		if !b.looksAt(cfg.Bucket, b.uses.Buckets) {
			continue
		}
		if err := b.ensure(ctx, "bucket "+cfg.Bucket, func(ctx context.Context) error { return b.ensureBucket(ctx, cfg) }); err != nil {
			return err
		}
	}
	for stream, cfgs := range b.consumers() {
		if !b.looksAt(stream, b.uses.Consumers) {
			continue
		}
		for _, cfg := range cfgs {
			if err := b.ensure(ctx, "consumer "+cfg.Durable, func(ctx context.Context) error { return b.ensureConsumer(ctx, stream, cfg) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensure repeats f while the cluster has no leader yet, which is usual right
// after its start.
func (b *Bus) ensure(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		tryCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f(tryCtx)
		cancel()
		if err == nil {
			return nil
		}
		if denied := b.denials.err(); denied != nil {
			return fmt.Errorf("provision %s: %w", what, denied) // the answer will never come
		}
		if noRoom(err) {
			return fmt.Errorf("provision %s: NATS cannot reserve the room it asks for: give JetStream more (max_file_store, disk) or lower UNROUTED_MAX_BYTES or EVENTS_MAX_BYTES: %w", what, err)
		}
		if !transient(err) || !wait(ctx, 300*time.Millisecond) {
			return fmt.Errorf("provision %s: %w", what, err)
		}
	}
}

func noRoom(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jsNoStorage || api.ErrorCode == jsNoPeers && strings.Contains(api.Description, "insufficient storage"))
}

func transient(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		// No suitable peers yet: those that are still starting do not count.
		return api.Code == 503 || api.ErrorCode == 10074 || api.ErrorCode == jsNoPeers && strings.Contains(api.Description, "offline")
	}
	// While it is cut off the client refuses to send: its buffer limit is nought.
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

func (b *Bus) streams() []jetstream.StreamConfig {
	c := b.cfg
	common := func(s jetstream.StreamConfig) jetstream.StreamConfig {
		s.Storage, s.Replicas = jetstream.FileStorage, c.Replicas
		if s.Metadata == nil {
			s.Metadata = map[string]string{}
		}
		s.Metadata[metaSchema] = strconv.Itoa(schema)
		return s
	}
	maxBytes := int64(c.MaxBytes)
	if maxBytes == 0 {
		maxBytes = -1
	}
	return []jetstream.StreamConfig{
		common(jetstream.StreamConfig{
			Name: EventsStream, Description: "Journal of every session: what clients are told.",
			Subjects: []string{eventPrefix + "*.*"}, Retention: jetstream.LimitsPolicy,
			MaxAge: c.Retention, MaxBytes: maxBytes, Duplicates: c.DuplicateWindow, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: eventPrefix + ">", Destination: livePrefix + ">"},
		}),
		common(jetstream.StreamConfig{
			Name: OutboxStream, Description: "Customers' messages on their way to AXP.",
			Subjects: outboxSubjects(c.Partitions), Retention: jetstream.LimitsPolicy,
			MaxAge: c.OutboxMaxAge, Duplicates: c.OutboxWindow,
			Metadata: map[string]string{metaPartitions: strconv.Itoa(c.Partitions)},
		}),
		common(jetstream.StreamConfig{
			Name: UnroutedStream, Description: "Callbacks that no session could be found for.",
			Subjects: []string{unroutedPrefix + "*"}, Retention: jetstream.LimitsPolicy,
			MaxAge: unroutedRetention, MaxBytes: int64(c.UnroutedBytes), Duplicates: c.DuplicateWindow, AllowDirect: true,
		}),
		common(jetstream.StreamConfig{
			Name: AsideStream, Description: "What could not be worked for a fault of the connector.",
			Subjects: []string{asidePrefix + "*.*.*"}, Retention: jetstream.LimitsPolicy,
			MaxAge: c.Retention, MaxMsgs: asideMost, Duplicates: c.DuplicateWindow,
		}),
		common(jetstream.StreamConfig{
			Name: TimersStream, Description: "What is to be looked at again at a certain time, once in a cluster.",
			Subjects: []string{timerSet + ">", timerDue + ">"}, Retention: jetstream.WorkQueuePolicy, AllowMsgSchedules: true,
		}),
	}
}

func (b *Bus) buckets() []jetstream.KeyValueConfig {
	state := func(name, description string) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket: name, Description: description, Storage: jetstream.FileStorage,
			Replicas: b.cfg.Replicas, TTL: b.cfg.StateRetention, LimitMarkerTTL: time.Second,
			Metadata: map[string]string{metaSchema: strconv.Itoa(schema)},
		}
	}
	tickets := state(TicketsBucket, "One-time tickets.")
	tickets.TTL = ticketTTL
	sessions := state(SessionsBucket, "Sessions.")
	// Who is woken by changes needs no right on what changes them: with a subscription
	// there, a consumer of the journal could be made to deliver to it.
	sessions.RePublish = &jetstream.RePublish{Source: "$KV." + SessionsBucket + ".>", Destination: changedPrefix + SessionsBucket + ".>", HeadersOnly: true}
	return []jetstream.KeyValueConfig{
		sessions,
		state(EngagementsBucket, "Engagements."),
		state(IndexBucket, "Where something of AXP's belongs, and what was sent before."),
		tickets,
	}
}

// consumers: the pins follow NATS's rule that PinnedTTL must be a few times
// the expiry of a pull (one second, see the outbox).
func (b *Bus) consumers() map[string][]jetstream.ConsumerConfig {
	outbox := make([]jetstream.ConsumerConfig, 0, b.cfg.Partitions)
	for i := range b.cfg.Partitions {
		outbox = append(outbox, jetstream.ConsumerConfig{
			Durable: OutboxConsumer(i, b.cfg.Partitions), FilterSubject: OutboxFilter(i, b.cfg.Partitions),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxAckPending: outboxAhead, MaxDeliver: -1,
			PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{OutboxGroup}, PinnedTTL: 3 * time.Second,
		})
	}
	return map[string][]jetstream.ConsumerConfig{
		EventsStream: {{
			Durable: ProjectorConsumer, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
			AckWait: 30 * time.Second, MaxAckPending: 512, MaxDeliver: -1,
		}},
		OutboxStream: outbox,
		TimersStream: {{
			Durable: TimersConsumer, FilterSubject: timerDue + ">", AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: 30 * time.Second, MaxAckPending: 1024, MaxDeliver: -1,
		}},
	}
}

func (b *Bus) ensureStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	s, err := b.JS.Stream(ctx, cfg.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && b.cfg.Manage:
		_, err = b.JS.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return b.ensureStream(ctx, cfg) // another process was first, which may have made it otherwise
		}
		return err
	case err != nil:
		return err
	}
	have := s.CachedInfo().Config
	if err := checkSchema(have.Metadata); err != nil {
		return err
	}
	if have.Retention != cfg.Retention {
		return fmt.Errorf("it is a stream of kind %s, this version needs %s: let it drain, then delete it", have.Retention, cfg.Retention)
	}
	if cfg.Name == OutboxStream && !slices.Equal(have.Subjects, cfg.Subjects) {
		return b.repartition(ctx, s, cfg)
	}
	if !b.cfg.Manage || sameStream(have, cfg) {
		return nil
	}
	_, err = b.JS.UpdateStream(ctx, cfg)
	return err
}

// sameStream compares what we set; the server fills in the rest.
func sameStream(have, want jetstream.StreamConfig) bool {
	return have.MaxAge == want.MaxAge && have.Duplicates == want.Duplicates && have.Replicas == want.Replicas &&
		have.Metadata[metaPartitions] == want.Metadata[metaPartitions] && have.Metadata[metaSchema] == want.Metadata[metaSchema] &&
		(want.MaxBytes == 0 || have.MaxBytes == want.MaxBytes)
}

func (b *Bus) ensureBucket(ctx context.Context, cfg jetstream.KeyValueConfig) error {
	kv, err := b.JS.KeyValue(ctx, cfg.Bucket)
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound) && b.cfg.Manage:
		_, err = b.JS.CreateKeyValue(ctx, cfg)
		if errors.Is(err, jetstream.ErrBucketExists) {
			return nil
		}
		return err
	case err != nil:
		return err
	}
	if !b.cfg.Manage {
		return nil
	}
	st, err := kv.Status(ctx)
	if err != nil {
		return err
	}
	if err := checkSchema(st.Metadata()); err != nil {
		return err
	}
	have := st.Config()
	if have.TTL == cfg.TTL && have.Replicas == cfg.Replicas && (have.RePublish == nil) == (cfg.RePublish == nil) {
		return nil
	}
	_, err = b.JS.UpdateKeyValue(ctx, cfg)
	return err
}

func (b *Bus) ensureConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	c, err := b.JS.Consumer(ctx, stream, cfg.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound) && b.cfg.Manage:
		_, err = b.JS.CreateConsumer(ctx, stream, cfg)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			return nil
		}
		return err
	case err != nil:
		return err
	}
	// An update that changes nothing would still disturb who is pinned.
	have := c.CachedInfo().Config
	if !b.cfg.Manage || have.MaxAckPending == cfg.MaxAckPending && have.AckWait == cfg.AckWait && have.MaxDeliver == cfg.MaxDeliver {
		return nil
	}
	_, err = b.JS.UpdateConsumer(ctx, stream, cfg)
	return err
}

func checkSchema(meta map[string]string) error {
	have, err := strconv.Atoi(meta[metaSchema])
	if err != nil {
		return errors.New("it was not made by this connector")
	}
	if have > schema {
		return fmt.Errorf("it has schema %d, this version knows %d: upgrade first", have, schema)
	}
	return nil
}
