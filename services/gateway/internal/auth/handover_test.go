package auth

import (
	"context"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/axpchat/connector/services/internal/kit/errs"
)

// arrive makes of a context at one end of a connection that of the call at the other.
func arrive(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(context.WithoutCancel(ctx), md)
}

// TestACustomerIsHandedOverOnce: to the call that he comes with and to no other, and
// to nobody who guesses or overhears where he waits.
func TestACustomerIsHandedOverOnce(t *testing.T) {
	v := verifier(t, Config{HS256Secret: secret})
	h := NewHandover()
	unary, stream := h.Client()
	enter := func(ctx context.Context, d *Door) (*Principal, error) {
		ctx, err := d.enter(ctx, v, "/axpchat.v1.ChatService/GetSession", nil)
		if err != nil {
			return nil, err
		}
		p, _ := FromContext(ctx)
		return p, nil
	}
	inside, public := &Door{Handover: h}, &Door{}
	ada, eve := &Principal{Account: "ABCDEF", Subject: "ada"}, &Principal{Account: "ABCDEF", Subject: "eve"}
	overheard := make(chan context.Context, 1)
	call := func(p *Principal, at func(ctx context.Context)) {
		t.Helper()
		err := unary(WithPrincipal(t.Context(), p), "m", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			at(ctx)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	call(ada, func(ctx context.Context) {
		call(eve, func(other context.Context) {
			if got, err := enter(arrive(other), inside); err != nil || got != eve {
				t.Errorf("eve's call is %v's: %v", got, err)
			}
		})
		if got, err := enter(arrive(ctx), public); err == nil {
			t.Errorf("the public door takes %v", got)
		}
		if got, err := enter(arrive(ctx), inside); err != nil || got != ada {
			t.Errorf("ada's call is %v's: %v", got, err)
		}
		if got, err := enter(arrive(ctx), inside); err == nil {
			t.Errorf("a place that was left has %v", got)
		}
	})
	call(ada, func(ctx context.Context) { overheard <- arrive(ctx) })
	for name, ctx := range map[string]context.Context{
		"a place after its call": <-overheard,
		"a place that is none":   metadata.NewIncomingContext(t.Context(), metadata.Pairs(handoverKey, "ada")),
		"no name of a place":     metadata.NewIncomingContext(t.Context(), metadata.Pairs(handoverKey, "")),
	} {
		if got, err := enter(ctx, inside); err == nil {
			t.Errorf("%s has %v", name, got)
		}
	}
	call(ada, func(ctx context.Context) {
		if got, err := enter(arrive(metadata.AppendToOutgoingContext(ctx, handoverKey, "another")), inside); err == nil {
			t.Errorf("two places have %v", got)
		}
	})
	// Streams keep their place until their request is over.
	ctx, cancel := context.WithCancel(WithPrincipal(t.Context(), ada))
	_, err := stream(ctx, nil, nil, "m", func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
		got, err := enter(arrive(ctx), inside)
		if got != ada {
			t.Errorf("ada's stream is %v's", got)
		}
		return nil, err
	})
	cancel()
	if err != nil {
		t.Error(err)
	}
	left := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.waiting)
	}
	for left() > 0 { // the test's own time is up where it does not leave
		runtime.Gosched()
	}
	if _, err := enter(t.Context(), inside); errs.From(err).Detail != "there is no token" {
		t.Errorf("a call with nothing: %v", err)
	}
}
