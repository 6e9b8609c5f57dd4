package logx

import (
	"testing"
	"time"
)

func TestSieve(t *testing.T) {
	s := NewSieve[int]()
	now := time.Now()
	passed := func(kind, of int) (n, leftOut int) {
		for range of {
			if left, ok := s.Pass(kind, now); ok {
				n++
				leftOut += left
			}
		}
		return n, leftOut
	}
	if n, left := passed(1, 100); n != burst || left != 0 {
		t.Errorf("%d of a flood pass, after %d", n, left)
	}
	if n, _ := passed(2, 1); n != 1 {
		t.Error("one kind takes the place of another")
	}
	now = now.Add(burstEvery - 1)
	if n, _ := passed(1, 1); n != 0 {
		t.Error("the burst comes back early")
	}
	now = now.Add(1)
	if n, left := passed(1, 100); n != burst || left != 100-burst+1 {
		t.Errorf("later %d pass and say that %d did not, want %d and %d", n, left, burst, 100-burst+1)
	}
}

func TestASieveIsBounded(t *testing.T) {
	s := NewSieve[int]()
	now, passed := time.Now(), 0
	for kind := range 5 * kindsMax {
		if _, ok := s.Pass(kind, now); ok {
			passed++
		}
	}
	if want := kindsMax + burst; passed != want || len(s.kinds) != kindsMax {
		t.Errorf("%d of as many kinds pass, want %d: all beyond the bound share one budget", passed, want)
	}
}
