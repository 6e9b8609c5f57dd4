package bench

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/normalise"
)

// The benchmarks are of the steps in which the suite's path does more than the
// thin one, with the same callback: where a run's ratio comes from.

func oneCallback(b *testing.B) (*keyring.Keyring, *callbacks, []byte) {
	b.Helper()
	keys, err := keyring.New(keyring.Config{Secret: config.Secret("a secret of this benchmark")})
	if err != nil {
		b.Fatal(err)
	}
	calls := newCallbacks(keys, 1)
	return keys, calls, calls.body(nil, 0)
}

func BenchmarkReadCallback(b *testing.B) {
	_, _, body := oneCallback(b)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := normalise.Callback(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("thin", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var about struct{ ProviderDialogID, MessageID string }
			if err := json.Unmarshal(body, &about); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkProofs(b *testing.B) {
	keys, calls, _ := oneCallback(b)
	key := keys.CallbackKey(account)
	b.ReportAllocs()
	for b.Loop() {
		if _, verdict := keys.ParseDialogID(account, calls.dialog[0]); !keys.CheckCallbackKey(account, key) || verdict != keyring.Ours {
			b.Fatal("the proofs do not hold")
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	_, _, body := oneCallback(b)
	res, err := normalise.Callback(body)
	if err != nil {
		b.Fatal(err)
	}
	res.Place(sessionID(0), engagementID(0), timestamppb.Now())
	rec := &busv1.EventRecord{Account: account, Event: res.Event}
	data, err := proto.Marshal(rec)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(len(data)), "bytes")
		for b.Loop() {
			if _, err := proto.Marshal(rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bus.DecodeRecord(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
