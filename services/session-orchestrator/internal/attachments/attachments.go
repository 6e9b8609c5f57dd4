// Package attachments owns signed addresses of media: it asks AXP for them and
// remembers which session a file belongs to. A session can open what it has
// uploaded itself and what came in messages of its own journal or of one it
// has joined, and nothing else. The files themselves never pass through here.
package attachments

import (
	"context"
	"errors"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
)

// Service gets signed addresses. It is safe for concurrent use.
type Service struct {
	bus      *bus.Bus
	records  *records.Records
	accounts *accounts.Registry
}

// New makes the service.
func New(b *bus.Bus, r *records.Records, a *accounts.Registry) *Service {
	return &Service{bus: b, records: r, accounts: a}
}

// Create gets an address to upload a file to.
func (s *Service) Create(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.CreateAttachmentRequest) (*axpchatv1.Attachment, error) {
	session, _, err := s.records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	client, err := s.accounts.Client(caller.GetAccount())
	if err != nil {
		return nil, err
	}
	media, err := client.SignedUploadURI(ctx, axp.SignedMediaInfo{
		MediaName: req.GetName(), MediaContentType: req.GetContentType(), MediaSize: req.GetSize(),
	})
	if err != nil {
		return nil, err
	}
	if err := Remember(ctx, s.bus, caller.GetAccount(), session.GetSession().GetSessionId(), media.MediaID); err != nil {
		return nil, records.Unavailable(err)
	}
	return &axpchatv1.Attachment{
		AttachmentId: media.MediaID, Name: req.GetName(), ContentType: req.GetContentType(), Size: req.GetSize(), UploadUrl: media.URL,
	}, nil
}

// Get gets an address to download a file from.
func (s *Service) Get(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.GetAttachmentRequest) (*axpchatv1.Attachment, error) {
	session, _, err := s.records.Session(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if err := s.mayOpen(ctx, session, req.GetAttachmentId()); err != nil {
		return nil, err
	}
	client, err := s.accounts.Client(caller.GetAccount())
	if err != nil {
		return nil, err
	}
	media, err := client.SignedDownloadURI(ctx, req.GetAttachmentId())
	if axp.IsNotFound(err) {
		return nil, notFound().WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	return &axpchatv1.Attachment{
		AttachmentId: req.GetAttachmentId(), Name: media.MediaName, ContentType: media.MediaContentType, Size: media.MediaSize, DownloadUrl: media.URL,
	}, nil
}

func (s *Service) mayOpen(ctx context.Context, session *busv1.SessionRecord, media string) error {
	account := session.GetSession().GetAccount()
	sessions := []string{session.GetSession().GetSessionId()}
	for _, joined := range session.GetJoined() {
		if ref, ok := records.ParseJoined(account, joined); ok {
			sessions = append(sessions, ref.Session)
		}
	}
	for _, id := range sessions {
		_, _, err := s.bus.Index.Get(ctx, bus.IndexMedia(account, id, media))
		if err == nil {
			return nil
		}
		if !errors.Is(err, bus.ErrNotFound) {
			return records.Unavailable(err)
		}
	}
	return notFound()
}

func notFound() *errs.Error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_ATTACHMENT_NOT_FOUND, "the session has no such attachment")
}

// Remember notes that a file belongs to a session.
func Remember(ctx context.Context, b *bus.Bus, account, session, media string) error {
	_, err := b.Index.Create(ctx, bus.IndexMedia(account, session, media), &busv1.IndexRecord{Account: account, SessionId: session})
	if errors.Is(err, bus.ErrExists) {
		return nil
	}
	return err
}
