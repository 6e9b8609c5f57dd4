package state

import (
	"maps"
	"slices"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// SetParameters sets session parameters, notes which of them AXP has to be told,
// and returns whether any value is new. Where there are more than MaxParameters
// then, those that were set longest ago go; of what is set together, in the
// order of the alphabet. A key that is set to the value that it has counts as
// set.
func SetParameters(rec *busv1.SessionRecord, values map[string]string) bool {
	s := rec.GetSession()
	if s.GetSessionParameters() == nil {
		s.SessionParameters = map[string]string{}
	}
	rec.ParameterOrder = parameterOrder(rec)
	news := false
	for _, key := range slices.Sorted(maps.Keys(values)) {
		have, known := s.GetSessionParameters()[key]
		rec.ParameterOrder = append(without(rec.GetParameterOrder(), key), key)
		if known && have == values[key] {
			continue
		}
		news = true
		s.SessionParameters[key] = values[key]
		if !slices.Contains(rec.GetUnsentParameters(), key) {
			rec.UnsentParameters = append(rec.UnsentParameters, key)
		}
	}
	for len(rec.GetParameterOrder()) > MaxParameters {
		oldest := rec.GetParameterOrder()[0]
		delete(s.GetSessionParameters(), oldest)
		rec.ParameterOrder = rec.GetParameterOrder()[1:]
		rec.UnsentParameters = without(rec.GetUnsentParameters(), oldest)
	}
	return news
}

// parameterOrder is the order of the keys; those of a record that has none, as
// of a session just created, come first.
func parameterOrder(rec *busv1.SessionRecord) []string {
	var out []string
	have := rec.GetSession().GetSessionParameters()
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if !slices.Contains(rec.GetParameterOrder(), key) {
			out = append(out, key)
		}
	}
	for _, key := range rec.GetParameterOrder() {
		if _, ok := have[key]; ok {
			out = append(out, key)
		}
	}
	return out
}

// Unsent are the parameters that AXP has not been told.
func Unsent(rec *busv1.SessionRecord) map[string]string {
	out := map[string]string{}
	for _, key := range rec.GetUnsentParameters() {
		if v, ok := rec.GetSession().GetSessionParameters()[key]; ok {
			out[key] = v
		}
	}
	return out
}

// NoteSent notes that AXP need not be told these values any more. A key that has
// another value meanwhile is still to be told.
func NoteSent(rec *busv1.SessionRecord, sent map[string]string) {
	rec.UnsentParameters = slices.DeleteFunc(rec.GetUnsentParameters(), func(key string) bool {
		have, known := rec.GetSession().GetSessionParameters()[key]
		told, was := sent[key]
		return !known || was && told == have
	})
}

func without(keys []string, key string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return k == key })
}
