package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setText fills a leaf from text. The error completes the sentence "KEY: …" and
// does not contain the text; the caller adds it when it is no secret.
func setText(v reflect.Value, text string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if err := u.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return fmt.Errorf("cannot be read: %w", err)
		}
		return nil
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return errNot("a duration such as 500ms, 30s or 1h30m")
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Slice:
		setStrings(v, splitList(text))
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(text)))
		if err != nil {
			return errNot("true or false")
		}
		v.SetBool(b)
		return nil
	default:
		return setNumber(v, strings.TrimSpace(text))
	}
}

func setNumber(v reflect.Value, text string) error {
	bits := v.Type().Bits()
	switch {
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, bits)
		if err != nil {
			return errNot(fmt.Sprintf("a whole number of %d bits", bits))
		}
		v.SetInt(n)
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, bits)
		if err != nil {
			return errNot(fmt.Sprintf("a whole number, not negative, of %d bits", bits))
		}
		v.SetUint(n)
	default:
		n, err := strconv.ParseFloat(text, bits)
		if err != nil {
			return errNot("a number")
		}
		v.SetFloat(n)
	}
	return nil
}

// notError says what a value should have been.
type notError string

func errNot(want string) error { return notError(want) }

func (e notError) Error() string { return "is not " + string(e) }

// splitList splits at commas; spaces around an entry and empty entries go.
func splitList(text string) []string {
	var out []string
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			out = append(out, entry)
		}
	}
	return out
}

func setStrings(v reflect.Value, entries []string) {
	s := reflect.MakeSlice(v.Type(), len(entries), len(entries))
	for i, entry := range entries {
		s.Index(i).SetString(entry)
	}
	v.Set(s)
}

// showValue writes a leaf as people would type it, secrets masked.
func showValue(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		entries := make([]string, 0, v.Len())
		for i := range v.Len() {
			entries = append(entries, showValue(v.Index(i)))
		}
		return strings.Join(entries, ",")
	}
	if v.CanAddr() {
		if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v.Addr()); ok {
			text, err := m.MarshalText()
			if err != nil {
				return "(cannot be shown)"
			}
			return maskURLs(string(text))
		}
	}
	return maskURLs(fmt.Sprint(v.Interface()))
}

// maskURLs hides what stands before an @ in the URLs of a text: NATS and proxy
// URLs may carry a user with a password there, or a token alone.
func maskURLs(s string) string {
	var out strings.Builder
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i+3])
		s = s[i+3:]
		end := strings.IndexAny(s, ", \t\n\"'")
		if end < 0 {
			end = len(s)
		}
		authority := s[:end]
		if slash := strings.IndexAny(authority, "/?#"); slash >= 0 {
			authority = authority[:slash]
		}
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			out.WriteString(masked)
			s = s[at:]
		}
	}
}
