package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. It is written as a plain number, with a binary unit
// (KiB, MiB, GiB, TiB) or with a decimal one (kB, KB, MB, GB, TB); B alone is
// allowed too. Sizes are whole and not negative.
type Bytes int64

// errSize says what a size may look like.
var errSize = errors.New("is not a size such as 4096, 64KiB or 1MiB")

// sizeUnits lists the units, longest spelling first so that "KiB" is not taken
// for "B". It is a function and not a variable: the package has no state.
func sizeUnits() []struct {
	suffix string
	factor int64
} {
	return []struct {
		suffix string
		factor int64
	}{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3},
		{"B", 1},
	}
}

// ParseBytes reads a size as [Bytes] describes it.
func ParseBytes(s string) (Bytes, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, errSize
	}
	return Bytes(n * factor), nil
}

// UnmarshalText reads a size as [Bytes] describes it.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// String writes the size with the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range sizeUnits() {
		binary := strings.HasSuffix(u.suffix, "iB")
		if binary && b != 0 && int64(b)%u.factor == 0 {
			return strconv.FormatInt(int64(b)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText writes the size as [Bytes.String] does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
