package delivery

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Thousands of interleavings where the caller asks for no number: the rules of
	// the splice are what the promise to clients rests on.
	if asked := flag.Lookup("rapid.checks"); asked.Value.String() == asked.DefValue {
		if err := flag.Set("rapid.checks", "3000"); err != nil {
			panic(err) // the flag is there, and takes a number
		}
	}
	goleak.VerifyTestMain(m)
}
