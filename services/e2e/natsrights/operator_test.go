package natsrights

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

// operatorSteps are the commands of webhook-ingest for what was set aside.
func operatorSteps() []step {
	return []step{
		{"list what was set aside, and replay it", func(ctx context.Context, w *world) error {
			dialog, session := fresh("d"), fresh("s")
			for _, of := range []string{dialog, fresh("nobodys")} {
				raw := fmt.Sprintf(`{"eventType":"MESSAGES","accountId":%q,"dialogId":%q,"messageId":%q,"senderParticipantType":"AGENT","fallbackText":"hi"}`, account, of, fresh("m"))
				if _, err := w.ingest.PublishUnrouted(ctx, &busv1.UnroutedRecord{Account: account, Raw: []byte(raw), Cause: "no-session"}, fresh("u")); err != nil {
					return err
				}
			}
			if _, err := w.orchestrator.Index.Create(ctx, bus.IndexDialog(account, dialog), &busv1.IndexRecord{SessionId: session, EngagementId: "e"}); err != nil {
				return err
			}
			listed, err := unrouted(ctx, w, false)
			if err != nil || !strings.Contains(listed, "1 routable") {
				return fmt.Errorf("listed %q: %w", listed, err)
			}
			replayed, err := unrouted(ctx, w, true)
			if err != nil {
				return err
			}
			events, _, err := w.orchestrator.ReadEvents(ctx, account, session, 0, 10)
			if err == nil && len(events) != 1 {
				err = fmt.Errorf("%d events: %q", len(events), replayed)
			}
			return err
		}},
		{"not replay it again", func(ctx context.Context, w *world) error {
			out, err := unrouted(ctx, w, true)
			if err == nil && (strings.Contains(out, "stored") || !strings.Contains(out, "no-session")) {
				err = errors.New(out)
			}
			return err
		}},
	}
}

func unrouted(ctx context.Context, w *world, replay bool) (string, error) {
	var cfg ingest.Config
	if err := config.Load(&cfg, config.Map(map[string]string{"WEBHOOK_SECRET": "0123456789abcdef"})); err != nil {
		return "", err
	}
	var out strings.Builder
	err := ingest.Unrouted(ctx, ingest.UnroutedParams{Config: cfg, Log: slog.New(slog.DiscardHandler), Bus: w.operator, Out: &out, Replay: replay})
	return out.String(), err
}
