package gateway

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// TestTheSystemHoldsLittleForAClientThatReadsNothing: what a connection takes
// before writing to it blocks stays near the bound.
func TestTheSystemHoldsLittleForAClientThatReadsNothing(t *testing.T) {
	const unsent, window = 64 << 10, 64 << 10
	taken := func(wrap func(net.Listener) net.Listener) int {
		lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lis = wrap(lis)
		defer func() { _ = lis.Close() }()
		client, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		if c, ok := client.(*net.TCPConn); !ok || c.SetReadBuffer(window/2) != nil {
			t.Fatal("the client's window can't be set")
		}
		server, err := lis.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = server.Close() }()
		n, event := 0, make([]byte, 4<<10)
		for {
			if err := server.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			m, err := server.Write(event)
			n += m
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	with := taken(func(l net.Listener) net.Listener { return bounded(l, unsent) })
	without := taken(func(l net.Listener) net.Listener { return l })
	t.Logf("%d bytes taken with the bound, %d without", with, without)
	if with > unsent+4*window {
		t.Errorf("%d bytes are taken for a client that reads nothing", with)
	}
	if without <= with {
		t.Errorf("the bound changes nothing: %d bytes with it, %d without", with, without)
	}
}
