package keyring_test

import (
	"testing"

	"github.com/axpchat/connector/services/internal/kit/keyring"
)

// BenchmarkProofs checks what every callback has checked.
func BenchmarkProofs(b *testing.B) {
	k := ring(b, newSecret, "")
	key := k.CallbackKey("ABCDEF")
	dialog := k.MintDialogID("ABCDEF", "0197a1b2-0000-7000-8000-0000000000aa", "0197a1b2-0000-7000-8000-0000000000bb")
	b.ReportAllocs()
	for b.Loop() {
		if _, verdict := k.ParseDialogID("ABCDEF", dialog); !k.CheckCallbackKey("ABCDEF", key) || verdict != keyring.Ours {
			b.Fatal("the proofs do not hold")
		}
	}
}
