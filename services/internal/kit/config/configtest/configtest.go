// Package configtest fuzzes how a configuration is loaded. For tests only.
package configtest

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/axpchat/connector/services/internal/kit/config"
)

const (
	// secret is what nobody may see.
	secret = "zQ7-s3cr3t-Qz7" //nolint:gosec // it opens nothing
	// secretFile and configFile are files that there are, and no others.
	secretFile, configFile = "secret", "config.yaml"
	// maxText is what a mistake says at most, beside the names of keys.
	maxText = 1000
)

// Fuzz loads files into a struct that fresh returns a pointer to. Whatever is in
// them, Load does not panic; what is wrong is a mistake of the configuration that
// names its key; what was loaded can be shown; and the value of a secret is shown
// neither then nor in a mistake, nor is anything of a file that is no YAML.
func Fuzz(f *testing.F, fresh func() any) {
	f.Helper()
	s := shape{secrets: map[string]bool{}}
	s.read(reflect.TypeOf(fresh()).Elem(), "")
	if len(s.secrets) == 0 || len(s.seeds) == 0 {
		f.Fatalf("%T has no secrets, or nothing at all", fresh())
	}
	for _, seed := range append(s.seeds, edges()...) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg := fresh()
		err := config.Load(cfg, sources(text))
		var mistakes config.Errors
		if err != nil && !errors.As(err, &mistakes) {
			t.Fatalf("mistake of the program: %v", err)
		}
		for _, m := range mistakes {
			if m.Key == "" || m.Problem == "" || len(m.Problem) > maxText+len(m.Key) {
				t.Errorf("mistake of %q: %q", m.Key, m.Problem)
			}
		}
		var printed strings.Builder
		if err := config.Print(&printed, cfg); err != nil {
			t.Fatal(err)
		}
		if !s.hides(text) {
			return
		}
		for _, shown := range []string{fmt.Sprint(err), printed.String(), config.LogValue(cfg).String()} {
			if strings.Contains(shown, secret) {
				t.Errorf("shows a secret:\n%s", shown)
			}
		}
	})
}

func sources(text string) config.Sources {
	src := config.Map(map[string]string{config.FileKey: configFile})
	src.ReadFile = func(name string) ([]byte, error) {
		switch name {
		case configFile:
			return []byte(text), nil
		case secretFile:
			return []byte(secret + "\n"), nil
		default:
			return nil, os.ErrNotExist
		}
	}
	return src
}

// shape is what a struct's tags say.
type shape struct {
	secrets map[string]bool // names of keys
	seeds   []string
}

func (s *shape) read(t reflect.Type, prefix string) {
	for f := range t.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if env := f.Tag.Get("env"); env != "" {
			key = strings.ToLower(env)
		}
		switch {
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && key != "-":
			s.seeds = append(s.seeds, prefix+key+": [{}]\n", prefix+key+": "+secret+"\n")
			indent := strings.Repeat(" ", len(prefix)-len(strings.TrimLeft(prefix, " ")))
			if strings.HasSuffix(prefix, "- ") {
				indent += "  "
			}
			s.read(f.Type.Elem(), prefix+key+":\n"+indent+"- ")
		case key == "" && f.Type.Kind() == reflect.Struct:
			s.read(f.Type, prefix)
		case key == "" || key == "-":
		default:
			for _, value := range []string{secret, "-1", "[" + secret + "]", "http://user:x@host/"} {
				s.seeds = append(s.seeds, prefix+key+": "+value+"\n")
			}
			if f.Type == reflect.TypeFor[config.Secret]() {
				s.secrets[key] = true
				s.seeds = append(s.seeds, prefix+key+"_file: "+secretFile+"\n", prefix+key+"_file: nowhere\n", prefix+key+": *"+secret+"\n",
					prefix+key+": \""+secret+"\n", prefix+key+": !"+secret+" x\n", prefix+key+": !!int "+secret+"\n", prefix+strings.ToUpper(key)+": "+secret+"\n")
			}
		}
	}
}

// edges are what YAML makes possible.
func edges() []string {
	return []string{"", "{}", "[]", secret, "a: &a [*a]", "<<: {text: b}", "? [a]\n: b", "accounts: &x [*x]", "%" + secret + "\n---\n", "a: 'b", "--- a\n--- b\n", "\x00", "a: \xff", "\ufeffa: b"}
}

// hides tells whether nobody may see the secret of a file: it is in values of
// secret keys alone, or the file can't be read at all.
func (s *shape) hides(text string) bool {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil {
		return true
	}
	found, aliases := 0, false
	var walk func(n *yaml.Node, inside bool)
	walk = func(n *yaml.Node, inside bool) {
		aliases = aliases || n.Kind == yaml.AliasNode // a secret may be given to another key by it
		if inside {
			found += strings.Count(n.Value, secret) + strings.Count(n.Tag, secret)
		}
		for i, inner := range n.Content {
			key := n.Kind == yaml.MappingNode && i%2 == 1 && s.secrets[strings.ToLower(n.Content[i-1].Value)]
			walk(inner, inside || key)
		}
	}
	walk(&doc, false)
	return !aliases && found == strings.Count(text, secret)
}
