package e2e

import (
	"context"
	"testing"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestCertificatesAreRenewedInTheMiddleOfAChat runs the services as processes that
// talk mutual TLS. In the middle of a chat, certificates and their authority are
// replaced by others; then the orchestrator restarts, so that the gateway has to
// connect anew: without a restart of its own it must show, and believe, the new ones.
func TestCertificatesAreRenewedInTheMiddleOfAChat(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs five processes")
	}
	old, next := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	names := []string{"127.0.0.1", "gateway"}
	f := tlsxtest.Files(t, old.Issue(names), old)
	s := suitetest.StartProcesses(t,
		"GRPC_TLS_CERT_FILE", f.Cert, "GRPC_TLS_KEY_FILE", f.Key, "GRPC_TLS_CLIENT_CA_FILE", f.CA,
		"GRPC_CLIENT_TLS_CERT_FILE", f.Cert, "GRPC_CLIENT_TLS_KEY_FILE", f.Key, "GRPC_CLIENT_TLS_CA_FILE", f.CA,
	)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	token, err := suitetest.Token(ctx, s.Sandbox, "Ruth", "ruth")
	if err != nil {
		t.Fatal(err)
	}
	st := &story{suite: s, name: "Ruth", app: &restCustomer{base: s.HTTP, token: token}, desk: s.Desk("Tomas"), life: ctx}
	for _, step := range []func(context.Context, *testing.T){st.logIn, st.browse, st.startChat, st.queue, st.agentAccepts, st.talk} {
		if step(ctx, t); t.Failed() {
			return
		}
	}
	tlsxtest.Write(t, f, next.Issue(names), next)
	if err := s.Orchestrator.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Orchestrator.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Orchestrator.WaitReady(ctx, s.Admins[2]+"/healthz/ready"); err != nil {
		t.Fatal(err)
	}
	// An app repeats a call while the gateway is on its way back.
	if err := suitetest.Await(ctx, "the gateway's new connection", func(ctx context.Context) (bool, error) {
		return st.app.updateParameters(ctx, &axpchatv1.UpdateSessionParametersRequest{SessionId: st.session, SessionParameters: map[string]string{"page": "/checkout"}}) == nil, nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, s.Gateway.Log())
	}
	// The stream is the one from before.
	for _, step := range []func(context.Context, *testing.T){st.agentLeaves, st.secondAgent, st.customerEnds, st.logOut} {
		if step(ctx, t); t.Failed() {
			t.Log(s.Gateway.Log())
			return
		}
	}
	if s.Gateway.Starts() != 1 {
		t.Error("the gateway was restarted")
	}
}
