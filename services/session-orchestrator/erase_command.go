package orchestrator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// errNotDone is the end of a command that the service goes on with by itself.
var errNotDone = errors.New("it is not done yet: the service goes on by itself; repeat the command to see how far it is")

// maxSubjectLine is more than any subject has, in bytes.
const maxSubjectLine = 4 << 10

const eraseUsage = `Usage:
  %[1]s erase -account ABCDEF -session SESSION [-force]
  %[1]s erase -account ABCDEF -customer -       [-force]   (reads the subject from the standard input)

Erases what the running service keeps of a session, or of every session of a
customer, and prints the proof as JSON: what was erased, by kind and number, and
what was found after that. OPERATOR_ADDR and OPERATOR_TOKEN must be those of the
service. It is safe to repeat. The exit code is 0 when nothing is left.

`

// EraseCommand is the subcommand erase. cfg is the command's whole configuration,
// which is loaded, and operator the part of it that says where the service is.
func EraseCommand(ctx context.Context, env lifecycle.Env, stdin io.Reader, cfg any, operator *OperatorConfig) lifecycle.Subcommand {
	return lifecycle.Subcommand{
		Name: "erase", Help: "erase a session or a customer from the running service; erase -help says how", Args: true,
		Run: func() error {
			order, err := readOrder(env, stdin)
			if errors.Is(err, flag.ErrHelp) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := config.Load(cfg, env.Sources); err != nil {
				return err
			}
			if operator.Token == "" {
				return config.Errors{{Key: "OPERATOR_TOKEN", Problem: "is required: the service must have been started with it, too"}}
			}
			return callErase(ctx, env.Stdout, *operator, order)
		},
	}
}

// readOrder reads the arguments, and the subject where it is not among them.
func readOrder(env lifecycle.Env, stdin io.Reader) (eraseOrder, error) {
	var o eraseOrder
	flags := flag.NewFlagSet(env.Name+" erase", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.StringVar(&o.account, "account", "", "AXP `account` (six letters)")
	flags.StringVar(&o.session, "session", "", "the connector's `session` to erase")
	flags.StringVar(&o.customer, "customer", "", "the customer's `subject`, or - to read it from the standard input, so that it is in no list of processes")
	flags.BoolVar(&o.force, "force", false, "erase even where AXP can't be told that a session is over")
	flags.Usage = func() {
		_, _ = fmt.Fprintf(env.Stderr, eraseUsage, env.Name)
		flags.PrintDefaults()
	}
	if err := flags.Parse(env.Args[1:]); err != nil {
		return o, err
	}
	if o.account == "" || (o.session == "") == (o.customer == "") || flags.NArg() > 0 {
		return o, fmt.Errorf("erase needs -account and either -session or -customer; try %s erase -help", env.Name)
	}
	if o.customer == "-" {
		line, err := io.ReadAll(io.LimitReader(stdin, maxSubjectLine))
		if err != nil {
			return o, fmt.Errorf("read the subject: %w", err)
		}
		o.customer = strings.TrimRight(string(line), "\r\n")
	}
	return o, nil
}

type eraseOrder struct {
	account, session, customer string
	force                      bool
}

func callErase(ctx context.Context, out io.Writer, c OperatorConfig, o eraseOrder) error {
	conn, err := grpc.NewClient("passthrough:///"+c.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("reach the service: %w", err)
	}
	defer func() { _ = conn.Close() }() // it is over in any case
	client := orchestratorv1.NewPrivacyServiceClient(conn)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.Token.Reveal())
	var (
		answer proto.Message
		done   bool
	)
	if o.session != "" {
		resp, callErr := client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: o.account, SessionId: o.session, Force: o.force})
		answer, done, err = resp, resp.GetErasure().GetDone(), callErr
	} else {
		resp, callErr := client.EraseCustomer(ctx, &orchestratorv1.EraseCustomerRequest{Account: o.account, Subject: o.customer, Force: o.force})
		answer, done, err = resp, resp.GetDone(), callErr
	}
	if err != nil {
		e := errs.From(err)
		return fmt.Errorf("erase: %s: %s", errs.Name(e.Reason), e.Detail)
	}
	text, err := protojson.MarshalOptions{Multiline: true, EmitDefaultValues: true}.Marshal(answer)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s\n", text); err != nil {
		return err
	}
	if !done {
		return errNotDone
	}
	return nil
}
