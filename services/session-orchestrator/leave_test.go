package orchestrator_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// grace is what the orchestrator is given to leave. NATS answers nothing for longer.
const grace = 12 * time.Second

// leaver is an orchestrator that reaches NATS by a link, beside which a test can have
// another one.
type leaver struct {
	*rig
	link  *bustest.Link
	leave func() (time.Duration, error) // as SIGTERM does
	logs  *logtest.Records
}

func newLeaver(t *testing.T) *leaver {
	t.Helper()
	s, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	l := &leaver{rig: &rig{t: t, axp: axptest.Start(t), nats: s, who: ada}, link: bustest.NewLink(t, strings.TrimPrefix(s.ClientURL(), "nats://")), logs: &logtest.Records{}}
	cfg, err := load(variables(l.axp.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(l.logs, nil))
	cfg.Bus.URL = l.link.URL()
	slow, err := bus.Connect(t.Context(), bus.Params{Config: cfg.Bus, Name: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o, err := orchestrator.New(t.Context(), orchestrator.Params{Config: cfg, Log: log, Bus: slow, Listener: lis})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	l.o, l.conn, l.client, l.bus = o, conn, orchestratorv1.NewOrchestratorServiceClient(conn), bustest.Connect(t, s, cfg.Bus)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, log, grace, o.Components()...) }()
	l.leave = func() (time.Duration, error) {
		began := time.Now()
		cancel()
		err := <-done
		_ = conn.Close()
		if closed := o.Close(); closed != nil {
			t.Errorf("close: %v", closed)
		}
		if closed := slow.Close(); closed != nil {
			t.Errorf("close the bus: %v", closed)
		}
		return time.Since(began), err
	}
	return l
}

func (l *leaver) mustLeave() {
	l.t.Helper()
	if took, err := l.leave(); err != nil || took > grace {
		l.t.Errorf("left after %s of %s: %v\n%s", took, grace, err, l.logs)
	}
}

// TestLeavingWhileNATSAnswersNothingIsClean: where nothing is in flight there is
// nothing to be harmed, and who takes over works on.
func TestLeavingWhileNATSAnswersNothingIsClean(t *testing.T) {
	t.Parallel()
	l := newLeaver(t)
	s, chat := l.chat()
	m := l.mustSend(chat, "c1", "before")
	l.event(s.GetSessionId(), m.GetMessageId()+".sent")
	l.link.Set(false, true)
	l.mustLeave()
	l.start(nil)
	m = l.mustSend(chat, "c2", "behind")
	l.event(s.GetSessionId(), m.GetMessageId()+".sent")
	l.wantTexts(chat, "before", "behind")
}

// TestACallThatEndsWhileNATSAnswersNothingIsNotMadeAgain: that AXP has taken a message
// can't be told to anybody before the end. Who takes over finds out.
func TestACallThatEndsWhileNATSAnswersNothingIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	l := newLeaver(t)
	s, chat := l.chat()
	ended := make(chan struct{})
	l.axp.Fail(axp.OpSendMessage, axptest.Fault{Wait: ended, Pass: true})
	first := l.mustSend(chat, "c1", "one")
	second := l.mustSend(chat, "c2", "two")
	l.await("a call that is under way", func() bool { return l.axp.Calls(axp.OpSendMessage) == 1 })
	l.link.Set(false, true)
	time.AfterFunc(time.Second, func() { close(ended) })
	l.mustLeave()
	l.start(nil)
	l.event(s.GetSessionId(), first.GetMessageId()+".sent")
	l.event(s.GetSessionId(), second.GetMessageId()+".sent")
	l.wantTexts(chat, "one", "two")
}
