package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// sampleFiles are callback bodies: the project's own and, where they are there,
// those of AXP's contract (AXP_SPEC_DIR, or shared/axp beside the repository).
func sampleFiles(t testing.TB) []string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	spec := os.Getenv("AXP_SPEC_DIR")
	if spec == "" {
		spec = filepath.Join(root, "..", "shared", "axp")
	}
	var files []string
	for _, pattern := range []string{filepath.Join(filepath.Dir(file), "testdata", "events", "*.json"), filepath.Join(spec, "events", "*.json")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

// TestEverySampleReachesTheClientIntact posts each sample as AXP would and
// looks for every value of it in what the client receives.
func TestEverySampleReachesTheClientIntact(t *testing.T) {
	s := suitetest.Start(t)
	ctx, stop := context.WithTimeout(t.Context(), 3*patience)
	defer stop()
	hook := s.CallbackURL(ctx, t)
	keys, err := keyring.New(keyring.Config{Secret: suitetest.WebhookSecret})
	if err != nil {
		t.Fatal(err)
	}
	files := sampleFiles(t)
	if len(files) < 6 {
		t.Fatalf("only %d samples found", len(files))
	}
	for i, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			token, err := suitetest.Token(ctx, s.Sandbox, name, fmt.Sprint(name, i))
			if err != nil {
				t.Fatal(err)
			}
			app := newGRPCCustomer(t, s.GRPC, token)
			session, err := app.createSession(ctx, &axpchatv1.CreateSessionRequest{})
			if err != nil {
				t.Fatal(err)
			}
			streamCtx, cancel := context.WithCancel(ctx)
			defer cancel()
			box, err := app.watch(streamCtx, session.GetSessionId(), "")
			if err != nil {
				t.Fatal(err)
			}
			eng, err := app.createEngagement(ctx, &axpchatv1.CreateEngagementRequest{SessionId: session.GetSessionId()})
			if err != nil {
				t.Fatal(err)
			}
			dialogID := keys.MintDialogID(suitetest.Account, session.GetSessionId(), eng.GetEngagementId())
			sample := readSample(t, path)
			sample["accountId"], sample["providerDialogId"] = suitetest.Account, dialogID
			postCallback(ctx, t, hook, sample)
			correlation, _ := sample["correlationId"].(string)
			e, err := box.event(ctx, "the sample", func(e *axpchatv1.Event) bool { return e.GetCorrelationId() == correlation })
			if err != nil {
				t.Fatal(err)
			}
			if e.GetEngagementId() != eng.GetEngagementId() {
				t.Errorf("engagement %q, want %q", e.GetEngagementId(), eng.GetEngagementId())
			}
			sample["providerDialogId"] = keyring.PublicDialogID(dialogID)
			compareLeaves(t, sample, e)
		})
	}
}

// TestACallbackIsRoutedByAXPsIDsWhereOursIsMissing: providerDialogId is optional.
func TestACallbackIsRoutedByAXPsIDsWhereOursIsMissing(t *testing.T) {
	s := suitetest.Start(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	hook := s.CallbackURL(ctx, t)
	token, err := suitetest.Token(ctx, s.Sandbox, "Ada", "ada")
	if err != nil {
		t.Fatal(err)
	}
	app := newGRPCCustomer(t, s.GRPC, token)
	session, err := app.createSession(ctx, &axpchatv1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	box, err := app.watch(ctx, session.GetSessionId(), "")
	if err != nil {
		t.Fatal(err)
	}
	eng, err := app.createEngagement(ctx, &axpchatv1.CreateEngagementRequest{SessionId: session.GetSessionId()})
	if err != nil {
		t.Fatal(err)
	}
	for i, ids := range []map[string]any{
		{"dialogId": eng.GetAxpDialogId()},
		{"engagementId": eng.GetAxpEngagementId(), "providerDialogId": "somebody-elses"},
		{"sessionId": session.GetAxpSessionId()},
	} {
		text := fmt.Sprint("found ", i)
		event := map[string]any{
			"eventType": "MESSAGES", "correlationId": text, "eventDate": "2026-03-11T09:12:43.579Z", "messageId": text, "accountId": suitetest.Account,
			"channelProviderId": suitetest.Provider, "channelId": "Chat", "senderParticipantId": "p", "senderParticipantName": "Bo", "senderParticipantType": "BOT",
			"status": "DELIVERED", "body": map[string]any{"elementType": "text", "elementText": map[string]any{"text": text}},
		}
		maps.Copy(event, ids)
		postCallback(ctx, t, hook, event)
		if _, err := box.event(ctx, text, func(e *axpchatv1.Event) bool {
			return e.GetMessageArrived().GetBody().GetElementText().GetText() == text
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func readSample(t testing.TB, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var sample map[string]any
	if err := json.Unmarshal(data, &sample); err != nil {
		t.Fatal(err)
	}
	return sample
}

// postCallback calls like AXP, which wants exactly 200.
func postCallback(ctx context.Context, t testing.TB, url string, event map[string]any) {
	t.Helper()
	data, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the callback got %s", resp.Status)
	}
}

// compareLeaves looks for every scalar of the sample among those of the event.
func compareLeaves(t testing.TB, sample map[string]any, e *axpchatv1.Event) {
	t.Helper()
	data, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	walk("", got, func(_, v string) { have[v]++ })
	for _, text := range []string{e.GetUnknown().GetRawJson(), e.GetExtraJson()} {
		if text == "" {
			continue
		}
		var inner any
		if err := json.Unmarshal([]byte(text), &inner); err != nil {
			t.Fatal(err)
		}
		walk("", inner, func(_, v string) { have[v]++ })
	}
	walk("", sample, func(path, v string) {
		if path == ".eventType" {
			return // it became the payload's name
		}
		if have[v] == 0 {
			t.Errorf("%s: %q of the sample is not in the event\n%s", path, v, data)
		}
		have[v]--
	})
}

// walk visits scalars in one spelling: instants in UTC, enums without prefix.
func walk(path string, v any, visit func(path, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			walk(path+"."+k, x, visit)
		}
	case []any:
		for i, x := range v {
			walk(fmt.Sprintf("%s[%d]", path, i), x, visit)
		}
	case string:
		for _, prefix := range []string{"PARTICIPANT_TYPE_", "TEXT_FORMAT_", "MESSAGE_STATUS_"} {
			v = strings.TrimPrefix(v, prefix)
		}
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			v = at.UTC().Format(time.RFC3339Nano)
		}
		visit(path, v)
	case nil:
	default:
		visit(path, fmt.Sprint(v))
	}
}
