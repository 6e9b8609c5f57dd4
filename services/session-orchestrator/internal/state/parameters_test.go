package state_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// TestTheNewestParametersAreKept compares with the plainest model there is: a
// list of everything that was ever set.
func TestTheNewestParametersAreKept(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	type set struct{ key, value string }
	for range 200 {
		var history []set
		rec := &busv1.SessionRecord{Session: &axpchatv1.Session{SessionParameters: map[string]string{}}}
		axp := map[string]string{}
		for i := range 5 { // as of a session that was created with some
			key := fmt.Sprint("k", i)
			rec.Session.SessionParameters[key], axp[key] = "first", "first"
			history = append(history, set{key, "first"})
		}
		for range 60 {
			values := map[string]string{}
			for range 1 + dice.IntN(6) {
				values[fmt.Sprint("k", dice.IntN(40))] = fmt.Sprint(dice.IntN(3))
			}
			before := maps.Clone(rec.GetSession().GetSessionParameters())
			news := state.SetParameters(rec, values)
			for _, key := range slices.Sorted(maps.Keys(values)) {
				history = append(history, set{key, values[key]})
			}
			want := map[string]string{}
			for _, s := range slices.Backward(history) {
				if _, has := want[s.key]; !has && len(want) < state.MaxParameters {
					want[s.key] = s.value
				}
			}
			if !maps.Equal(rec.GetSession().GetSessionParameters(), want) {
				t.Fatalf("got %v, want %v", rec.GetSession().GetSessionParameters(), want)
			}
			if !news && !maps.Equal(before, want) {
				t.Fatal("a change that is not told")
			}
			if dice.IntN(4) > 0 {
				continue
			}
			told := state.Unsent(rec)
			if len(told) > state.MaxParameters {
				t.Fatalf("%d in one call", len(told))
			}
			if dice.IntN(3) == 0 { // something is set while AXP is told
				more := map[string]string{fmt.Sprint("k", dice.IntN(40)): "meanwhile"}
				state.SetParameters(rec, more)
				for k, v := range more {
					history = append(history, set{k, v})
				}
			}
			maps.Copy(axp, told)
			state.NoteSent(rec, told)
		}
		told := state.Unsent(rec)
		maps.Copy(axp, told)
		state.NoteSent(rec, told)
		for key, value := range rec.GetSession().GetSessionParameters() {
			if axp[key] != value {
				t.Fatalf("AXP has %q for %s, want %q", axp[key], key, value)
			}
		}
		if len(rec.GetUnsentParameters()) > 0 {
			t.Fatalf("left to tell: %v", rec.GetUnsentParameters())
		}
	}
}
