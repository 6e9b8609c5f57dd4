package tlsx_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what never takes this long.
const patience = 20 * time.Second

func open(t testing.TB, f tlsx.Files) (*tlsx.Source, *logtest.Records) {
	t.Helper()
	log := &logtest.Records{}
	s, err := tlsx.Open(f, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// echo serves connections, on a real socket, with what they send.
func echo(t testing.TB, cfg *tls.Config) string {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { _ = lis.Close(); serving.Wait() })
	return lis.Addr().String()
}

// dial connects and sees a word come back, since a TLS 1.3 client learns only then
// what the server thinks of its certificate.
func dial(t testing.TB, addr string, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, cfg)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, talk(conn)
}

func talk(conn *tls.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("word")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return err
}

var both = []string{"127.0.0.1", "gateway"}

func TestAServerTakesUpARenewedCertificateWhileAConnectionGoesOn(t *testing.T) {
	t.Parallel()
	old, renewed := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, old.Issue(both))
	s, log := open(t, f)
	addr := echo(t, s.Server(tlsx.ServerOptions{}))
	trusts := func(a *tlsxtest.Authority) *tls.Config {
		c, _ := open(t, tlsxtest.Files(t, tlsxtest.Pair{}, a))
		return c.Client("gateway")
	}
	held, err := dial(t, addr, trusts(old))
	if err != nil {
		t.Fatal(err)
	}
	tlsxtest.Write(t, f, renewed.Issue(both))
	if _, err := dial(t, addr, trusts(renewed)); err != nil {
		t.Errorf("the renewed certificate is not shown: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := dial(t, addr, trusts(old)); !errors.As(err, &unknown) {
		t.Errorf("the old certificate is shown: %v", err)
	}
	if err := talk(held); err != nil {
		t.Errorf("the open connection broke: %v", err)
	}
	if strings.Count(log.String(), "certificates read anew") != 1 {
		t.Errorf("got %s", log.String())
	}
}

func TestAServerTakesUpOtherAuthorities(t *testing.T) {
	t.Parallel()
	own, old, next := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	pair := own.Issue(both)
	f := tlsxtest.Files(t, pair, old)
	s, _ := open(t, f)
	addr := echo(t, s.Server(tlsx.ServerOptions{}))
	client := func(a *tlsxtest.Authority) *tls.Config {
		c, _ := open(t, tlsxtest.Files(t, a.Issue(both), own))
		cfg := c.Client("gateway")
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4) // whose tickets must not help
		return cfg
	}
	ofOld, ofNext := client(old), client(next)
	held, err := dial(t, addr, ofOld)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, addr, ofNext); err == nil {
		t.Error("an unknown authority was believed")
	}
	tlsxtest.Write(t, f, tlsxtest.Pair{}, old, next)
	for _, c := range []*tls.Config{ofOld, ofNext} {
		if _, err := dial(t, addr, c); err != nil {
			t.Errorf("one of both authorities is not believed: %v", err)
		}
	}
	tlsxtest.Write(t, f, tlsxtest.Pair{}, next)
	if _, err := dial(t, addr, ofNext); err != nil {
		t.Error(err)
	}
	if _, err := dial(t, addr, ofOld); err == nil {
		t.Error("an authority that is gone is believed")
	}
	if err := talk(held); err != nil {
		t.Errorf("the open connection broke: %v", err)
	}
}

func TestAClientTakesUpWhatIsRenewed(t *testing.T) {
	t.Parallel()
	a, b := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, a.Issue([]string{"first"}), a)
	s, _ := open(t, f)
	ofA, _ := open(t, tlsxtest.Files(t, a.Issue(both), a, b))
	ofB, _ := open(t, tlsxtest.Files(t, b.Issue(both), a, b))
	seen := make(chan []string, 1)
	watch := func(s *tlsx.Source) string {
		cfg := s.Server(tlsx.ServerOptions{})
		inner := cfg.GetConfigForClient
		cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := inner(h)
			c = c.Clone()
			c.VerifyConnection = func(cs tls.ConnectionState) error {
				seen <- tlsx.Names(cs.PeerCertificates[0])
				return nil
			}
			return c, err
		}
		return echo(t, cfg)
	}
	addrA, addrB := watch(ofA), watch(ofB)
	if _, err := dial(t, addrA, s.Client("gateway")); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got[0] != "first" {
		t.Errorf("got %v", got)
	}
	if _, err := dial(t, addrB, s.Client("gateway")); err == nil {
		t.Error("a server of an unknown authority was believed")
	}
	tlsxtest.Write(t, f, b.Issue([]string{"second"}), b)
	if _, err := dial(t, addrB, s.Client("gateway")); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got[0] != "second" {
		t.Errorf("got %v", got)
	}
	if _, err := dial(t, addrA, s.Client("gateway")); err == nil {
		t.Error("a server of an authority that is gone was believed")
	}
}

func TestWhatCannotBeUsedChangesNothing(t *testing.T) {
	t.Parallel()
	a := tlsxtest.NewAuthority(t)
	good := a.Issue(both)
	cases := []struct {
		name   string
		breaks func(t *testing.T, f tlsx.Files)
	}{
		{"a certificate before its key", func(t *testing.T, f tlsx.Files) { write(t, f.Cert, a.Issue(both).Cert) }},
		{"a key before its certificate", func(t *testing.T, f tlsx.Files) { write(t, f.Key, a.Issue(both).Key) }},
		{"half of a certificate", func(t *testing.T, f tlsx.Files) { write(t, f.Cert, good.Cert[:len(good.Cert)/2]) }},
		{"a file that is gone", func(t *testing.T, f tlsx.Files) { _ = os.Remove(f.Key) }},
		{"an empty list of authorities", func(t *testing.T, f tlsx.Files) { write(t, f.CA, nil) }},
		{"half of a list of authorities", func(t *testing.T, f tlsx.Files) {
			write(t, f.CA, append(bytes.Clone(a.PEM), a.PEM[:len(a.PEM)/2]...))
		}},
		{"a key among the authorities", func(t *testing.T, f tlsx.Files) { write(t, f.CA, append(bytes.Clone(a.PEM), good.Key...)) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := tlsxtest.Files(t, good, a)
			s, log := open(t, f)
			addr := echo(t, s.Server(tlsx.ServerOptions{}))
			client, _ := open(t, tlsxtest.Files(t, good, a))
			c.breaks(t, f)
			for range 3 {
				if _, err := dial(t, addr, client.Client("gateway")); err != nil {
					t.Fatalf("the old certificates are not in use: %v", err)
				}
			}
			if n := strings.Count(log.String(), "can't be used"); n != 1 {
				t.Errorf("told %d times: %s", n, log.String())
			}
			tlsxtest.Write(t, f, a.Issue(both), a)
			if _, err := dial(t, addr, client.Client("gateway")); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log.String(), "read anew"); n != 1 {
				t.Errorf("told %d times: %s", n, log.String())
			}
		})
	}
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sameSize issues two certificates whose files are of one size.
func sameSize(a *tlsxtest.Authority) (first, second tlsxtest.Pair) {
	first, second = a.Issue(both), a.Issue(both)
	for len(second.Cert) != len(first.Cert) || len(second.Key) != len(first.Key) {
		second = a.Issue(both)
	}
	return first, second
}

// rewrite changes the files in place and gives them the time that they are to have.
func rewrite(t testing.TB, f tlsx.Files, p tlsxtest.Pair, at time.Time) {
	t.Helper()
	write(t, f.Cert, p.Cert)
	write(t, f.Key, p.Key)
	for _, name := range []string{f.Cert, f.Key} {
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAChangeWithinTheGrainOfTheClockIsSeen(t *testing.T) {
	t.Parallel()
	first, second := sameSize(tlsxtest.NewAuthority(t))
	f, now := tlsxtest.Files(t, first), time.Now()
	rewrite(t, f, first, now)
	s, _ := open(t, f)
	rewrite(t, f, second, now)
	if got := s.Certificate(); !got.Leaf.Equal(leaf(t, second)) {
		t.Error("the first certificate is still in use")
	}
}

func TestFilesThatLookTheSameAreNotReadAgain(t *testing.T) {
	t.Parallel()
	first, second := sameSize(tlsxtest.NewAuthority(t))
	f, past := tlsxtest.Files(t, first), time.Now().Add(-time.Hour)
	rewrite(t, f, first, past)
	s, _ := open(t, f)
	rewrite(t, f, second, past)
	if got := s.Certificate(); !got.Leaf.Equal(leaf(t, first)) {
		t.Error("the files were read again, as they would be for every connection")
	}
}

func leaf(t testing.TB, p tlsxtest.Pair) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestOpenRefusesWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	a := tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, a.Issue(both), a)
	for name, broken := range map[string]tlsx.Files{
		"no file at all": {}, "no key": {Cert: f.Cert}, "a file that is not there": {CA: f.CA + ".not"},
		"a key for a certificate": {Cert: f.Key, Key: f.Key}, "a key for an authority": {CA: f.Key},
	} {
		if _, err := tlsx.Open(broken, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestAServerLetsInOnlyTheNamesThatItIsTold(t *testing.T) {
	t.Parallel()
	a := tlsxtest.NewAuthority(t)
	s, _ := open(t, tlsxtest.Files(t, a.Issue(both), a))
	addr := echo(t, s.Server(tlsx.ServerOptions{Clients: []string{"axp.example.com"}}))
	for name, want := range map[string]bool{"axp.example.com": true, "other.example.com": false} {
		c, _ := open(t, tlsxtest.Files(t, a.Issue([]string{name}), a))
		if _, err := dial(t, addr, c.Client("gateway")); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Where nobody asks for a certificate, nobody has a name.
	open1, _ := open(t, tlsxtest.Files(t, a.Issue(both)))
	c, _ := open(t, tlsxtest.Files(t, a.Issue([]string{"axp.example.com"}), a))
	if _, err := dial(t, echo(t, open1.Server(tlsx.ServerOptions{Clients: []string{"axp.example.com"}})), c.Client("gateway")); err == nil {
		t.Error("a client without a name got in")
	}
}

func TestMistakesNameTheSetting(t *testing.T) {
	t.Parallel()
	keys := tlsx.Keys{Cert: "X_CERT", Key: "X_KEY", CA: "X_CA"}
	for _, c := range []struct {
		files tlsx.Files
		want  string
	}{{tlsx.Files{Cert: "c"}, "X_KEY"}, {tlsx.Files{Key: "k"}, "X_CERT"}, {tlsx.Files{CA: "a"}, ""}, {tlsx.Files{Cert: "c", Key: "k"}, ""}} {
		got := ""
		for _, m := range c.files.Mistakes(keys) {
			got += m.Key
		}
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c.files, got, c.want)
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	a := tlsxtest.NewAuthority(t)
	pair := a.Issue([]string{"Gateway.Chat.svc", "*.chat.svc", "spiffe://cluster/ns/chat/sa/gateway", "127.0.0.1"})
	cert := leaf(t, pair)
	for _, c := range []struct {
		name string
		want bool
	}{
		{"gateway.chat.svc", true}, {"GATEWAY.chat.svc", true}, {"spiffe://cluster/ns/chat/sa/gateway", true},
		{"spiffe://cluster/ns/chat/sa/Gateway", false}, {"ingest.chat.svc", false}, {"gateway", false}, {"127.0.0.1", false},
		{cert.Subject.CommonName, false}, {"", false},
	} {
		if got := tlsx.Named(cert, []string{"other", c.name}); got != c.want {
			t.Errorf("%q: got %v", c.name, got)
		}
	}
	if tlsx.Named(cert, nil) {
		t.Error("nobody is allowed, and somebody got in")
	}
}
