package limits

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/axpchat/connector/services/internal/kit/httpx"
)

func TestRatesAreWrittenAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]Rate{
		"60/1m": {60, time.Minute}, " 1MiB/10s ": {1 << 20, 10 * time.Second}, "off": {0, time.Second}, "3/1s": {3, time.Second},
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q: %v, %v", text, r, err)
		}
		again, err := r.MarshalText()
		var back Rate
		if err != nil || back.UnmarshalText(again) != nil || back != r {
			t.Errorf("%q is shown as %s", text, again)
		}
	}
	for _, text := range []string{"", "60", "60/", "/1m", "0/1m", "-1/1m", "60/0s", "60/1ms", "60/48h", "many/1m", "60/1m/1m", "1e9/1s"} {
		var r Rate
		if r.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is taken as %v", text, r)
		}
	}
}

// TestTheBucketDoesAsTheLibraryDoes: it is the same algorithm in another form, so
// the well-known one is the yardstick.
func TestTheBucketDoesAsTheLibraryDoes(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		r := Rate{N: 1 + rnd.Int64N(50), Per: time.Duration(1+rnd.Int64N(60)) * time.Second}
		var b bucket
		want := rate.NewLimiter(rate.Limit(float64(r.N)/r.Per.Seconds()), int(r.N))
		began := time.Now()
		var now int64
		for range 300 {
			now += rnd.Int64N(int64(r.Per) / r.N * 2)
			n := 1 + rnd.Int64N(r.N)
			at := began.Add(time.Duration(now))
			// Where there is a hair between yes and no rounding decides.
			if left := want.TokensAt(at) - float64(n); left > -1e-3 && left < 1e-3 {
				continue
			}
			wait := b.take(now, r, n)
			if got, want := wait == 0, want.AllowN(at, int(n)); got != want {
				t.Fatalf("seed %d: %v, %d at %d: %v, want %v", seed, r, n, now, got, want)
			}
			if wait > 0 && (b.take(now+int64(wait)-1e5, r, n) == 0 || b.take(now+int64(wait), r, n) != 0) {
				t.Fatalf("seed %d: %s was not the time to wait", seed, wait)
			} else if wait > 0 {
				b.giveBack(r, n)
			}
		}
	}
}

func TestADebtIsBounded(t *testing.T) {
	r, b := Rate{N: 10, Per: 10 * time.Second}, bucket(0)
	b.owe(0, r, 15, 3)
	if wait := b.take(0, r, 1); wait != 6*time.Second {
		t.Errorf("with a debt of 5 of 10 one must be waited for %s", wait)
	}
	b.owe(0, r, 1<<40, 3)
	if wait := b.take(0, r, 10); wait != 30*time.Second {
		t.Errorf("a debt of three buckets takes %s", wait)
	}
}

func TestWhereAClientComesFrom(t *testing.T) {
	proxies, err := httpx.ParseNetworks([]string{"10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"straight", "203.0.113.9", nil, "203.0.113.9"},
		{"a stranger says he is another one", "203.0.113.9", []string{"198.51.100.1"}, "203.0.113.9"},
		{"behind a proxy", "10.1.2.3", []string{"203.0.113.9"}, "203.0.113.9"},
		{"behind two", "10.1.2.3", []string{"203.0.113.9, 192.0.2.7"}, "203.0.113.9"},
		{"in two headers", "10.1.2.3", []string{"203.0.113.9", "192.0.2.7"}, "203.0.113.9"},
		{"the first ones are the client's own inventions", "10.1.2.3", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"},
		{"with a port", "10.1.2.3", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"IPv6 in brackets", "10.1.2.3", []string{"[2001:db8:2::1]"}, "2001:db8:2::1"},
		{"IPv6 in brackets with a port", "10.1.2.3", []string{"[2001:db8:2::1]:4711"}, "2001:db8:2::1"},
		{"IPv6 proxy", "2001:db8:1::5", []string{"2001:db8:2::1"}, "2001:db8:2::1"},
		{"mapped", "::ffff:10.1.2.3", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"a proxy that says nothing", "10.1.2.3", nil, "10.1.2.3"},
		{"nonsense counts for the proxy that let it through", "10.1.2.3", []string{"unknown, 192.0.2.7"}, "192.0.2.7"},
		{"empty ones are passed over", "10.1.2.3", []string{" , 203.0.113.9,, "}, "203.0.113.9"},
		{"a zone is no other address", "fe80::1%eth0", nil, "fe80::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := client(netip.MustParseAddr(tt.peer), tt.forwarded, proxies).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestOneNetworkOfIPv6IsOneAddress(t *testing.T) {
	at := func(s string) netip.Prefix { return block(netip.MustParseAddr(s)) }
	if at("2001:db8:1:2::1") != at("2001:db8:1:2:ffff::9") || at("2001:db8:1:2::1") == at("2001:db8:1:3::1") {
		t.Error("a /64 is one address, and the next one another")
	}
	if at("203.0.113.1") == at("203.0.113.2") {
		t.Error("IPv4 addresses are told apart")
	}
}

func FuzzClient(f *testing.F) {
	for _, s := range []string{"", "203.0.113.9", "[::1]:80, 10.0.0.1", ",,,", "fe80::1%eth0", "::ffff:1.2.3.4", "[", "]"} {
		f.Add(s)
	}
	proxies, err := httpx.ParseNetworks([]string{"10.0.0.0/8", "::/0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, forwarded string) {
		got := client(netip.MustParseAddr("10.1.2.3"), []string{forwarded}, proxies)
		if !got.IsValid() || got.Zone() != "" || !block(got).IsValid() {
			t.Errorf("%q makes %v", forwarded, got)
		}
		if out := client(netip.MustParseAddr("203.0.113.9"), []string{forwarded}, proxies); out.String() != "203.0.113.9" {
			t.Errorf("%q of a stranger is believed: %v", forwarded, out)
		}
	})
}
