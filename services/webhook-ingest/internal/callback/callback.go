package callback

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

// Store is where events are kept.
type Store interface {
	PublishEvent(ctx context.Context, rec *busv1.EventRecord) (bus.Ack, error)
	PublishUnrouted(ctx context.Context, rec *busv1.UnroutedRecord, msgID string) (bus.Ack, error)
	ReadEvents(ctx context.Context, account, session string, after uint64, limit int) ([]bus.StoredEvent, bool, error)
}

// Params is what New needs.
type Params struct {
	Keys      *keyring.Keyring
	Router    *route.Router
	Store     Store
	Verifier  *Verifier // nil: no signature is asked for
	Log       *slog.Logger
	Providers *telemetry.Providers
	Limits    Limits
	Accounts  []string // empty: every account whose key is right
	// ChannelProviders are those whose events are told to clients; empty: all.
	ChannelProviders []string
	// Allowed are the networks that calls are taken from; empty: any. Proxies are
	// our own, which say where a call came from.
	Allowed, Proxies httpx.Networks
	// Outdated tells whether a key or proof that is not known here may be right: a
	// secret is in force that this replica does not have. nil: never.
	Outdated func() bool
	// Waiting counts what was set aside.
	Waiting func(ctx context.Context) (uint64, error)
}

// Limits bounds what a call may cost.
type Limits struct {
	Body         int64         // bytes
	Read         time.Duration // for the body of a call that is turned away
	StoreTimeout time.Duration // for storing the event
	Answer       time.Duration // for all of it, from the call's head to the answer
	Concurrent   int           // calls at a time
	Duplicates   time.Duration // how long the store itself knows a copy
}

// leastStoreTime is left for storing even after a slow body and a long search:
// the event is here, and a copy of it would cost more.
const leastStoreTime = 500 * time.Millisecond

// Handler serves AXP's webhook, see [Handler.Behind]. It is safe for concurrent
// use.
type Handler struct {
	p         Params
	metrics   *metrics
	strangers *slog.Logger
	slots     chan struct{}
	accounts  atomic.Pointer[[]string] // never changed, only replaced
}

// New makes a handler.
func New(p Params) (*Handler, error) {
	m, err := newMetrics(p.Providers, p.Waiting)
	if err != nil {
		return nil, err
	}
	if p.Outdated == nil {
		p.Outdated = func() bool { return false }
	}
	h := &Handler{
		p: p, metrics: m, strangers: logx.Sparse(p.Log, strangersEvery), slots: make(chan struct{}, max(p.Limits.Concurrent, 1)),
	}
	h.SetAccounts(p.Accounts)
	return h, nil
}

// SetAccounts replaces the accounts whose calls are taken. Calls that are under
// way are not affected.
func (h *Handler) SetAccounts(accounts []string) {
	own := slices.Clone(accounts)
	h.accounts.Store(&own)
}

// Pattern is where the handler is mounted; all methods, since a wrong one is
// answered here.
const Pattern = "/webhooks/axp/{account}/{key}"

// serve answers one call of AXP: 200 when its event is stored, 503 when it
// should be sent again, another status when it will never be taken.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	// The store goes on when AXP hangs up: the event is here now, and its copy
	// would only be dropped as one.
	ctx := context.WithoutCancel(r.Context())
	eventType, result, no := h.take(ctx, w, r, began.Add(h.p.Limits.Answer))
	if no != nil {
		result = no.result
		no.write(w)
	} else {
		w.WriteHeader(http.StatusOK)
	}
	describe(trace.SpanFromContext(ctx), eventType, result)
	h.metrics.answered(ctx, eventType, result, time.Since(began))
}

func describe(span trace.Span, eventType, result string) {
	if span.IsRecording() {
		span.SetAttributes(attribute.String("axpchat.event.type", eventType), attribute.String("axpchat.result", result))
	}
}

// take checks a call, reads it and has its event stored, by due if it can.
func (h *Handler) take(ctx context.Context, w http.ResponseWriter, r *http.Request, due time.Time) (eventType, result string, no *refusal) {
	account := r.PathValue("account")
	if no := h.check(r); no != nil {
		return noType, "", no
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		busy := later(resultBusy, "too many calls at a time")
		busy.close = true
		return noType, "", busy
	}
	c, event, no := h.read(ctx, w, r, account)
	if no != nil {
		return noType, "", no
	}
	c.due = due
	if event == nil {
		result, no := h.setAside(ctx, c, causeNoEvent, noType)
		return noType, result, no
	}
	result, no = h.keep(ctx, c, event)
	return event.Type, result, no
}

// read reads the body of a call; there is no event where it is JSON, but none of
// AXP's. It is apart from take because storing comes on top of take's stack: with
// all of this on it too, the stack of every connection was copied once more
// whenever the collector had shrunk it.
func (h *Handler) read(ctx context.Context, w http.ResponseWriter, r *http.Request, account string) (*call, *normalise.Result, *refusal) {
	body, no := h.body(w, r)
	if no != nil {
		return nil, nil, no
	}
	if !h.p.Verifier.Verify(r.Header, body) {
		h.p.Log.WarnContext(ctx, "callback with a wrong signature refused", "account", account)
		return nil, nil, refuse(http.StatusUnauthorized, resultSignature, "the body's signature is missing or wrong")
	}
	c := &call{account: account, body: body, received: timestamppb.Now()}
	event, err := normalise.Callback(body)
	switch {
	case errors.Is(err, normalise.ErrNotJSON):
		h.p.Log.WarnContext(ctx, "callback that is not JSON refused", "account", account)
		return nil, nil, refuse(http.StatusBadRequest, resultMalformed, normalise.ErrNotJSON.Error())
	case err != nil:
		return c, nil, nil
	}
	return c, &event, nil
}

// call is what is known of a call that was let in.
type call struct {
	account  string // of the path
	body     []byte
	received *timestamppb.Timestamp
	due      time.Time // when AXP should have its answer
}

// storeTime is how long storing may take from now on.
func (h *Handler) storeTime(c *call) time.Duration {
	return max(min(h.p.Limits.StoreTimeout, time.Until(c.due)), leastStoreTime)
}

// check refuses what of AXP's needs no look at the body.
func (h *Handler) check(r *http.Request) *refusal {
	switch encoding := strings.TrimSpace(r.Header.Get("Content-Encoding")); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return &refusal{status: http.StatusUnsupportedMediaType, result: resultEncoding, detail: "send the body without Content-Encoding", close: true}
	case r.ContentLength > h.p.Limits.Body:
		return h.tooLarge()
	}
	return nil
}

// isAccount tells whether s has the form of AXP's account ids: six letters.
func isAccount(s string) bool {
	if len(s) != 6 {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// containsFold compares as one does account ids, whose case AXP promises nothing
// about.
func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(v string) bool { return strings.EqualFold(v, s) })
}

func (h *Handler) tooLarge() *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, result: resultTooLarge, detail: "the body is larger than is allowed", close: true}
}

// usualBody is more than the bodies of AXP's own events have, in bytes.
const usualBody = 16 << 10

// body reads the whole body within its limit of size; that of time is set by
// the server's middleware.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	var body bytes.Buffer
	// A declared length is believed as far as AXP's bodies go: a lie must not cost
	// much. What is longer, or tells no length, grows as it comes.
	body.Grow(int(min(max(r.ContentLength, 0), usualBody)) + bytes.MinRead)
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, h.p.Limits.Body))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body.Bytes(), nil
	case errors.As(err, &tooLarge):
		return nil, h.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refusal{status: http.StatusRequestTimeout, result: resultSlow, detail: "the body took too long", close: true}
	default:
		return nil, &refusal{status: http.StatusBadRequest, result: resultMalformed, detail: "the body could not be read", close: true}
	}
}

// keep finds the event's place and stores it there.
func (h *Handler) keep(ctx context.Context, c *call, event *normalise.Result) (string, *refusal) {
	switch cause := h.foreign(c, event); cause {
	case causeAccount:
		return h.suspect(ctx, c, cause, event.Type, refuse(http.StatusForbidden, resultAccount, "the event belongs to another account than the path"))
	case causeProvider:
		return h.setAside(ctx, c, cause, event.Type)
	}
	target, err := h.find(ctx, c, &event.Keys)
	switch {
	case errors.Is(err, route.ErrForged) && h.p.Outdated():
		return "", later(resultOutdated, outdatedDetail)
	case errors.Is(err, route.ErrForged):
		return h.suspect(ctx, c, causeForged, event.Type, refuse(http.StatusForbidden, resultForged, "providerDialogId carries a wrong proof"))
	case errors.Is(err, route.ErrNobody):
		return h.setAside(ctx, c, causeUnrouted, event.Type)
	case err != nil:
		h.p.Log.ErrorContext(ctx, "callback can't be routed now", "account", c.account, "type", event.Type, "error", err)
		return "", later(resultUnavailable, "the event could not be stored; send it again")
	case event.StaffOnly:
		return h.setAside(ctx, c, causeStaffOnly, event.Type)
	}
	return h.journal(ctx, c, event, target)
}

// foreign tells why an event is none of ours, whoever its session is; empty: it may
// be.
func (h *Handler) foreign(c *call, event *normalise.Result) string {
	if a := event.Keys.Account; a != "" && !strings.EqualFold(a, c.account) {
		return causeAccount
	}
	if p := event.Keys.ChannelProvider; p != "" && len(h.p.ChannelProviders) > 0 && !slices.Contains(h.p.ChannelProviders, p) {
		return causeProvider
	}
	return ""
}

// find leaves some of the time for storing, where it takes any at all.
func (h *Handler) find(ctx context.Context, c *call, keys *normalise.Keys) (route.Target, error) {
	if target, told, err := h.p.Router.Told(c.account, *keys); told {
		return target, err
	}
	ctx, cancel := context.WithDeadline(ctx, c.due.Add(-leastStoreTime))
	defer cancel()
	return h.p.Router.Search(ctx, c.account, *keys)
}

// journal stores an event in the journal of its session.
func (h *Handler) journal(ctx context.Context, c *call, event *normalise.Result, target route.Target) (string, *refusal) {
	happened := event.Event.GetEventTime()
	event.Place(target.Session, target.Engagement, c.received)
	ctx, cancel := context.WithTimeout(ctx, h.storeTime(c))
	defer cancel()
	if h.sentBefore(ctx, c.account, event.Event) {
		return resultDuplicate, nil
	}
	ack, err := h.p.Store.PublishEvent(ctx, &busv1.EventRecord{Account: c.account, Event: event.Event})
	if errors.Is(err, bus.ErrErased) {
		return resultErased, nil // a copy would be dropped as well
	}
	if err != nil {
		return "", h.notStored(ctx, c.account, event.Type, err)
	}
	if ack.Duplicate {
		return resultDuplicate, nil
	}
	if happened != nil {
		h.metrics.aged(ctx, event.Type, time.Since(happened.AsTime()))
	}
	return resultStored, nil
}

func (h *Handler) notStored(ctx context.Context, account, eventType string, err error) *refusal {
	h.p.Log.ErrorContext(ctx, "callback not stored", "account", account, "type", eventType, "error", err)
	if errors.Is(err, nats.ErrMaxPayload) {
		// It never will be: a 503 would make AXP send it again for nothing.
		return h.tooLarge()
	}
	return later(resultUnavailable, "the event could not be stored; send it again")
}
