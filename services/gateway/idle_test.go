package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

func (o *orchestrator) KeepAlive(_ context.Context, r *orchestratorv1.KeepAliveRequest) (*orchestratorv1.KeepAliveResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.callers = append(o.callers, r.GetCaller())
	return &orchestratorv1.KeepAliveResponse{Response: &axpchatv1.KeepAliveResponse{ExpireTime: timestamppb.New(time.Unix(1e9, 0))}}, nil
}

func TestKeepAliveOverREST(t *testing.T) {
	s := start(t, nil)
	got := s.call(http.MethodPost, s.url("s1", ":keepAlive"), token(t, subject, nil), "{}")
	if got.status != http.StatusOK || !strings.Contains(got.body, `"expireTime":"2001-09-09T01:46:40Z"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestStreamsTellTheIdleRulesAndTakeKeepAlives on every transport, and the
// gateway says that a client is there.
func TestStreamsTellTheIdleRulesAndTakeKeepAlives(t *testing.T) {
	s := start(t, nil)
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			session := "idle-" + strings.ReplaceAll(tr.name, " ", "-")
			s.session(session)
			_, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, session), func(rec *busv1.SessionRecord) error {
				rec.Session.IdleRules = &axpchatv1.IdleRules{IdleTimeout: durationpb.New(15 * time.Minute)}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if here, err := s.bus.Present(ctx, account, session); err != nil || here {
				t.Errorf("before: %v, %v", here, err)
			}
			f := mustOpen(t, s, tr, token(t, subject, nil), session, "")
			if !tr.stream { // it polls when it is asked; afterwards it is between two polls
				s.say(session, "0", "hello")
			}
			frame, err := f.next()
			if err != nil {
				t.Fatal(err)
			}
			if tr.stream {
				if got := frame.GetWelcome().GetIdleRules().GetIdleTimeout().AsDuration(); got != 15*time.Minute {
					t.Errorf("the welcome says %v", got)
				}
			}
			for here := false; !here; {
				if here, err = s.bus.Present(ctx, account, session); err != nil || ctx.Err() != nil {
					t.Fatalf("nobody is there: %v", err)
				}
			}
			sp, ok := f.(speaker)
			if !ok || !tr.twoWay {
				return
			}
			if err := sp.say(&axpchatv1.ConnectRequest{FrameId: "k", Payload: &axpchatv1.ConnectRequest_KeepAlive{KeepAlive: &axpchatv1.KeepAliveRequest{}}}); err != nil {
				t.Fatal(err)
			}
			answer := want(t, f, "the answer", func(r *axpchatv1.ConnectResponse) (*axpchatv1.Reply, bool) {
				return r.GetReply(), r.GetReply().GetFrameId() == "k"
			})
			if answer.GetKeepAlive().GetExpireTime().AsTime().Unix() != 1e9 {
				t.Errorf("answer %v", answer)
			}
		})
	}
}
