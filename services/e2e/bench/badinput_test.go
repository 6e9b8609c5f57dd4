package bench

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAGoodChatBesideAFloodOfBadInput(t *testing.T) {
	if testing.Short() {
		t.Skip("separate processes")
	}
	var out bytes.Buffer
	o := BadDefaults()
	o.Sessions, o.Customers, o.Rounds, o.Round = 10, 3, 1, time.Second
	o.Rate, o.Sends, o.Flood, o.Senders, o.Out = 40, 5, 400, 16, &out
	res, err := RunBadInput(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, f := range slices.Concat(res.Calm, res.Elsewhere, res.Beside) {
		if f.EventP50 <= 0 || f.EventP99 < f.EventP50 || f.SendP50 <= 0 || f.SendP99 < f.SendP50 {
			t.Errorf("figures %+v", f)
		}
	}
	if n := res.Flood.sent(); n < 100 || res.Beside[0].Reached <= 0 || res.Elsewhere[0].Reached <= 0 || res.Calm[0].Reached != 0 {
		t.Errorf("%d bad inputs, %v a second", n, res.Beside[0].Reached)
	}
	for _, want := range []string{"callback to frame p99", "message to answer p99", "bad inputs a second", "cores, orchestrator", "cores, gateway elsewhere", "share this machine"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

// allRefused is a flood in which nothing was wrong.
func allRefused() floodResult {
	r := floodResult{Seconds: 1, Kinds: map[string]*tally{}}
	for _, in := range badInputs() {
		r.note(in, in.want[0], nil)
	}
	return r
}

func TestAFloodIsRefusedOnlyWhereAllOfItIs(t *testing.T) {
	kind := badInputs()[0]
	for _, c := range []struct {
		name   string
		change func(r *floodResult)
		want   string
	}{
		{"all is well", func(*floodResult) {}, ""},
		{"one was taken", func(r *floodResult) { r.note(kind, "200", nil) }, "1 of 2 were not refused; the first one: answer 200"},
		{"one broke the server", func(r *floodResult) { r.note(kind, "500", nil) }, "1 of 2 were not refused"},
		{"one had no answer", func(r *floodResult) { r.note(kind, "", errNoWelcome) }, "1 of 2 were not refused"},
		{"one kind was not sent", func(r *floodResult) { delete(r.Kinds, kind.name) }, kind.name + ": none was sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var res BadResult
			one := allRefused()
			c.change(&one)
			res.Flood.add(one)
			err := res.verdict()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("verdict %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheMixHasEveryKindByItsWeight(t *testing.T) {
	mix, total := mixOf(badInputs()), 0
	for _, in := range badInputs() {
		total += in.weight
		n := 0
		for _, m := range mix {
			if m.name == in.name {
				n++
			}
		}
		if n != in.weight {
			t.Errorf("%s: %d of %d", in.name, n, in.weight)
		}
	}
	if total != 100 || len(mix) != total {
		t.Errorf("weights sum up to %d, the mix has %d", total, len(mix))
	}
	if mix[0].name == mix[1].name {
		t.Error("the mix is not spread")
	}
}

func TestRatiosAreOfRoundsThatFollowEachOther(t *testing.T) {
	base := []BadFigures{{EventP99: 1}, {EventP99: 20}, {EventP99: 2}}
	calm, beside, ratio := compare(base, []BadFigures{{EventP99: 2}, {EventP99: 30}, {EventP99: 3}}, func(f BadFigures) float64 { return f.EventP99 })
	if want := [3]spread{{1, 2, 20}, {2, 3, 30}, {1.5, 1.5, 2}}; [3]spread{calm, beside, ratio} != want {
		t.Errorf("got %v, %v, %v, want %v", calm, beside, ratio, want)
	}
}
