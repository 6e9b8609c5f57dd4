package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Labels keeps the attribute sets of an instrument, which take longer to make
// than to count with: each is sorted and hashed. K is what the labels are made
// of. It is safe for concurrent use.
type Labels[K comparable] struct {
	attributes func(K) []attribute.KeyValue
	known      atomic.Pointer[map[K]*Labelled]
	adding     sync.Mutex
}

// Labelled is a set of labels in the forms in which instruments take them. It
// must not be changed.
type Labelled struct {
	Add    []metric.AddOption
	Record []metric.RecordOption
}

// mostLabels bounds what is kept. Labels must have few values anyway, but that is
// up to the caller.
const mostLabels = 1000

// NewLabels makes labels; attributes tells those of a key.
func NewLabels[K comparable](attributes func(K) []attribute.KeyValue) *Labels[K] {
	l := &Labels[K]{attributes: attributes}
	l.known.Store(&map[K]*Labelled{})
	return l
}

// Of returns the labels of a key.
func (l *Labels[K]) Of(key K) *Labelled {
	if got := (*l.known.Load())[key]; got != nil {
		return got
	}
	set := metric.WithAttributeSet(attribute.NewSet(l.attributes(key)...))
	made := &Labelled{Add: []metric.AddOption{set}, Record: []metric.RecordOption{set}}
	l.adding.Lock()
	defer l.adding.Unlock()
	if known := *l.known.Load(); len(known) < mostLabels {
		// Readers go without a lock, so the map that they see is never written to.
		next := maps.Clone(known)
		next[key] = made
		l.known.Store(&next)
	}
	return made
}
