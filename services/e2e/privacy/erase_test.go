package privacy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// operatorToken is what the operators of the test know.
const operatorToken = "Zq7OperatorTokenWithAtLeast32CharactersXw4"

// proof is what the command prints.
type proof struct {
	Erasure  erasure   `json:"erasure"`
	Erasures []erasure `json:"erasures"`
	Done     bool      `json:"done"`
}

type erasure struct {
	SessionID  string            `json:"sessionId"`
	Done       bool              `json:"done"`
	Erased     map[string]string `json:"erased"`
	Left       map[string]string `json:"left"`
	EndedInAXP bool              `json:"endedInAxp"`
}

// eraser is the operator: it calls the command beside the running service.
type eraser struct {
	*stage
	binary, addr string
}

func (e *eraser) run(ctx context.Context, args ...string) (proof, error) {
	cmd := exec.CommandContext(ctx, e.binary, append([]string{"erase", "-account", suitetest.Account}, args...)...)
	cmd.Stdin = strings.NewReader(mark("Subject") + "\n")
	cmd.Env = e.Environment("OPERATOR_ADDR", e.addr, "OPERATOR_TOKEN", operatorToken)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return proof{}, fmt.Errorf("%w: %s%s", err, out.String(), problem.String())
	}
	var p proof
	return p, json.Unmarshal(out.Bytes(), &p)
}

// looker reads all that NATS holds.
func (s *stage) looker(ctx context.Context, t *testing.T) *bus.Bus {
	t.Helper()
	cfg := bustest.Config()
	cfg.URL, cfg.Manage = s.NATSURL(), false
	b, err := bus.Connect(ctx, bus.Params{Config: cfg, Name: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// holds tells in which streams something marked is.
func (s *stage) holds(ctx context.Context, b *bus.Bus) ([]string, error) {
	var in []string
	names := b.JS.StreamNames(ctx)
	for name := range names.Name() {
		stream, err := b.JS.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		for at := uint64(0); ; {
			m, err := stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject(">"))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return nil, err
			}
			if found := s.marks.find(fmt.Sprint(m.Subject, m.Header, string(m.Data))); len(found) > 0 {
				in = append(in, name+": "+strings.Join(found, ", "))
			}
			at = m.Sequence + 1
		}
	}
	return in, names.Err()
}

// TestAnErasedCustomerIsGoneFromARunningSuite: in the middle of a chat, with the
// service killed in the middle of the erasure, and AXP still calling.
func TestAnErasedCustomerIsGoneFromARunningSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs five processes")
	}
	var ports suitetest.Ports
	addr, err := ports.Addr()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, "OPERATOR_ADDR", addr, "OPERATOR_TOKEN", operatorToken, "REAPER_INTERVAL", "1s", "IDLE_TIMEOUT", "0s")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	e := &eraser{stage: s, addr: addr, binary: filepath.Join(s.Bin(), "session-orchestrator")}
	b := s.looker(ctx, t)
	hook := s.CallbackURL(ctx, t)
	c := s.begin(ctx, t)
	s.talk(ctx, t, c)
	s.attach(ctx, t, c)
	if in, err := s.holds(ctx, b); err != nil || len(in) < 4 {
		t.Fatalf("before: marks in %v, %v: the test would prove nothing", in, err)
	}
	closed := s.follow(ctx, t, c.session)

	// Killed while it is at it: what was ordered is carried out by whoever comes next.
	dying, die := context.WithCancel(ctx)
	first := make(chan error, 1)
	go func() {
		_, err := e.run(dying, "-session", c.session)
		first <- err
	}()
	err = suitetest.Await(ctx, "the order", func(ctx context.Context) (bool, error) {
		_, _, err := b.Erasures.Get(ctx, bus.ErasedKey(suitetest.Account, c.session))
		return err == nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Orchestrator.Kill()
	die()
	<-first
	if err := s.Orchestrator.Start(); err != nil {
		t.Fatal(err)
	}
	var p proof
	err = suitetest.Await(ctx, "the erasure", func(ctx context.Context) (bool, error) {
		p, err = e.run(ctx, "-customer", "-")
		return err == nil && p.Done, nil // until it listens again, and AXP's side is over
	})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = e.run(ctx, "-session", c.session); err != nil || !p.Erasure.Done || len(p.Erasure.Left) != 0 || !p.Erasure.EndedInAXP {
		t.Errorf("proof %+v, %v", p, err)
	}
	t.Logf("erased: %v", p.Erasure.Erased)
	if in, err := s.holds(ctx, b); err != nil || len(in) != 0 {
		t.Errorf("still there: %v, %v", in, err)
	}
	if code := <-closed; code != "CLOSE_CODE_SESSION_CLOSED" && code != "CLOSE_CODE_SESSION_NOT_FOUND" {
		t.Errorf("the customer's stream ended with %q, want a close that says not to come back", code)
	}
	if status, text := call(ctx, t, http.MethodGet, s.HTTP+"/v1/sessions/"+c.session, s.token, ""); status != http.StatusNotFound {
		t.Errorf("the session afterwards: %d %s", status, text)
	}
	s.comeLate(ctx, t, b, c, hook)
}

// comeLate: AXP goes on calling about the chat, by our id and by its own.
func (s *stage) comeLate(ctx context.Context, t *testing.T, b *bus.Bus, c *chat, hook string) {
	t.Helper()
	for i, id := range []map[string]any{{"providerDialogId": c.provider}, {"dialogId": c.axpDialog}, {"sessionId": c.axpSession}} {
		event := map[string]any{
			"eventType": "MESSAGES", "eventDate": time.Now().UTC().Format(time.RFC3339Nano), "accountId": suitetest.Account, "messageId": fmt.Sprint("late-", i),
			"senderParticipantType": "AGENT", "senderParticipantId": "x", "body": map[string]any{"elementType": "text", "elementText": map[string]any{"text": s.marks.of("LateText")}},
		}
		maps.Copy(event, id)
		if status, text := call(ctx, t, http.MethodPost, hook, "", string(encode(t, event))); status != http.StatusOK {
			t.Errorf("a late callback: %d %s", status, text)
		}
	}
	var in []string
	err := suitetest.Await(ctx, "what came late to go", func(ctx context.Context) (bool, error) {
		var err error
		in, err = s.holds(ctx, b)
		return len(in) == 0, err
	})
	if err != nil {
		t.Errorf("%v: %v", err, in)
	}
	_, metrics := suitetest.Page(ctx, t, s.Admins[2]+"/metrics")
	if !strings.Contains(metrics, "axpchat_erased_events_total 3") {
		at := strings.Index(metrics, "axpchat_erased")
		t.Errorf("what came late was not counted: %s", metrics[max(at, 0):min(max(at, 0)+300, len(metrics))])
	}
}

// follow opens an event stream of the customer and returns the code that it ends
// with.
func (s *stage) follow(ctx context.Context, t *testing.T, session string) <-chan string {
	t.Helper()
	ended := make(chan string, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.HTTP+"/v1/sessions/"+session+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("events: %s", resp.Status)
	}
	go func() {
		defer resp.Body.Close()
		var all bytes.Buffer
		_, err := all.ReadFrom(resp.Body)
		if code := regexp.MustCompile(`CLOSE_CODE_[A-Z_]+`).FindString(all.String()); code != "" {
			ended <- code
			return
		}
		ended <- fmt.Sprint("no close frame: ", err)
	}()
	return ended
}
