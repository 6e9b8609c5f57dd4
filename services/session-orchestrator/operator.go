package orchestrator

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/session-orchestrator/internal/erase"
)

// OperatorConfig says whether and where operators are served. The gateway's
// connection must not do: what a stolen gateway could reach must not erase.
type OperatorConfig struct {
	Addr  string        `env:"OPERATOR_ADDR" default:"127.0.0.1:9084" doc:"Address of the operators' service (erasing sessions and customers), of the loopback interface; call it by the command erase beside the service."`
	Token config.Secret `env:"OPERATOR_TOKEN" doc:"What operators must know, at least 32 characters; empty: the operators' service is not served."`
}

// minOperatorToken is more than anybody can guess.
const minOperatorToken = 32

// Validate reports values that can't work.
func (c *OperatorConfig) Validate() []config.Mistake {
	if c.Token == "" {
		return nil
	}
	var ms []config.Mistake
	if len(c.Token.Reveal()) < minOperatorToken {
		ms = append(ms, config.Mistake{Key: "OPERATOR_TOKEN", Problem: fmt.Sprintf("must have at least %d characters", minOperatorToken)})
	}
	host, _, err := net.SplitHostPort(c.Addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		ms = append(ms, config.Mistake{Key: "OPERATOR_ADDR", Problem: "must be an address of the loopback interface, such as 127.0.0.1:9084"})
	}
	return ms
}

// serveOperators binds the operators' address and puts their service on it; nil
// where there is no token.
func (o *Orchestrator) serveOperators(ctx context.Context, p Params, eraser *erase.Eraser) (lifecycle.Component, error) {
	if p.Config.Operator.Token == "" {
		return nil, nil //nolint:nilnil // nothing to serve, and nothing wrong
	}
	cfg := p.Config.GRPC
	cfg.CertFile, cfg.KeyFile, cfg.ClientCAFile = "", "", "" // nobody else hears what is said over loopback
	server, err := grpcx.NewServer(grpcx.ServerParams{
		Log: p.Log, Providers: p.Providers, Config: cfg, Interceptors: []grpcx.Interceptor{operatorsOnly(p.Config.Operator.Token)},
	})
	if err != nil {
		return nil, err
	}
	orchestratorv1.RegisterPrivacyServiceServer(server, erase.NewServer(eraser))
	o.operators, err = (&net.ListenConfig{}).Listen(ctx, "tcp", p.Config.Operator.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on OPERATOR_ADDR: %w", err)
	}
	o.closers.Add("operators' listener", func() error {
		if err := o.operators.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return grpcx.NewServerComponent("operators-grpc", o.operators, server), nil
}

// OperatorAddr is where operators are served; nil: they are not.
func (o *Orchestrator) OperatorAddr() net.Addr {
	if o.operators == nil {
		return nil
	}
	return o.operators.Addr()
}

// operatorsOnly refuses calls without the token.
func operatorsOnly(token config.Secret) grpcx.Interceptor {
	want := sha256.Sum256([]byte(token.Reveal()))
	check := func(ctx context.Context) error {
		values := metadata.ValueFromIncomingContext(ctx, "authorization")
		got := ""
		if len(values) == 1 {
			got, _ = strings.CutPrefix(values[0], "Bearer ")
		}
		// Hashes are of one length, so that the time tells nothing of it.
		if have := sha256.Sum256([]byte(got)); subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "OPERATOR_TOKEN is needed")
		}
		return nil
	}
	return grpcx.Interceptor{
		Name: "operators",
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Enter: func(ctx context.Context, _ string) (context.Context, error) { return ctx, check(ctx) },
	}
}
