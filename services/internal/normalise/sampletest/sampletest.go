// Package sampletest owns the check that a callback of AXP arrives complete: it
// looks for every value of the callback's JSON in the event that was made of
// it. For tests only.
package sampletest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// Sample is the body of a callback.
type Sample struct {
	Name string
	Body []byte
}

// Load returns the samples of normalise's testdata, of which there must be some,
// and those of the contract where they are at hand: in ../shared/axp beside the
// repository, or where AXP_SPEC_DIR says.
func Load(t testing.TB) []Sample {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	owner := filepath.Dir(filepath.Dir(file))
	out := read(t, filepath.Join(owner, "testdata", "events"), "own/")
	if len(out) == 0 {
		t.Fatal("no samples in testdata/events")
	}
	spec := os.Getenv("AXP_SPEC_DIR")
	if spec == "" {
		spec = filepath.Join(owner, "..", "..", "..", "..", "shared", "axp")
	}
	contract := read(t, filepath.Join(spec, "events"), "contract/")
	if len(contract) == 0 {
		t.Log("the contract's samples are not at hand; checking our own only")
	}
	return append(out, contract...)
}

func read(t testing.TB, dir, prefix string) []Sample {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Sample
	for _, path := range paths {
		body, err := os.ReadFile(path) //nolint:gosec // the path comes from the test
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Sample{Name: prefix + strings.TrimSuffix(filepath.Base(path), ".json"), Body: body})
	}
	return out
}

// Missing lists the values of a callback that its event does not have, each with
// its path. A value counts as there when it is somewhere in the event's JSON, in
// its extra_json or in its raw_json; the type of the event, which becomes the
// name of the payload, is left out. Words of enums and times may be written in
// the connector's way.
func Missing(t testing.TB, body []byte, event *axpchatv1.Event) []string {
	t.Helper()
	rendered, err := protojson.Marshal(event)
	if err != nil {
		t.Fatalf("event as JSON: %v", err)
	}
	have := map[string]bool{}
	note := func(data []byte) {
		walk("", parse(t, data), func(_ string, leaf any) {
			text := fmt.Sprint(leaf)
			have[text] = true
			for _, prefix := range []string{"PARTICIPANT_TYPE_", "TEXT_FORMAT_"} {
				have[strings.TrimPrefix(text, prefix)] = true
			}
			if at, ok := instant(text); ok {
				have[at] = true
			}
		})
	}
	note(rendered)
	for _, inner := range []string{event.GetExtraJson(), event.GetUnknown().GetRawJson()} {
		if inner != "" {
			note([]byte(inner))
		}
	}
	var missing []string
	walk("", parse(t, body), func(path string, leaf any) {
		text := fmt.Sprint(leaf)
		at, isTime := instant(text)
		switch {
		case path == ".eventType", leaf == nil, text == "", have[text], isTime && have[at]:
		default:
			missing = append(missing, fmt.Sprintf("%s = %s", path, text))
		}
	})
	sort.Strings(missing)
	return missing
}

// Mark replaces every value of a callback by one that occurs nowhere else, so
// that a lost field can't hide behind another one with the same value. Types,
// enums and what decides about the way of the event stay.
func Mark(t testing.TB, body []byte) []byte {
	t.Helper()
	next := 0
	var mark func(key string, v any) any
	mark = func(key string, v any) any {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range sortedKeys(v) {
				v[k] = mark(k, v[k])
			}
			return v
		case []any:
			for i := range v {
				v[i] = mark(key, v[i])
			}
			return v
		}
		next++
		switch v := v.(type) {
		case json.Number:
			return json.Number(strconv.Itoa(70000 + next))
		case string:
			if _, isTime := instant(v); isTime {
				return time.Unix(1700000000+int64(next), 0).UTC().Format(time.RFC3339)
			}
			switch key {
			case "eventType", "accountId", "textFormat", "participantType", "senderParticipantType", "dialogId", "providerDialogId":
				return v
			case "size":
				return strconv.Itoa(70000 + next)
			}
			return fmt.Sprintf("mark-%d", next)
		}
		return v
	}
	out, err := json.Marshal(mark("", parse(t, body)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parse(t testing.TB, data []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("sample is not JSON: %v", err)
	}
	return v
}

func walk(path string, v any, leaf func(path string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			walk(path+"."+k, v[k], leaf)
		}
	case []any:
		for i, inner := range v {
			walk(fmt.Sprintf("%s[%d]", path, i), inner, leaf)
		}
	default:
		leaf(path, v)
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// instant writes a time in one way.
func instant(text string) (string, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC().Format(time.RFC3339Nano), true
		}
	}
	return "", false
}
