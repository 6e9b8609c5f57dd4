package outbox

import (
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// skew is how far the clocks of NATS servers lie apart at most where they are kept.
const skew = time.Second

// mark divides what was stored before a moment from what was stored after it. The
// stream's sequence at that moment is exact, whatever the clocks of the servers
// say; but a server that has just lost its lead, and does not know it yet, tells an
// older one. Then the time is right. It takes both to be wrong, together, for a
// message to be taken for a newer one than it is. The zero value divides nothing off.
type mark struct {
	sequence uint64    // the last one that was stored before
	at       time.Time // by the clock of a server
}

// everything is the mark where the moment is not known.
func everything() mark { return mark{sequence: math.MaxUint64} }

// covers tells whether a message may have been stored before.
func (m mark) covers(md *jetstream.MsgMetadata) bool {
	return md.Sequence.Stream <= m.sequence || md.Timestamp.Before(m.at)
}
