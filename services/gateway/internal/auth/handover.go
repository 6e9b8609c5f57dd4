package auth

import (
	"context"
	"crypto/rand"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// handoverKey is the metadata of calls inside the process that tells where their
// customer waits. No other server looks at it, and nothing of a stranger's request
// becomes metadata there.
const handoverKey = "axpchat-customer"

// Handover hands customers over to the server at the other end of a connection
// inside the process, so that a token is not looked at twice. What goes over is the
// name of a place: random, for one call, and empty when the call has taken it. It
// is safe for concurrent use.
type Handover struct {
	mu      sync.Mutex
	waiting map[string]*Principal
}

// NewHandover returns a handover in which nobody waits.
func NewHandover() *Handover { return &Handover{waiting: map[string]*Principal{}} }

// Client returns what hands the customers of contexts over.
func (h *Handover) Client() (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, leave := h.wait(ctx)
		defer leave()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, leave := h.wait(ctx)
		context.AfterFunc(ctx, leave) // the request's, which ends with it
		return open(ctx, desc, cc, method, opts...)
	}
	return unary, stream
}

// wait puts the customer of a context, where it has one, into a place of its own.
func (h *Handover) wait(ctx context.Context) (_ context.Context, leave func()) {
	p, ok := FromContext(ctx)
	if !ok {
		return ctx, func() {}
	}
	place := rand.Text()
	h.mu.Lock()
	h.waiting[place] = p
	h.mu.Unlock()
	return metadata.AppendToOutgoingContext(ctx, handoverKey, place), func() { h.take(place) }
}

// Take returns the customer that was handed over with a call, once; nil: none was.
func (h *Handover) Take(ctx context.Context) *Principal {
	if h == nil {
		return nil
	}
	places := metadata.ValueFromIncomingContext(ctx, handoverKey)
	if len(places) != 1 {
		return nil
	}
	return h.take(places[0])
}

func (h *Handover) take(place string) *Principal {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.waiting[place]
	delete(h.waiting, place)
	return p
}
