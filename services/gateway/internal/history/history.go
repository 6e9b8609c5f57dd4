// Package history owns the reading of a conversation from the journal: the
// messages of an engagement, each once with its newest status, a page at a
// time. The journal is the history of record, so AXP is never asked.
package history

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const (
	defaultPage = 50
	maxPage     = 100
)

// Lister lists messages. It is safe for concurrent use.
type Lister struct {
	engine   *delivery.Engine
	sessions *sessions.Reader
}

// NewLister returns a lister.
func NewLister(e *delivery.Engine, s *sessions.Reader) *Lister {
	return &Lister{engine: e, sessions: s}
}

// List returns a page of messages, in the order of their first appearance in
// the journal or the reverse. It fails with SESSION_NOT_FOUND,
// ENGAGEMENT_NOT_FOUND or PAGE_TOKEN_INVALID.
func (l *Lister) List(ctx context.Context, p *auth.Principal, req *axpchatv1.ListMessagesRequest) (*axpchatv1.ListMessagesResponse, error) {
	rec, err := l.sessions.Owned(ctx, p, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	journal, err := sessions.Journal(p.Account, rec, req.GetEngagementId())
	if err != nil {
		return nil, err
	}
	after, err := parseToken(req.GetPageToken(), req)
	if err != nil {
		return nil, err
	}
	f := newFold(req.GetEngagementId())
	if err := l.engine.Walk(ctx, journal, func(ev *axpchatv1.Event) bool { f.add(ev); return true }); err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size <= 0 {
		size = defaultPage
	}
	return page(f.entries, after, min(size, maxPage), req), nil
}

// page cuts one page out of all entries, which are oldest first.
func page(entries []*entry, after uint64, size int, req *axpchatv1.ListMessagesRequest) *axpchatv1.ListMessagesResponse {
	if req.GetNewestFirst() {
		entries = slices.Clone(entries)
		slices.Reverse(entries)
	}
	if after > 0 {
		begin := slices.IndexFunc(entries, func(e *entry) bool {
			if req.GetNewestFirst() {
				return e.sequence < after
			}
			return e.sequence > after
		})
		if begin < 0 {
			begin = len(entries)
		}
		entries = entries[begin:]
	}
	resp := &axpchatv1.ListMessagesResponse{}
	if len(entries) > size {
		entries = entries[:size]
		resp.NextPageToken = formatToken(entries[size-1].sequence, req)
	}
	for _, e := range entries {
		resp.Messages = append(resp.Messages, e.message)
	}
	return resp
}

// A page token names the direction and the last message that was returned by
// its first place in the journal, which never changes: pages neither repeat nor
// skip a message when new ones come.
const tokenVersion = "1"

func direction(req *axpchatv1.ListMessagesRequest) string {
	if req.GetNewestFirst() {
		return "d"
	}
	return "a"
}

func formatToken(sequence uint64, req *axpchatv1.ListMessagesRequest) string {
	text := strings.Join([]string{tokenVersion, direction(req), req.GetEngagementId(), strconv.FormatUint(sequence, 10)}, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func parseToken(token string, req *axpchatv1.ListMessagesRequest) (uint64, error) {
	if token == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		parts := strings.Split(string(text), ".")
		if len(parts) == 4 && parts[0] == tokenVersion && parts[1] == direction(req) && parts[2] == req.GetEngagementId() {
			if seq, err := strconv.ParseUint(parts[3], 10, 64); err == nil && seq > 0 {
				return seq, nil
			}
		}
	}
	return 0, errs.New(axpchatv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID, "the page token does not belong to this list; begin without one").
		WithViolation("pageToken", "is not a page token of this list", "page_token")
}
