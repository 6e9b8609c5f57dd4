package natsrights

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestOnlyTheSuitesCertificatesGetIn knocks with everything that is not one.
func TestOnlyTheSuitesCertificatesGetIn(t *testing.T) {
	ca, foreign := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	c := start(t, ca)
	names := []string{user(svcGateway)}
	for _, tt := range []struct {
		name string
		pair tlsxtest.Pair
		opts []nats.Option
		in   bool
	}{
		{"with a certificate of the suite", ca.Issue(names), nil, true},
		{"with one of its names", ca.Issue([]string{"gateway.chat.svc", user(svcGateway)}), nil, true},
		{"without a certificate", tlsxtest.Pair{}, nil, false},
		{"with a name and no certificate", tlsxtest.Pair{}, []nats.Option{nats.UserInfo(user(svcGateway), "")}, false},
		{"of another authority", foreign.Issue(names), nil, false},
		{"of another name", ca.Issue([]string{"gateway.chat.svc"}), nil, false},
		{"of another name, with a user's name said", ca.Issue([]string{"gateway.chat.svc"}), []nats.Option{nats.UserInfo(user(svcGateway), "")}, false},
		{"of a longer name", ca.Issue([]string{"x." + user(svcGateway)}), nil, false},
		{"of a wildcard", ca.Issue([]string{"*.nats.axpchat"}), nil, false},
		{"with the name in the subject alone", ca.Issue(nil, func(x *x509.Certificate) { x.Subject = pkix.Name{CommonName: user(svcGateway)} }), nil, false},
		{"that has expired", ca.Issue(names, tlsxtest.Expired), nil, false},
		{"for servers alone", ca.Issue(names, func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil, false},
		{"by an old TLS", ca.Issue(names), []nats.Option{nats.Secure(&tls.Config{MaxVersion: tls.VersionTLS12})}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := tlsxtest.Files(t, tt.pair, ca)
			opts := append(slices.Clone(tt.opts), nats.RootCAs(files.CA), nats.NoReconnect(), nats.Timeout(5*time.Second))
			if files.Cert != "" {
				opts = append(opts, nats.ClientCert(files.Cert, files.Key))
			}
			nc, err := nats.Connect(c.url, opts...)
			if err == nil {
				nc.Close()
			}
			if tt.in != (err == nil) || errors.Is(err, nats.ErrTimeout) {
				t.Errorf("got in: %t (%v)", err == nil, err)
			}
		})
	}
}

// connected is a bus that tells what it does.
type connected struct {
	*bus.Bus
	logs   *logtest.Records
	reader *metric.ManualReader
}

func (c *cluster) watched(t *testing.T, cfg bus.Config, opts ...nats.Option) *connected {
	t.Helper()
	logs, reader := &logtest.Records{}, metric.NewManualReader()
	b, err := bus.Connect(t.Context(), bus.Params{
		Config: cfg, Name: svcGateway, Log: slog.New(slog.NewTextHandler(logs, nil)), Meter: metric.NewMeterProvider(metric.WithReader(reader)), Options: opts,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the server may be gone already, on purpose
	return &connected{Bus: b, logs: logs, reader: reader}
}

func (b *connected) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := suitetest.Await(ctx, what, func(context.Context) (bool, error) { return cond(), nil }); err != nil {
		t.Fatalf("%v\n%s", err, b.logs)
	}
}

// TestADeniedPublishIsNoticed: the call itself only gets no answer.
func TestADeniedPublishIsNoticed(t *testing.T) {
	c := start(t, tlsxtest.NewAuthority(t))
	b := c.watched(t, c.config(t, svcGateway))
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	const session = "session-that-nobody-shall-read"
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := b.PublishEvent(ctx, event(session)); err == nil {
			t.Fatal("a gateway writes events")
		}
	}
	b.await(t, "readiness to fail", func() bool { return b.Ready(t.Context()) != nil })
	if err := b.Ready(t.Context()); !strings.Contains(err.Error(), "publish on chat.event.>") {
		t.Errorf("%v", err)
	}
	logged := b.logs.String()
	if strings.Contains(logged, session) || strings.Count(logged, "chat.event.>") != 1 {
		t.Errorf("want the kind of subject once, and no session:\n%s", logged)
	}
	var got metricdata.ResourceMetrics
	if err := b.reader.Collect(t.Context(), &got); err != nil || len(got.ScopeMetrics) != 1 || len(got.ScopeMetrics[0].Metrics) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if m := got.ScopeMetrics[0].Metrics[0]; m.Name != "axpchat_nats_denied" || m.Data.(metricdata.Sum[int64]).DataPoints[0].Value < 2 {
		t.Errorf("%+v", m)
	}
	if err := b.NC.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	b.await(t, "readiness with the next connection", func() bool { return b.Ready(t.Context()) == nil })
}

// TestADeniedSubscriptionIsNoticed: nothing would come by it, ever.
func TestADeniedSubscriptionIsNoticed(t *testing.T) {
	c := start(t, tlsxtest.NewAuthority(t))
	b := c.watched(t, c.config(t, svcGateway))
	if _, err := b.NC.SubscribeSync("chat.outbox.>"); err != nil {
		t.Fatal(err)
	}
	b.await(t, "readiness to fail", func() bool {
		err := b.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "subscribe on chat.outbox.>")
	})
	// It is asked for again with the next connection, and denied again.
	if err := b.NC.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	b.await(t, "the second denial", func() bool { return strings.Count(b.logs.String(), "chat.outbox.>") == 2 })
	if b.Ready(t.Context()) == nil {
		t.Error("ready without the subscription")
	}
}

// TestARenewedCertificateNeedsNoRestart replaces authority and certificates of both
// sides under a running service.
func TestARenewedCertificateNeedsNoRestart(t *testing.T) {
	before, after := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	c := start(t, before)
	cfg := c.config(t, svcGateway)
	b := c.watched(t, cfg)
	c.server.Shutdown()
	c.server.WaitForShutdown()
	start(t, after, func(o *server.Options) { o.Port = c.port })
	b.await(t, "the connection to be lost", func() bool { return b.Ready(t.Context()) != nil })
	files := tlsx.Files{Cert: cfg.CertFile, Key: cfg.KeyFile, CA: cfg.CAFile}
	tlsxtest.Write(t, files, after.Issue([]string{user(svcGateway)}), after)
	b.await(t, "the renewed certificate to be used", func() bool { return b.Ready(t.Context()) == nil })
}

// TestAServiceThatIsRefusedKeepsTrying: whoever configures the server may need a
// moment, and the service would never come back by itself.
func TestAServiceThatIsRefusedKeepsTrying(t *testing.T) {
	ca := tlsxtest.NewAuthority(t)
	c := start(t, ca)
	refused := make(chan struct{}, 64)
	b := c.watched(t, c.config(t, svcGateway), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrAuthorization) {
			refused <- struct{}{}
		}
	}))
	c.server.Shutdown()
	c.server.WaitForShutdown()
	strict := start(t, ca, func(o *server.Options) {
		o.Port = c.port
		o.Users = slices.DeleteFunc(o.Users, func(u *server.User) bool { return u.Username == user(svcGateway) })
	})
	for range 3 {
		select {
		case <-refused:
		case <-time.After(patience):
			t.Fatalf("it does not try any more, it is %s", b.NC.Status())
		}
	}
	strict.server.Shutdown()
	strict.server.WaitForShutdown()
	start(t, ca, func(o *server.Options) { o.Port = c.port })
	b.await(t, "the service to be back", func() bool { return b.Ready(t.Context()) == nil })
}

// TestWhatIsStoredCannotBeReadFromTheDisk looks for a customer's words in the files.
func TestWhatIsStoredCannotBeReadFromTheDisk(t *testing.T) {
	const words = "the words that nobody shall find"
	for _, tt := range []struct {
		name    string
		change  func(*server.Options)
		visible bool
	}{
		{"with the shipped configuration", func(*server.Options) {}, false},
		{"without its key", func(o *server.Options) { o.JetStreamKey = "" }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			dir := t.TempDir()
			c := start(t, tlsxtest.NewAuthority(t), func(o *server.Options) { o.StoreDir = dir }, tt.change)
			w, err := c.join(ctx, t, "")
			if err != nil {
				t.Fatal(err)
			}
			e := event("s")
			e.Event.Payload = &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{MessageId: words}}
			if _, err := w.ingest.PublishEvent(ctx, e); err != nil {
				t.Fatal(err)
			}
			w.close()
			c.server.Shutdown()
			c.server.WaitForShutdown()
			found, files := false, 0
			err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				files++
				found = found || bytes.Contains(data, []byte(words))
				return err
			})
			if err != nil || files == 0 || found != tt.visible {
				t.Errorf("found: %t in %d files, %v", found, files, err)
			}
		})
	}
}
