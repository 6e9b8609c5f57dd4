package lifecycle

import (
	"runtime"
	"testing"
)

func TestGarbageIsCollectedWhenThereIsMuchOfIt(t *testing.T) {
	next := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.NextGC
	}
	t.Setenv("GOGC", "100")
	floor := heapFloor()
	if got := next(); floor != nil || got > headroom {
		t.Errorf("where GOGC is set, the next collection is at %d bytes", got)
	}
	t.Setenv("GOGC", "")
	floor = heapFloor()
	if got := next(); got < 2*headroom {
		t.Errorf("the next collection is at %d bytes", got)
	}
	runtime.KeepAlive(floor)
	if got := next(); got > headroom {
		t.Errorf("without the floor the next collection is at %d bytes", got)
	}
}
