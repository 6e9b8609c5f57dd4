package config

import (
	"fmt"
	"io"
	"log/slog"
)

// masked stands for a secret in everything that people or machines may read.
const masked = "***"

// Secret is a text that must not be shown. Every way of formatting or encoding
// it gives "***" (or nothing, when it is empty, so that people can tell a secret
// that is not set); only [Secret.Reveal] gives the text.
//
// A Secret in an unexported field is out of reach for fmt's masking: keep
// secrets in exported fields, or do not format the struct.
type Secret string

// Reveal returns the text itself. Its result must not be logged.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString returns the mask, for %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// Format writes the mask for every verb: without it %d would show the text in
// fmt's report of a wrong verb.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'q' || (verb == 'v' && f.Flag('#')) {
		text = s.GoString()
	}
	// Format cannot report an error; fmt's own writer never fails.
	_, _ = io.WriteString(f, text)
}

// LogValue returns the mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the mask; YAML and XML encoders use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns the mask as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }
