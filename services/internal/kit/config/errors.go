package config

import (
	"fmt"
	"strings"
)

// Mistake is one thing that is wrong with the configuration.
type Mistake struct {
	// Key names what to change: an environment variable, or a key of the
	// configuration file such as accounts[1].client_id.
	Key string
	// Problem says what is wrong with it, without repeating the key.
	Problem string
}

// String returns the mistake as one line.
func (m Mistake) String() string { return m.Key + ": " + m.Problem }

// Errors holds all mistakes of a configuration, in the order of its fields. It
// is what [Load] returns when the configuration, and not the program, is wrong.
type Errors []Mistake

// Error returns every mistake in one text.
func (e Errors) Error() string {
	if len(e) == 1 {
		return "configuration: " + e[0].String()
	}
	lines := make([]string, 0, len(e))
	for _, m := range e {
		lines = append(lines, m.String())
	}
	return fmt.Sprintf("configuration: %d mistakes: %s", len(e), strings.Join(lines, "; "))
}

// Validator is a configuration, or a part of one, with rules that concern more
// than one field. [Load] calls it when the fields have their values; it returns
// the mistakes that it finds, each with the key of the field.
type Validator interface {
	Validate() []Mistake
}

// report collects mistakes, each once: a key that several parts of a
// configuration share is wrong once for the person who has to change it.
type report struct {
	mistakes Errors
	seen     map[Mistake]bool
	keys     map[string]bool
}

func newReport() *report {
	return &report{seen: map[Mistake]bool{}, keys: map[string]bool{}}
}

func (r *report) add(key, format string, args ...any) {
	m := Mistake{Key: key, Problem: fmt.Sprintf(format, args...)}
	if r.seen[m] {
		return
	}
	r.seen[m], r.keys[key] = true, true
	r.mistakes = append(r.mistakes, m)
}

func (r *report) err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	return r.mistakes
}
