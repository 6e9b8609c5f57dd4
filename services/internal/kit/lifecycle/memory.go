package lifecycle

import "os"

// headroom is how much garbage may gather at least before it is collected. Go
// begins when the heap has doubled, which for services that hold little is several
// times a second under load, and each time is a wait of tens of milliseconds for
// somebody's message. Memory that is never written to takes no room of the machine's.
const headroom = 128 << 20

// heapFloor makes the heap count for so much more, unless the operator has his own
// idea of it (GOGC, as Go documents it). It works until what it returns is garbage.
func heapFloor() []byte {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return make([]byte, headroom)
}
