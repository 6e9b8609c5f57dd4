package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of NATS's message schedules. The client library's own option rounds
// to whole seconds, and so would fire up to a second early.
const (
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	// headerTries counts how often a timer came due in vain.
	headerTries = "Axpchat-Tries"
)

// Timer names something of a session that is to be looked at again. A session
// has one timer of each kind at most.
type Timer struct {
	// Kind says what to look at; made of letters, digits, _ and -.
	Kind string
	// Account and Session name the session.
	Account, Session string
}

func (t Timer) subject() string { return t.Kind + "." + t.Account + "." + t.Session }

// SetTimer has a timer come due at a time, in place of the time that was set
// before; a time that is past is due at once. It survives restarts, and one
// replica gets it, up to half a second late. It can come due while it is being
// set anew, and more than once: whoever gets it reads the record before acting. It
// fails with ErrErased where the session was erased.
func (b *Bus) SetTimer(ctx context.Context, t Timer, at time.Time) error {
	return b.schedule(ctx, t, at, nil)
}

// PostponeTimer has a timer that came due in vain come due again, unless it was set
// anew meanwhile. Whoever hears it may acknowledge it then: NATS hands out a bounded
// number that are not acknowledged, and those that can't be worked for now, kept
// back, would keep back all others. tries comes with it, for TimerTries.
func (b *Bus) PostponeTimer(ctx context.Context, t Timer, at time.Time, tries int) error {
	err := b.schedule(ctx, t, at, nats.Header{
		headerTries: {strconv.Itoa(tries)}, jetstream.ExpectedLastSubjSeqHeader: {"0"},
	})
	if isWrongSequence(err) {
		return nil
	}
	return err
}

// TimerTries is how often a message of TimersConsumer came due in vain before.
func TimerTries(h nats.Header) int {
	n, err := strconv.Atoi(h.Get(headerTries))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (b *Bus) schedule(ctx context.Context, t Timer, at time.Time, more nats.Header) error {
	if !ValidToken(t.Kind) || !ValidToken(t.Account) || !ValidToken(t.Session) {
		return ErrInvalidToken
	}
	if b.WasErased(t.Account, t.Session) {
		return ErrErased
	}
	msg := nats.NewMsg(timerSet + t.subject())
	maps.Copy(msg.Header, more)
	msg.Header.Set(headerSchedule, "@at "+at.UTC().Format(time.RFC3339Nano))
	msg.Header.Set(headerScheduleTarget, timerDue+t.subject())
	_, err := b.publish(ctx, msg, "") // no id: the same time may be set twice
	return err
}

// HasTimer tells whether a timer is set and not due yet.
func (b *Bus) HasTimer(ctx context.Context, t Timer) (bool, error) {
	s, err := b.JS.Stream(ctx, TimersStream)
	if err != nil {
		return false, fmt.Errorf("look for a timer: %w", err)
	}
	_, err = s.GetLastMsgForSubject(ctx, timerSet+t.subject())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a timer: %w", err)
	}
	return true, nil
}

// ParseTimer reads the subject of a message of TimersConsumer.
func ParseTimer(subject string) (Timer, bool) {
	rest, ok := strings.CutPrefix(subject, timerDue)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return Timer{}, false
	}
	return Timer{Kind: parts[0], Account: parts[1], Session: parts[2]}, true
}
