package normalise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/axpchat/connector/services/internal/normalise/sampletest"
)

// reference reads and writes a body with encoding/json alone: ids that were made
// before this package had a decoder of its own are made of that.
func reference(raw []byte) (string, error) {
	if !json.Valid(raw) {
		return "", ErrNotJSON
	}
	if bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		return "", ErrNotObject
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return "", err
	}
	return encoded(tree), nil
}

// FuzzDecode holds the decoder against encoding/json: what it takes, what it makes
// of it, and how that is written.
func FuzzDecode(f *testing.F) {
	for _, s := range sampletest.Load(f) {
		f.Add(s.Body)
	}
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, `"k%d":%d,`, i%70, i)
	}
	for _, body := range []string{
		``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{"a":1 "b":2}`, `{a:1}`, `{} {}`, `{}x`, `[1]`, `"a"`, ` null `, `7`,
		`{"a":[,]}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":tru}`, `{"a":nullx}`, `{"a":True}`, `{"a":[true,false,null]}`,
		`{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":.1}`, `{"a":1e}`, `{"a":1e+}`, `{"a":+1}`, `{"a":0x1}`, `{"a":[-0,0.0,1E5,1e-5,2.50e+10,12345678901234567890]}`,
		`{"a":"\"\\\/\b\f\n\r\t\u00e9\u20AC"}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, `{"a":"b`, "{\"a\":\"\n\"}", "{\"a\":\"\x7f\u2028\u2029\"}",
		`{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `{"a":"\ude00"}`, `{"a":"\ud83d\ud83d\ude00"}`, `{"a":"\ud83dx\ude00"}`, `{"a":"\ud83d\n"}`, `{"a":"\ud83d\u"}`,
		"{\"a\":\"\xff\xfe\"}", "{\"a\":\"\xe2\x82\"}", "{\"a\":\"\xe2\x82\\u00acb\xff\"}", "{\"a\xff\":1,\"a\xfe\":2}",
		`{"":1,"":{"":2}}`, `{"b":1,"a":{"x":1},"b":2,"a":{"y":[2,{}, [ ]]}}`, `{` + many.String() + `"k1":{"z":0}}`,
		"\t{\r\n\"a\" :\t[ 1 , 2 ] }\n", "\v{}", "\u00a0{}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := decode(raw)
		if errors.Is(err, ErrTooDeep) || errors.Is(err, ErrTooMany) {
			if !json.Valid(raw) {
				t.Fatalf("%v of what is no JSON", err)
			}
			return
		}
		want, wantErr := reference(raw)
		if !errors.Is(err, wantErr) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if got := canonical((*node)(o)); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestNoTextOfAnotherCallbackIsLeftInADecoder(t *testing.T) {
	for range 10 {
		if _, err := decode([]byte(`{"a":"secret","b":["secret"]}`)); err != nil {
			t.Fatal(err)
		}
	}
	stack, _ := stacks.Get().(*[]node)
	for _, n := range (*stack)[:cap(*stack)] {
		if n.key != "" || n.spelling != "" || n.inner != nil {
			t.Errorf("left: %v", n)
		}
	}
}
