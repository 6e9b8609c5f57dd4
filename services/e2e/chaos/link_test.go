package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// echo serves lines, each with its name in front.
func echo(t *testing.T, name string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					fmt.Fprintf(conn, "%s %s\n", name, lines.Text())
				}
			})
		}
	})
	t.Cleanup(func() { lis.Close(); group.Wait() })
	return lis.Addr().String()
}

type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(t *testing.T, l *Link) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{conn, bufio.NewReader(conn)}
}

func (c *caller) say(text string, patience time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, text); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return line, err
}

func link(t *testing.T, backends ...string) *Link {
	t.Helper()
	l, err := newLink(t.Context(), t.Name(), backends...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestLinkTakesBackendsInTurnAndLeavesOutTheDead(t *testing.T) {
	l := link(t, echo(t, "a"), "127.0.0.1:1", echo(t, "b"))
	var got []string
	for range 4 {
		line, err := call(t, l).say("x", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line[:1])
	}
	if fmt.Sprint(got) != "[a b b a]" {
		t.Errorf("backends %v", got)
	}
}

func TestCutBreaksAndRefuses(t *testing.T) {
	l := link(t, echo(t, "a"))
	c := call(t, l)
	if _, err := c.say("x", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	l.set(cut, 0)
	if _, err := c.say("x", 5*time.Second); err == nil {
		t.Error("a connection outlived the cut")
	}
	if conn, err := net.Dial("tcp", l.addr()); err == nil { // else it is refused even sooner
		defer conn.Close()
		if _, err := (&caller{conn, bufio.NewReader(conn)}).say("x", 5*time.Second); err == nil {
			t.Error("a connection worked while the link was cut")
		}
	}
	l.heal()
	if _, err := call(t, l).say("x", 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestStallHoldsBackAndDelayDelays(t *testing.T) {
	l := link(t, echo(t, "a"))
	c := call(t, l)
	l.set(stalled, 0)
	if line, err := c.say("x", 100*time.Millisecond); err == nil {
		t.Errorf("%q passed a stalled link", line)
	}
	l.set(passing, 50*time.Millisecond)
	began := time.Now()
	if line, err := c.say("y", 5*time.Second); err != nil || line != "a x\n" {
		t.Errorf("what was held back must come first: %q, %v", line, err)
	}
	if d := time.Since(began); d < 50*time.Millisecond {
		t.Errorf("a delayed answer took %s", d)
	}
}

func TestCloseEndsWhatIsStalled(t *testing.T) {
	l := link(t, echo(t, "a"))
	l.set(stalled, 0)
	_, _ = call(t, l).say("x", 10*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() { l.close(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		t.Fatal("the link does not end")
	}
}
