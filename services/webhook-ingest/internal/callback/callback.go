package callback

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/webhook-ingest/internal/normalise"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

// Store is where events are kept.
type Store interface {
	PublishEvent(ctx context.Context, rec *busv1.EventRecord) (bus.Ack, error)
	PublishUnrouted(ctx context.Context, rec *busv1.UnroutedRecord, msgID string) (bus.Ack, error)
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
}

// Limits bounds what a call may cost.
type Limits struct {
	Body         int64         // bytes
	StoreTimeout time.Duration // for storing the event
	Concurrent   int           // calls at a time
}

// Handler serves AXP's webhook. It is safe for concurrent use.
type Handler struct {
	p       Params
	metrics *metrics
	slots   chan struct{}
}

// New makes a handler.
func New(p Params) (*Handler, error) {
	m, err := newMetrics(p.Providers)
	if err != nil {
		return nil, err
	}
	return &Handler{p: p, metrics: m, slots: make(chan struct{}, max(p.Limits.Concurrent, 1))}, nil
}

// Pattern is where the handler is mounted; all methods, since a wrong one is
// answered here.
const Pattern = "/webhooks/axp/{account}/{key}"

// ServeHTTP answers one call of AXP: 200 when its event is stored, 503 when it
// should be sent again, another status when it will never be taken.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	// The store goes on when AXP hangs up: the event is here now, and its copy
	// would only be dropped as one.
	ctx := context.WithoutCancel(r.Context())
	eventType, result, no := h.take(ctx, w, r)
	if no != nil {
		result = no.result
		no.write(w)
	} else {
		w.WriteHeader(http.StatusOK)
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("axpchat.event.type", eventType), attribute.String("axpchat.result", result))
	h.metrics.answered(ctx, eventType, result, time.Since(began))
}

// take checks a call, reads it and has its event stored.
func (h *Handler) take(ctx context.Context, w http.ResponseWriter, r *http.Request) (eventType, result string, no *refusal) {
	account := r.PathValue("account")
	if no := h.check(r, account); no != nil {
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
	body, no := h.body(w, r)
	if no != nil {
		return noType, "", no
	}
	if !h.p.Verifier.Verify(r.Header, body) {
		h.p.Log.WarnContext(ctx, "callback with a wrong signature refused", "account", account)
		return noType, "", refuse(http.StatusUnauthorized, resultSignature, "the body's signature is missing or wrong")
	}
	event, err := normalise.Callback(body)
	if err != nil {
		h.p.Log.WarnContext(ctx, "callback that is no event refused", "account", account, "error", err)
		return noType, "", refuse(http.StatusBadRequest, resultMalformed, plain(err))
	}
	result, no = h.keep(ctx, account, body, event)
	return event.Type, result, no
}

// check refuses what needs no look at the body.
func (h *Handler) check(r *http.Request, account string) *refusal {
	// The key is checked in any case, so that the time does not tell which of the
	// conditions failed.
	known := h.p.Keys.CheckCallbackKey(account, r.PathValue("key"))
	known = isAccount(account) && (len(h.p.Accounts) == 0 || slices.Contains(h.p.Accounts, account)) && known
	switch encoding := strings.TrimSpace(r.Header.Get("Content-Encoding")); {
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, resultMethod, "only POST is served here")
	case !known:
		return &refusal{status: http.StatusNotFound, result: resultKey, detail: nothingHere, close: true}
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

func (h *Handler) tooLarge() *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, result: resultTooLarge, detail: "the body is larger than is allowed", close: true}
}

// body reads the whole body within its limit of size; that of time is set by
// the server's middleware.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.p.Limits.Body))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, h.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refusal{status: http.StatusRequestTimeout, result: resultSlow, detail: "the body took too long", close: true}
	default:
		return nil, &refusal{status: http.StatusBadRequest, result: resultMalformed, detail: "the body could not be read", close: true}
	}
}

// keep finds the event's place and stores it there.
func (h *Handler) keep(ctx context.Context, account string, body []byte, event normalise.Result) (string, *refusal) {
	if a := event.Keys.Account; a != "" && a != account {
		h.p.Log.WarnContext(ctx, "callback for another account refused", "account", account)
		return "", refuse(http.StatusForbidden, resultAccount, "the event belongs to another account than the path")
	}
	received := timestamppb.Now()
	target, err := h.p.Router.Find(ctx, account, event.Keys)
	switch {
	case errors.Is(err, route.ErrForged):
		h.p.Log.WarnContext(ctx, "callback with a forged providerDialogId refused", "account", account, "type", event.Type)
		return "", refuse(http.StatusForbidden, resultForged, "providerDialogId carries a wrong proof")
	case errors.Is(err, route.ErrNobody):
		return h.setAside(ctx, event, &busv1.UnroutedRecord{Account: account, Raw: body, ReceiveTime: received, Cause: causeUnrouted})
	case err != nil:
		h.p.Log.ErrorContext(ctx, "callback can't be routed now", "account", account, "type", event.Type, "error", err)
		return "", later(resultUnavailable, "the event could not be stored; send it again")
	case event.StaffOnly:
		return h.setAside(ctx, event, &busv1.UnroutedRecord{Account: account, Raw: body, ReceiveTime: received, Cause: causeStaffOnly})
	}
	eventTime := event.Event.GetEventTime()
	event.Place(target.Session, target.Engagement, received)
	ctx, cancel := context.WithTimeout(ctx, h.p.Limits.StoreTimeout)
	defer cancel()
	ack, err := h.p.Store.PublishEvent(ctx, &busv1.EventRecord{Account: account, Event: event.Event})
	if err != nil {
		return "", h.notStored(ctx, account, event.Type, err)
	}
	if ack.Duplicate {
		return resultDuplicate, nil
	}
	if eventTime != nil {
		h.metrics.aged(ctx, event.Type, time.Since(eventTime.AsTime()))
	}
	return resultStored, nil
}

// Causes in the stream of what could not be routed.
const (
	causeUnrouted  = "no-session"
	causeStaffOnly = "staff-only"
)

// setAside stores an event that no client may or can be told, for operators.
func (h *Handler) setAside(ctx context.Context, event normalise.Result, rec *busv1.UnroutedRecord) (string, *refusal) {
	ctx, cancel := context.WithTimeout(ctx, h.p.Limits.StoreTimeout)
	defer cancel()
	id := rec.GetAccount() + "." + rec.GetCause() + "." + event.Event.GetEventId()
	ack, err := h.p.Store.PublishUnrouted(ctx, rec, id)
	if err != nil {
		return "", h.notStored(ctx, rec.GetAccount(), event.Type, err)
	}
	if ack.Duplicate {
		return resultDuplicate, nil
	}
	h.p.Log.WarnContext(ctx, "callback set aside", "account", rec.GetAccount(), "type", event.Type, "cause", rec.GetCause(), "sequence", ack.Sequence)
	if rec.GetCause() == causeStaffOnly {
		return resultStaffOnly, nil
	}
	return resultUnrouted, nil
}

func (h *Handler) notStored(ctx context.Context, account, eventType string, err error) *refusal {
	h.p.Log.ErrorContext(ctx, "callback not stored", "account", account, "type", eventType, "error", err)
	if errors.Is(err, nats.ErrMaxPayload) {
		// It never will be: a 503 would make AXP send it again for nothing.
		return h.tooLarge()
	}
	return later(resultUnavailable, "the event could not be stored; send it again")
}

// plain is the part of a parse error that holds nothing of the body.
func plain(err error) string {
	for _, known := range []error{normalise.ErrTooDeep, normalise.ErrNotObject, normalise.ErrNotJSON} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the body is not an event"
}
