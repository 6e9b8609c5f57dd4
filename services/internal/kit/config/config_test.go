package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/config/configtest"
)

type part struct {
	URL string `env:"NATS_URL" default:"nats://localhost:4222" doc:"Cluster to use."`
}

type account struct {
	ID      string        `yaml:"account_id" required:"true" doc:"AXP account."`
	Secret  config.Secret `yaml:"client_secret" required:"true" doc:"Its secret."`
	Origins []string      `yaml:"origins" doc:"Allowed | origins."`
	Limit   int           `yaml:"limit" default:"5" doc:"Limit."`
	Hooks   []hook        `yaml:"hooks" doc:"Hooks."`
}

type hook struct {
	Path string `yaml:"path" required:"true"`
}

func (a account) Validate() []config.Mistake {
	if a.Limit > 100 {
		return []config.Mistake{{Key: "limit", Problem: "is above 100"}}
	}
	return nil
}

type sample struct {
	Part     part
	Text     string        `env:"TEXT" default:"hello" doc:"A text."`
	Flag     bool          `env:"FLAG" doc:"A flag."`
	Count    int           `env:"COUNT" default:"3" doc:"A count."`
	Small    int8          `env:"SMALL"`
	Unsigned uint16        `env:"UNSIGNED"`
	Ratio    float64       `env:"RATIO" default:"0.5"`
	Wait     time.Duration `env:"WAIT" default:"30s" doc:"A wait."`
	Size     config.Bytes  `env:"SIZE" default:"64KiB" doc:"A size."`
	Names    []string      `env:"NAMES" default:"a,b" doc:"Names."`
	Key      config.Secret `env:"KEY" required:"true" doc:"A key."`
	Other    config.Secret `env:"OTHER"`
	Needed   string        `env:"NEEDED" required:"true" example:"https://example.com"`
	Accounts []account     `yaml:"accounts" doc:"Accounts."`
	Code     func()        `yaml:"-"`
	Ignored  map[string]int
}

func (s *sample) Validate() []config.Mistake {
	if s.Count < 0 {
		return []config.Mistake{{Key: "COUNT", Problem: "is negative"}}
	}
	return nil
}

// sources returns sources with the environment given as KEY=value, and with the
// YAML as the configuration file when it is not empty.
func sources(tb testing.TB, yaml string, env ...string) config.Sources {
	tb.Helper()
	m := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		m[k] = v
	}
	if yaml != "" {
		m[config.FileKey] = write(tb, "config.yaml", yaml)
	}
	return config.Map(m)
}

func write(tb testing.TB, name, content string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func minimal() []string { return []string{"KEY=k", "NEEDED=n"} }

func TestLoadTakesDefaults(t *testing.T) {
	var got sample
	if err := config.Load(&got, sources(t, "", minimal()...)); err != nil {
		t.Fatal(err)
	}
	if got.Part.URL != "nats://localhost:4222" || got.Text != "hello" || got.Count != 3 || got.Ratio != 0.5 ||
		got.Wait != 30*time.Second || got.Size != 64<<10 || !cmp.Equal(got.Names, []string{"a", "b"}) {
		t.Fatalf("defaults: %+v", got)
	}
}

func TestLoadPrefersEnvironmentThenFileThenPreset(t *testing.T) {
	yaml := "text: from file\ncount: 7\nnames: [x, 'y z']\nwait: 1m\nsize: 1MiB\nflag: true\nneeded:\n"
	got := sample{Ratio: 9, Text: "preset", Small: 4}
	err := config.Load(&got, sources(t, yaml, append(minimal(), "COUNT=8", "TEXT=", "UNSIGNED=65535")...))
	if err != nil {
		t.Fatal(err)
	}
	want := sample{Text: "from file", Flag: true, Count: 8, Small: 4, Unsigned: 65535, Ratio: 9,
		Wait: time.Minute, Size: 1 << 20, Names: []string{"x", "y z"}, Key: "k", Needed: "n"}
	want.Part.URL = "nats://localhost:4222"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestLoadReadsLists(t *testing.T) {
	secret := write(t, "secret", "s3cret\n\n")
	yaml := `
defaults_are_not_needed: &o [https://a.example, https://b.example]
accounts:
- account_id: one
  client_secret: first
  origins: *o
- account_id: two
  client_secret_file: ` + secret + `
  origins: c, d
  limit: 6
  hooks: [{path: /x}]
`
	yaml = strings.Replace(yaml, "defaults_are_not_needed", "names", 1)
	var got sample
	if err := config.Load(&got, sources(t, yaml, minimal()...)); err != nil {
		t.Fatal(err)
	}
	want := []account{
		{ID: "one", Secret: "first", Origins: []string{"https://a.example", "https://b.example"}, Limit: 5},
		{ID: "two", Secret: "s3cret\n", Origins: []string{"c", "d"}, Limit: 6, Hooks: []hook{{"/x"}}},
	}
	if diff := cmp.Diff(want, got.Accounts); diff != "" {
		t.Fatal(diff)
	}
}

func TestLoadReadsSecretsFromFiles(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"one line break goes", "abc\n", "abc"},
		{"a Windows line break goes", "abc\r\n", "abc"},
		{"only one goes", "abc\n\n", "abc\n"},
		{"spaces stay", " abc ", " abc "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got sample
			path := write(t, "key", tc.content)
			if err := config.Load(&got, sources(t, "", "KEY_FILE="+path, "NEEDED=n")); err != nil {
				t.Fatal(err)
			}
			if got.Key.Reveal() != tc.want {
				t.Fatalf("got %q", got.Key.Reveal())
			}
			got = sample{}
			if err := config.Load(&got, sources(t, "key_file: "+path, "NEEDED=n")); err != nil {
				t.Fatal(err)
			}
			if got.Key.Reveal() != tc.want {
				t.Fatalf("from YAML: got %q", got.Key.Reveal())
			}
		})
	}
}

func TestLoadLetsTheEnvironmentReplaceASecretOfTheFile(t *testing.T) {
	var got sample
	if err := config.Load(&got, sources(t, "key_file: /nowhere", minimal()...)); err != nil {
		t.Fatal(err)
	}
	if got.Key.Reveal() != "k" {
		t.Fatal("the file won")
	}
}

func TestLoadReportsMistakes(t *testing.T) {
	empty := write(t, "empty", "\n")
	for _, tc := range []struct {
		name string
		yaml string
		env  []string
		want []string // KEY: beginning of the problem
	}{
		{"a missing value names variable and key", "", nil, []string{
			"KEY: is required: set the environment variable KEY (or KEY_FILE), or key in the configuration file",
			"NEEDED: is required: set the environment variable NEEDED, or needed in the configuration file, for example https://example.com"}},
		{"an empty value is missing", "needed: ''\nkey: ''", nil, []string{"KEY: is required", "NEEDED: is required"}},
		{"bad values, all at once", "", append(minimal(), "FLAG=maybe", "COUNT=1.5", "SMALL=300", "UNSIGNED=-1", "RATIO=x", "WAIT=30", "SIZE=1 furlong"), []string{
			`FLAG: "maybe" is not true or false`, `COUNT: "1.5" is not a whole number`, `SMALL: "300" is not a whole number of 8 bits`,
			`UNSIGNED: "-1" is not a whole number, not negative`, `RATIO: "x" is not a number`,
			`WAIT: "30" is not a duration`, `SIZE: "1 furlong" cannot be read`}},
		{"a bad value does not show a password in a URL", "", append(minimal(), "COUNT=nats://me:secret@host"), []string{`COUNT: "nats://***@host"`}},
		{"bad value of the file", "count: many", minimal(), []string{`COUNT: "many" is not a whole number`}},
		{"a nested value where one is wanted", "count: {a: 1}\ntext: [a]\nnames: [[a]]", minimal(), []string{
			"TEXT: wants a single value (line 2)", "COUNT: wants a single value (line 1)", "NAMES[0]: wants a single value (line 3)"}},
		{"a secret set twice", "", append(minimal(), "KEY_FILE=/x"), []string{"KEY: is set twice"}},
		{"a secret set twice in the file", "key: a\nkey_file: b", []string{"NEEDED=n"}, []string{"KEY: is set twice: key and key_file exclude each other (line 2)"}},
		{"a secret file that is missing", "", []string{"KEY_FILE=/nowhere", "NEEDED=n"}, []string{"KEY: KEY_FILE cannot be read: open /nowhere"}},
		{"a secret file that is empty", "", []string{"KEY_FILE=" + empty, "NEEDED=n"}, []string{"KEY: KEY_FILE names an empty file"}},
		{"unknown keys", "text: a\nTEXT: b\ntxt: c", minimal(), []string{"TEXT: is not a known key", "txt: is not a known key"}},
		{"keys that are no names", "? [a]\n: b\n'': c\naccounts:\n- {? {} : d, account_id: a, client_secret: s}", minimal(), []string{
			"CONFIG_FILE: has a key that is not a name (", "CONFIG_FILE: has a key that is not a name (", "accounts[0]: has a key that is not a name ("}},
		{"a key that stands twice", "text: a\ntext: b", minimal(), []string{"text: stands twice"}},
		{"a file that is missing", "", append(minimal(), "CONFIG_FILE=/nowhere"), []string{"CONFIG_FILE: cannot be read"}},
		{"a file that is no YAML", "a: b: c", minimal(), []string{"CONFIG_FILE: "}},
		{"a secret that is taken for an alias is not shown", "key: *s3cret", minimal(), []string{"CONFIG_FILE: "}},
		{"a file that is no mapping", "- a", minimal(), []string{"CONFIG_FILE: wants keys with values"}},
		{"two documents", "text: a\n---\ntext: b", minimal(), []string{"CONFIG_FILE: "}},
		{"lists", "accounts:\n- limit: x\n  client_secret: s\n- account_id: a\n  client_secret: s\n  client_secret_file: f\n- account_id: b\n  client_secret: s\n  typo: 1\n  limit: 101\n  hooks:\n  - {}\n- 5", minimal(), []string{
			"accounts[0].account_id: is required: set accounts[0].account_id", `accounts[0].limit: "x" is not`,
			"accounts[1].client_secret: is set twice", "accounts[2].typo: is not a known key", "accounts[2].hooks[0].path: is required",
			"accounts[3]: wants keys with values", "accounts[2].limit: is above 100"}},
		{"a list that is none", "accounts: 5", minimal(), []string{"accounts: wants a list (line 1)"}},
		{"validation", "", append(minimal(), "COUNT=-1"), []string{"COUNT: is negative"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var cfg sample
			err := config.Load(&cfg, sources(t, tc.yaml, tc.env...))
			var mistakes config.Errors
			if !errors.As(err, &mistakes) {
				t.Fatalf("want config.Errors, got %v", err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("shows a secret: %v", err)
			}
			for i, m := range mistakes {
				if i >= len(tc.want) || !strings.HasPrefix(m.String(), tc.want[i]) {
					t.Errorf("mistake %d: %s", i, m)
				}
			}
			if len(mistakes) != len(tc.want) {
				t.Errorf("got %d mistakes, want %d", len(mistakes), len(tc.want))
			}
		})
	}
}

func TestLoadReportsASharedVariableOnce(t *testing.T) {
	var cfg struct {
		A struct {
			N int `env:"N" required:"true"`
		}
		B struct {
			N int `env:"N" required:"true"`
		}
	}
	for _, env := range []string{"N=x", "M=1"} {
		var mistakes config.Errors
		if err := config.Load(&cfg, sources(t, "", env)); !errors.As(err, &mistakes) || len(mistakes) != 1 {
			t.Fatalf("%s: %v", env, err)
		}
	}
	if err := config.Load(&cfg, sources(t, "", "N=4")); err != nil || cfg.A.N != 4 || cfg.B.N != 4 {
		t.Fatalf("%+v %v", cfg, err)
	}
}

func TestLoadAcceptsAnEmptyFile(t *testing.T) {
	for _, yaml := range []string{" ", "# nothing\n", "---\n"} {
		if err := config.Load(&sample{}, sources(t, yaml, minimal()...)); err != nil {
			t.Errorf("%q: %v", yaml, err)
		}
	}
}

func TestMistakesOfTheProgramAreNotMistakesOfTheConfiguration(t *testing.T) {
	for name, cfg := range map[string]any{
		"no pointer": sample{},
		"nil":        (*sample)(nil),
		"bad default": &struct {
			N int `env:"N" default:"x"`
		}{},
		"not exported": &struct {
			n int `env:"N"`
		}{},
		"embedded and not exported": &struct{ part }{},
		"bad type": &struct {
			C chan int `env:"C"`
		}{},
	} {
		var mistakes config.Errors
		if err := config.Load(cfg, config.Sources{}); err == nil || errors.As(err, &mistakes) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASecretIsNeverShown(t *testing.T) {
	const text = "t0p-s3cret"
	type holder struct {
		S config.Secret
	}
	s := config.Secret(text)
	var logged bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&logged, nil))
	logger.Info("x", "s", s, "h", holder{s})
	encoded, err := json.Marshal(holder{s})
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{s.String(), string(encoded), logged.String()}
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, holder{s}), fmt.Sprintf(verb, &holder{s}))
	}
	for _, out := range shown {
		if strings.Contains(out, text) || strings.Contains(out, "7430702d") {
			t.Errorf("shown: %s", out)
		}
		if !strings.Contains(out, "***") {
			t.Errorf("no mask: %s", out)
		}
	}
	if got := fmt.Sprintf("%v|%q", config.Secret(""), config.Secret("")); got != `|""` {
		t.Errorf("an empty secret: %s", got)
	}
}

func TestBytes(t *testing.T) {
	for _, tc := range []struct {
		text string
		want config.Bytes
		back string
	}{
		{"0", 0, "0"}, {"17", 17, "17"}, {"17B", 17, "17"}, {"64KiB", 65536, "64KiB"}, {" 1 MiB ", 1 << 20, "1MiB"},
		{"10MB", 1e7, "10000000"}, {"2GiB", 2 << 30, "2GiB"}, {"1TiB", 1 << 40, "1TiB"}, {"1024KiB", 1 << 20, "1MiB"}, {"4kB", 4000, "4000"},
	} {
		got, err := config.ParseBytes(tc.text)
		if err != nil || got != tc.want || got.String() != tc.back {
			t.Errorf("%q: %d %s %v", tc.text, got, got, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5MiB", "1 furlong", "9999999TiB", "1PiB"} {
		if got, err := config.ParseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestPrintMasksAndShowsLists(t *testing.T) {
	yaml := "accounts:\n- account_id: one\n  client_secret: hidden\n  hooks: [{path: /x}]\n"
	var cfg sample
	env := append(minimal(), "NATS_URL=nats://user:hidden@a:1,nats://b:2/x@y", "TEXT=two words")
	if err := config.Load(&cfg, sources(t, yaml, env...)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := config.Print(&out, &cfg); err != nil {
		t.Fatal(err)
	}
	want := `NATS_URL=nats://***@a:1,nats://b:2/x@y
TEXT="two words"
FLAG=false
COUNT=3
SMALL=0
UNSIGNED=0
RATIO=0.5
WAIT=30s
SIZE=64KiB
NAMES=a,b
KEY=***
OTHER=
NEEDED=n
accounts[0].account_id=one
accounts[0].client_secret=***
accounts[0].origins=
accounts[0].limit=5
accounts[0].hooks[0].path=/x
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Fatal(diff)
	}
	if got := config.LogValue(&cfg).String(); strings.Contains(got, "hidden") || !strings.Contains(got, "COUNT=3") {
		t.Fatal(got)
	}
}

func TestDocIsATable(t *testing.T) {
	var out, again strings.Builder
	if err := config.Doc(&out, "sample", &sample{Count: 4}); err != nil {
		t.Fatal(err)
	}
	want := "## sample\n\n| variable | type | default | meaning |\n| --- | --- | --- | --- |\n" +
		"| `CONFIG_FILE` | text | | A YAML file with these settings; its keys are the variables' names in lower case. The environment wins over the file. What is marked *Reloaded* is taken over while the service runs when the file, or a file with a secret, changes; SIGHUP has it looked at once. |\n" +
		"| `NATS_URL` | text | `nats://localhost:4222` | Cluster to use. |\n" +
		"| `TEXT` | text | `hello` | A text. |\n" +
		"| `FLAG` | boolean | | A flag. |\n" +
		"| `COUNT` | whole number | `4` | A count. |\n" +
		"| `SMALL` | whole number | | |\n" +
		"| `UNSIGNED` | whole number | | |\n" +
		"| `RATIO` | number | `0.5` | |\n" +
		"| `WAIT` | duration | `30s` | A wait. |\n" +
		"| `SIZE` | size | `64KiB` | A size. |\n" +
		"| `NAMES` | list | `a,b` | Names. |\n" +
		"| `KEY` | secret; or `KEY_FILE` | **required** | A key. |\n" +
		"| `OTHER` | secret; or `OTHER_FILE` | | |\n" +
		"| `NEEDED` | text | **required** | Example: `https://example.com`. |\n" +
		"\n### List `accounts`\n\nAccounts. In the configuration file only.\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n" +
		"| `account_id` | text | **required** | AXP account. |\n" +
		"| `client_secret` | secret; or `client_secret_file` | **required** | Its secret. |\n" +
		"| `origins` | list | | Allowed \\| origins. |\n" +
		"| `limit` | whole number | `5` | Limit. |\n" +
		"\n### List `accounts[].hooks`\n\nHooks. In the configuration file only.\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n" +
		"| `path` | text | **required** | |\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Fatal(diff)
	}
	if err := config.Doc(&again, "sample", &sample{Count: 4}); err != nil || again.String() != out.String() {
		t.Fatal("not stable", err)
	}
}

func FuzzLoad(f *testing.F) { configtest.Fuzz(f, func() any { return &sample{} }) }
