package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	"github.com/axpchat/connector/services/gateway/internal/stream/streamtest"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// orchestrator is a connection to one that does all that it is told, and notes
// what should not have come to it.
type orchestrator struct {
	validator *grpcx.Validator

	mu    sync.Mutex
	wrong error
}

// fault is what should not have come since it was asked last.
func (o *orchestrator) fault() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	wrong := o.wrong
	o.wrong = nil
	return wrong
}

// Invoke implements grpc.ClientConnInterface.
func (o *orchestrator) Invoke(_ context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	in, out := args.(proto.Message).ProtoReflect(), reply.(proto.Message).ProtoReflect()
	asks := in.Descriptor().Fields()
	caller, _ := in.Get(asks.ByName("caller")).Message().Interface().(*orchestratorv1.Caller)
	request := in.Get(asks.ByName("request")).Message().Interface()
	out.Mutable(out.Descriptor().Fields().ByName("response"))
	err := o.validator.Validate(request)
	of, ok := request.(interface{ GetSessionId() string })
	if err != nil || !ok || of.GetSessionId() != streamtest.Session || caller.GetAccount() != account || caller.GetSubject() != customer {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.wrong = fmt.Errorf("%s is called by %v with %v: %w", method, caller, request, err)
	}
	return nil
}

// NewStream implements grpc.ClientConnInterface.
func (o *orchestrator) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no frame needs a stream")
}
