package orchestrator_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// seed is that of the environment variable SEED, else a new one; it is printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", n)
	return n
}

// accepted is a message that was answered ACCEPTED.
type accepted struct{ id, text string }

// storm is a random run: customers write, AXP fails in every way, replicas come
// and go.
type storm struct {
	t     *testing.T
	rand  *rand.Rand
	fleet []*rig
	chats []*axpchatv1.Engagement
	sent  map[string][]accepted // by engagement
}

func (s *storm) any() *rig { return s.fleet[s.rand.IntN(len(s.fleet))] }

// fault is what may befall a call, among it "done, but the answer was lost".
func (s *storm) fault() axptest.Fault {
	return []axptest.Fault{
		{Status: 500}, {Status: 503, After: true}, {After: true}, {}, {Status: 429, RetryAfter: "0"}, {Status: 401}, {Status: 408, After: true},
		{Status: 400},
	}[s.rand.IntN(8)]
}

func (s *storm) write() {
	e := s.chats[s.rand.IntN(len(s.chats))]
	had := s.sent[e.GetEngagementId()]
	text := fmt.Sprintf("message %d", len(had))
	r := s.any()
	m := r.mustSend(e, text, text)
	s.sent[e.GetEngagementId()] = append(had, accepted{m.GetMessageId(), text})
	if s.rand.IntN(4) == 0 { // the app did not hear the answer
		if again := s.any().mustSend(e, text, text); again.GetMessageId() != m.GetMessageId() {
			s.t.Errorf("a repeat of %q is another message", text)
		}
	}
}

// echo has AXP tell of some messages that it has.
func (s *storm) echo() {
	e := s.chats[s.rand.IntN(len(s.chats))]
	for _, m := range s.fleet[0].axp.Messages(e.GetAxpDialogId()) {
		if s.rand.IntN(2) == 0 {
			s.any().tell(e, "echo-"+m.ProviderMessageID, &axpchatv1.Event{Payload: &axpchatv1.Event_MessageDelivered{
				MessageDelivered: &axpchatv1.Message{MessageId: m.ProviderMessageID, ProviderMessageId: m.ProviderMessageID},
			}})
		}
	}
}

// disturb lets something happen to a replica.
func (s *storm) disturb() {
	i := s.rand.IntN(len(s.fleet))
	old := s.fleet[i]
	switch s.rand.IntN(3) {
	case 0:
		if err := old.bus.NC.ForceReconnect(); err != nil {
			s.t.Error(err)
		}
		old.await("NATS is back", old.bus.NC.IsConnected)
		return
	case 1:
		old.stop() // as in a rollout
	default:
		old.kill()
	}
	s.fleet[i] = &rig{t: s.t, axp: old.axp, nats: old.nats}
	s.fleet[i].start(nil)
}

func (s *storm) step() {
	switch n := s.rand.IntN(100); {
	case n < 65:
		s.write()
	case n < 80:
		s.fleet[0].axp.Fail(axp.OpSendMessage, s.fault())
	case n < 88:
		s.fleet[0].axp.Fail(axp.OpListMessages, []axptest.Fault{{Status: 500}, {}, {Status: 429, RetryAfter: "0"}}[s.rand.IntN(3)])
	case n < 96:
		s.echo()
	default:
		s.disturb()
	}
}

// check compares what AXP has with what was accepted and what was told.
func (s *storm) check(e *axpchatv1.Engagement) {
	r := s.any()
	all := s.sent[e.GetEngagementId()]
	told := map[string]int{}
	count := func() {
		clear(told)
		for _, id := range r.ids(e.GetSessionId()) {
			told[id]++
		}
	}
	delivered := func(id string) bool { return told[e.GetEngagementId()+"-echo-"+id] > 0 }
	r.await("every message has an outcome", func() bool {
		count()
		return !slices.ContainsFunc(all, func(m accepted) bool {
			return told[m.id+".sent"]+told[m.id+".failed"] == 0 && !delivered(m.id)
		})
	})
	var want []string
	for _, m := range all {
		if told[m.id+".accepted"] != 1 || told[m.id+".sent"] > 1 || told[m.id+".failed"] > 1 {
			s.t.Errorf("%q: something is told not at all, or twice", m.text)
		}
		if told[m.id+".failed"] == 0 {
			want = append(want, m.text)
		} else if told[m.id+".sent"] > 0 || delivered(m.id) {
			s.t.Errorf("%q: told to be sent and to have failed", m.text)
		}
	}
	if got := r.axp.Texts(e.GetAxpDialogId()); !slices.Equal(got, want) {
		s.t.Errorf("AXP has\n%v, want\n%v", got, want)
	}
}

// newStorm is a storm over two replicas.
func newStorm(t *testing.T) *storm {
	n := seed(t)
	s := &storm{t: t, rand: rand.New(rand.NewPCG(n, n))}
	first := newRig(t, nil)
	second := &rig{t: t, axp: first.axp, nats: first.nats}
	second.start(nil)
	s.fleet = []*rig{first, second}
	return s
}

// rage opens chats, takes steps, and checks what has become of each chat.
func (s *storm) rage(chats, steps int) {
	s.chats, s.sent = nil, map[string][]accepted{}
	for range chats {
		_, e := s.any().chat()
		s.chats = append(s.chats, e)
	}
	for range steps {
		s.step()
	}
	s.fleet[0].axp.Heal()
	for _, e := range s.chats {
		s.check(e)
	}
}

// TestWhateverHappensMessagesArriveOnceAndInOrder: same messages, same order, no
// copies, and each one's outcome told truly and once.
func TestWhateverHappensMessagesArriveOnceAndInOrder(t *testing.T) {
	steps := 250
	if testing.Short() {
		steps = 80
	}
	newStorm(t).rage(4, steps)
}

// TestManyChatsInStorms is the same for many short chats, each with its own
// sequence of messages, repeats, failures and failovers: as many as SEQUENCES
// says, some by default.
func TestManyChatsInStorms(t *testing.T) {
	const chats, stepsEach = 50, 9
	sequences := chats
	if n, err := strconv.Atoi(os.Getenv("SEQUENCES")); err == nil {
		sequences = n
	}
	s := newStorm(t)
	for done := 0; done < sequences && !t.Failed(); done += chats {
		s.rage(chats, chats*stepsEach)
	}
	t.Logf("%d sequences", sequences)
}
