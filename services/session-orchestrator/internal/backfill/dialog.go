package backfill

import (
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// doubt is why a dialog is to be looked at.
type doubt string

const (
	none   doubt = ""
	hole   doubt = "hole"
	echo   doubt = "echo"
	quiet  doubt = "quiet"
	unsure doubt = "unsure" // its history is not known here yet
	gone   doubt = "subscription"
)

// dialog is what is known of one engagement's messages. It is a plain state
// machine: its owner guards it and brings the clock.
type dialog struct {
	seen    indexes
	echoes  map[string]time.Time // messages that AXP took and has not shown, by when it took them
	early   map[string]struct{}  // echoes that overtook our own SENT
	holed   time.Time            // since when there is a hole
	last    time.Time            // when something last happened
	looked  time.Time            // when it was looked at since; zero: not yet
	unsure  bool                 // nobody has read its journal here yet
	missing bool                 // the subscription was gone
	over    bool
}

// maxEarly bounds what is kept of echoes that overtook our own SENT; one message
// of an engagement is on its way at a time.
const maxEarly = 16

func newDialog() *dialog {
	return &dialog{echoes: map[string]time.Time{}, early: map[string]struct{}{}}
}

// note takes an event of the engagement; at is when it happened for us.
func (d *dialog) note(ev *axpchatv1.Event, at time.Time) {
	switch p := ev.GetPayload().(type) {
	case *axpchatv1.Event_MessageArrived:
		d.message(p.MessageArrived, at)
	case *axpchatv1.Event_MessageDelivered:
		d.message(p.MessageDelivered, at)
		d.echoed(p.MessageDelivered.GetMessageId())
	case *axpchatv1.Event_MessageStatusChanged:
		d.status(p.MessageStatusChanged, at)
	case *axpchatv1.Event_EngagementTerminated, *axpchatv1.Event_EngagementError:
		d.over = true
	}
	if at.After(d.last) {
		d.last, d.looked = at, time.Time{}
	}
}

func (d *dialog) message(m *axpchatv1.Message, at time.Time) {
	if m.MessageIndex == nil { // absent is not 0
		return
	}
	d.seen.add(m.GetMessageIndex())
	switch {
	case d.seen.whole():
		d.holed = time.Time{}
	case d.holed.IsZero():
		d.holed = at
	}
}

// echoed notes that AXP has shown a message.
func (d *dialog) echoed(id string) {
	if _, awaited := d.echoes[id]; awaited {
		delete(d.echoes, id)
		return
	}
	if len(d.early) >= maxEarly {
		clear(d.early) // echoes of what the outbox never told of: nobody awaits them
	}
	d.early[id] = struct{}{}
}

func (d *dialog) status(s *axpchatv1.MessageStatusChanged, at time.Time) {
	id := s.GetMessageId()
	switch s.GetStatus() {
	case axpchatv1.MessageStatus_MESSAGE_STATUS_SENT:
		if _, overtaken := d.early[id]; overtaken {
			delete(d.early, id)
			return
		}
		d.echoes[id] = at
	case axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED:
		delete(d.early, id)
	default:
	}
}

// doubt says why the dialog is to be looked at now, none where it is not.
func (d *dialog) doubt(c Config, now time.Time) doubt {
	switch {
	case d.over:
		return none
	case d.missing:
		return gone
	case d.unsure:
		return unsure
	case !d.holed.IsZero() && now.Sub(d.holed) >= c.HoleWait:
		return hole
	case d.overdue(c, now):
		return echo
	case d.silent(c, now):
		return quiet
	default:
		return none
	}
}

// silent tells whether the dialog has been quiet for long enough to be looked at:
// first after QuietAfter, then each time that the silence has doubled, for what
// is lost during it shows in nothing else. That is a handful of looks for the
// longest chat.
func (d *dialog) silent(c Config, now time.Time) bool {
	silence := now.Sub(d.last)
	if c.QuietAfter <= 0 || silence < c.QuietAfter {
		return false
	}
	return d.looked.IsZero() || silence >= 2*d.looked.Sub(d.last)
}

func (d *dialog) overdue(c Config, now time.Time) bool {
	for _, since := range d.echoes {
		if now.Sub(since) >= c.EchoWait {
			return true
		}
	}
	return false
}

// settle ends every doubt that a look at AXP has answered: what AXP does not
// list now it is not asked for again.
func (d *dialog) settle(c Config, now time.Time) {
	d.seen.close()
	d.holed, d.looked, d.missing, d.unsure = time.Time{}, now, false, false
	for id, since := range d.echoes {
		if now.Sub(since) >= c.EchoWait {
			delete(d.echoes, id)
		}
	}
}
