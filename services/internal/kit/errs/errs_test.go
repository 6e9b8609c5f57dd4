package errs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const (
	invalidArgument = axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT
	internal        = axpchatv1.ErrorReason_ERROR_REASON_INTERNAL
	unavailable     = axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE
	tooLarge        = axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE
	rateLimited     = axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED
	notFound        = axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND
	deadline        = axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
	sessionClosed   = axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED
)

// reasons lists every reason that may be sent.
func reasons() []axpchatv1.ErrorReason {
	var out []axpchatv1.ErrorReason
	for n := range axpchatv1.ErrorReason_name {
		if r := axpchatv1.ErrorReason(n); r != axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

// overTheWire returns the error as a client receives it.
func overTheWire(t testing.TB, st *status.Status) error {
	t.Helper()
	data, err := proto.Marshal(st.Proto())
	if err != nil {
		t.Fatal(err)
	}
	var p spb.Status
	if err := proto.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	return status.FromProto(&p).Err()
}

func TestCatalogueHasEveryReason(t *testing.T) {
	types := map[string]bool{}
	for _, r := range reasons() {
		// A reason that is missing is answered like INTERNAL.
		if r != internal && errs.Title(r) == errs.Title(internal) {
			t.Errorf("the catalogue lacks %s", r)
			continue
		}
		if errs.Title(r) == "" || errs.Action(r) == "" || strings.Contains(errs.Title(r)+errs.Action(r), "|") {
			t.Errorf("%s: title %q, action %q", r, errs.Title(r), errs.Action(r))
		}
		if c := errs.Code(r); c == codes.OK || c == codes.Unknown || c > codes.Unauthenticated {
			t.Errorf("%s has code %s", r, c)
		}
		if h := errs.HTTPStatus(r); h < 400 || h > 599 {
			t.Errorf("%s has HTTP status %d", r, h)
		}
		if "ERROR_REASON_"+errs.Name(r) != r.String() {
			t.Errorf("%s is called %s", r, errs.Name(r))
		}
		typ := errs.Type(r)
		if !regexp.MustCompile(`^urn:axpchat:error:[a-z]+(-[a-z]+)*$`).MatchString(typ) || types[typ] {
			t.Errorf("%s has type %q", r, typ)
		}
		types[typ] = true
	}
}

func TestUnknownReasonsAreInternal(t *testing.T) {
	for _, r := range []axpchatv1.ErrorReason{0, -1, 9999} {
		if errs.Name(r) != "INTERNAL" || errs.Code(r) != codes.Internal || errs.HTTPStatus(r) != 500 || errs.Retryable(r) {
			t.Errorf("%d is not treated as INTERNAL", r)
		}
	}
}

func TestErrorsSurviveTheWayOverGRPC(t *testing.T) {
	for _, r := range reasons() {
		t.Run(errs.Name(r), func(t *testing.T) {
			sent := errs.New(r, "what went wrong").
				WithViolation("text", "must be short", "string.max_len").
				WithViolation(`customData["k"]`, "key: must be short", "").
				WithRetryAfter(1500 * time.Millisecond).
				WithCause(errors.New("secret"))
			received := overTheWire(t, sent.GRPCStatus())
			if got := status.Code(received); got != errs.Code(r) {
				t.Errorf("code %s, want %s", got, errs.Code(r))
			}
			got := errs.From(fmt.Errorf("call the service: %w", received))
			want := &errs.Error{Reason: r, Detail: sent.Detail, Violations: sent.Violations}
			if errs.Retryable(r) {
				want.RetryAfter = sent.RetryAfter
			}
			if diff := cmp.Diff(want, &errs.Error{Reason: got.Reason, Detail: got.Detail, Violations: got.Violations, RetryAfter: got.RetryAfter}); diff != "" {
				t.Error(diff)
			}
			if !errors.Is(got, sent) || !errs.HasReason(received, r) {
				t.Error("it does not count as the same")
			}
			if strings.Contains(received.Error(), "secret") {
				t.Error("the cause was sent")
			}
		})
	}
}

func TestStatusHasTheDetailsOfTheCatalogue(t *testing.T) {
	st := errs.Status(errs.New(rateLimited, "").WithRetryAfter(time.Second), "req-1")
	var info *errdetails.ErrorInfo
	var request *errdetails.RequestInfo
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RequestInfo:
			request = d
		case *errdetails.BadRequest:
			t.Error("there are no violations to tell")
		}
	}
	if info.GetDomain() != errs.Domain || info.GetReason() != "RATE_LIMITED" ||
		info.GetMetadata()["retryable"] != "true" || info.GetMetadata()["action"] != errs.Action(rateLimited) {
		t.Errorf("got %v", info)
	}
	if request.GetRequestId() != "req-1" {
		t.Errorf("got %v", request)
	}
	if st.Message() != errs.Title(rateLimited) {
		t.Errorf("without a detail the title is told, not %q", st.Message())
	}
}

func foreign(t testing.TB) error {
	t.Helper()
	st, err := status.New(codes.Unavailable, "their text").WithDetails(&errdetails.ErrorInfo{Domain: "elsewhere.example", Reason: "SESSION_CLOSED"})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func newer(t testing.TB) error {
	t.Helper()
	st, err := status.New(codes.NotFound, "new").WithDetails(&errdetails.ErrorInfo{Domain: errs.Domain, Reason: "FUTURE_NOT_FOUND"})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func TestFromRecognises(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		reason axpchatv1.ErrorReason
		detail string
	}{
		{"an error in a chain", fmt.Errorf("a: %w", errs.New(sessionClosed, "gone")), sessionClosed, "gone"},
		{"an error among joined ones", errors.Join(io.EOF, errs.New(sessionClosed, "gone")), sessionClosed, "gone"},
		{"the end of a deadline", fmt.Errorf("a: %w", context.DeadlineExceeded), deadline, ""},
		{"the end of a deadline for reading", fmt.Errorf("a: %w", os.ErrDeadlineExceeded), deadline, ""},
		{"a cancelled context", context.Canceled, unavailable, "the call was cancelled"},
		{"anything else", errors.New("dial tcp 10.0.0.1:4222: refused"), internal, ""},
		{"a nil error of the type", (*errs.Error)(nil), internal, ""},
		{"a body over the limit", &http.MaxBytesError{Limit: 10}, tooLarge, "the body is larger than 10 bytes"},
		{"a dead peer", status.Error(codes.Unavailable, "connection error: dial tcp 10.0.0.1:8083"), unavailable, ""},
		{"an unknown method", status.Error(codes.Unimplemented, "unknown service x"), notFound, ""},
		{"a message over the limit", status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), tooLarge, ""},
		{"a limit of a proxy", status.Error(codes.ResourceExhausted, "slow down"), rateLimited, ""},
		{"malformed JSON", status.Error(codes.InvalidArgument, "proto: syntax error (line 1:2)"), invalidArgument, "proto: syntax error (line 1:2)"},
		{"a body over the limit in JSON", status.Error(codes.InvalidArgument, "http: request body too large"), tooLarge, ""},
		{"the deadline of gRPC", status.Error(codes.DeadlineExceeded, "context deadline exceeded"), deadline, ""},
		{"a call that was cancelled", status.Error(codes.Canceled, "context canceled"), unavailable, ""},
		{"a refusal by a proxy", status.Error(codes.PermissionDenied, "no"), axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, ""},
		{"a fault without a reason", status.Error(codes.Unknown, "open /etc/secret"), internal, ""},
		{"a status OK inside an error", okError{}, internal, ""},
		{"a reason of another domain", foreign(t), unavailable, ""},
		{"a reason of a newer version", newer(t), notFound, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := errs.From(c.err)
			if got.Reason != c.reason || got.Detail != c.detail {
				t.Errorf("got %s %q, want %s %q", got.Reason, got.Detail, c.reason, c.detail)
			}
			var own *errs.Error
			if !errors.As(c.err, &own) && !errors.Is(got, c.err) {
				t.Error("the cause is lost")
			}
		})
	}
	if errs.From(nil) != nil {
		t.Error("no error must stay no error")
	}
}

type okError struct{}

func (okError) Error() string              { return "odd" }
func (okError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

func TestFromTranslatesBrokenRules(t *testing.T) {
	err := protovalidate.Validate(&axpchatv1.CreateSessionRequest{
		DisplayName:         strings.Repeat("x", 71),
		CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{"emailAddresses": {Values: []string{"a@b", ""}}},
		SessionParameters:   map[string]string{strings.Repeat("k", 65): "v"},
	})
	got := errs.From(fmt.Errorf("validate: %w", err))
	if got.Reason != invalidArgument {
		t.Fatalf("got %v", got)
	}
	key := strings.Repeat("k", 65)
	want := []errs.Violation{
		{Field: "displayName", Message: "must be at most 70 characters", Code: "string.max_len"},
		{Field: `customerIdentifiers["emailAddresses"].values[1]`, Message: "must be at least 1 characters", Code: "string.min_len"},
		{Field: `sessionParameters["` + key + `"]`, Message: "key: must be at most 64 characters", Code: "string.max_len"},
	}
	if diff := cmp.Diff(want, got.Violations); diff != "" {
		t.Error(diff)
	}
}

func TestCopiesDoNotShareViolations(t *testing.T) {
	base := errs.New(invalidArgument, "").WithViolation("a", "m", "c")
	one, two := base.WithViolation("one", "m", "c"), base.WithViolation("two", "m", "c")
	if len(base.Violations) != 1 || one.Violations[1].Field != "one" || two.Violations[1].Field != "two" {
		t.Errorf("got %v, %v, %v", base.Violations, one.Violations, two.Violations)
	}
	if base.WithRetryAfter(time.Second); base.RetryAfter != 0 {
		t.Error("the original was changed")
	}
}

func TestTextForTheLogHasTheCauseAndNoTextOfViolations(t *testing.T) {
	err := errs.Newf(unavailable, "store %d", 1).WithCause(errors.New("timeout")).WithViolation("text", "Hello", "too_long")
	if got, want := err.Error(), "UNAVAILABLE: store 1; text: too_long: timeout"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProblemOfFrames(t *testing.T) {
	err := errs.New(rateLimited, "slow down").WithRetryAfter(1500*time.Microsecond).WithViolation("f", "m", "c")
	want := &axpchatv1.Problem{
		Reason: rateLimited, Code: int32(codes.ResourceExhausted), Detail: "slow down", Retryable: true, RetryAfterMs: 2,
		Violations: []*axpchatv1.FieldViolation{{Field: "f", Message: "m", Code: "c"}}, RequestId: "req-1",
	}
	if got := errs.ToProblem(err, "req-1"); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := errs.ToProblem(errors.New("secret"), ""); got.GetReason() != internal || strings.Contains(got.String(), "secret") {
		t.Errorf("got %v", got)
	}
	if got := errs.ToProblem(nil, ""); got.GetReason() != internal {
		t.Errorf("got %v", got)
	}
}

func TestProblemJSON(t *testing.T) {
	err := errs.New(invalidArgument, "look at the fields").WithViolation("text", "must be short", "string.max_len").WithRetryAfter(2 * time.Second)
	code, body := errs.MarshalProblem(err, "req-1", "/v1/sessions")
	want := `{"type":"urn:axpchat:error:invalid-argument","title":"The request breaks a rule","status":400,` +
		`"detail":"look at the fields","instance":"/v1/sessions","reason":"INVALID_ARGUMENT",` +
		`"action":"Correct the fields that the violations name; the same request fails again.","retryable":false,` +
		`"violations":[{"field":"text","message":"must be short","code":"string.max_len"}],"requestId":"req-1"}` + "\n"
	if code != 400 || string(body) != want {
		t.Errorf("got %d %s", code, cmp.Diff(want, string(body)))
	}
}

func TestEveryReasonIsTheSameOnAllTransports(t *testing.T) {
	for _, r := range reasons() {
		err := errs.New(r, "text").WithViolation("f", "m", "c")
		var body struct {
			Status            int
			Detail, Reason    string
			Retryable         bool
			Title, Type       string
			Action, RequestID string
		}
		code, data := errs.MarshalProblem(err, "id", "")
		if jsonErr := json.Unmarshal(data, &body); jsonErr != nil {
			t.Fatal(jsonErr)
		}
		frame, back := errs.ToProblem(err, "id"), errs.From(overTheWire(t, err.GRPCStatus()))
		if code != body.Status || body.Reason != errs.Name(r) || frame.GetReason() != r || back.Reason != r ||
			body.Detail != frame.GetDetail() || back.Detail != body.Detail || body.Retryable != frame.GetRetryable() ||
			codes.Code(frame.GetCode()) != errs.Code(r) || body.Type != errs.Type(r) || body.Title != errs.Title(r) {
			t.Errorf("%s: %s and %v", r, data, frame)
		}
	}
}

func TestNothingOversizedOrBrokenIsSent(t *testing.T) {
	err := errs.New(invalidArgument, "bad \xff byte "+strings.Repeat("€", 2000))
	for range 100 {
		err = err.WithViolation(`customData["`+strings.Repeat("ä", 5000)+`"]`, strings.Repeat("m\xff", 5000), "c")
	}
	st := errs.Status(err, strings.Repeat("r", 5000))
	if size := proto.Size(st.Proto()); size > 16<<10 {
		t.Errorf("the status has %d bytes", size)
	}
	if len(st.Details()) != 3 {
		t.Errorf("details are missing: %v", st.Details())
	}
	got := errs.From(overTheWire(t, st))
	if len(got.Violations) != 20 || !utf8.ValidString(got.Detail) || !strings.HasSuffix(got.Detail, "…") {
		t.Errorf("got %d violations, detail %q", len(got.Violations), got.Detail)
	}
	if _, body := errs.MarshalProblem(err, "", strings.Repeat("/x", 5000)); len(body) > 16<<10 || !json.Valid(body) {
		t.Errorf("the problem has %d bytes", len(body))
	}
}

// TestNobodyIsToldToWaitForWhatCannotSucceed: what is not retryable has no waiting
// time, on whatever transport.
func TestNobodyIsToldToWaitForWhatCannotSucceed(t *testing.T) {
	for _, r := range reasons() {
		err := errs.New(r, "x").WithRetryAfter(3 * time.Second)
		_, body := errs.MarshalProblem(err, "", "/")
		var rest struct{ RetryAfterMs int64 }
		if err := json.Unmarshal(body, &rest); err != nil {
			t.Fatal(err)
		}
		told := []int64{rest.RetryAfterMs, errs.ToProblem(err, "").GetRetryAfterMs(), 1000 * errs.RetryAfterSeconds(err), errs.From(err.GRPCStatus().Err()).RetryAfter.Milliseconds()}
		want := int64(0)
		if errs.Retryable(r) {
			want = 3000
		}
		if !cmp.Equal(told, []int64{want, want, want, want}) {
			t.Errorf("%s, retryable %v: told to wait %v ms", errs.Name(r), errs.Retryable(r), told)
		}
	}
	if errs.Retryable(axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS) {
		t.Error("what an operator must mend is told to be repeated")
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]int64{0: 0, -time.Second: 0, 1: 1, time.Second: 1, 1001 * time.Millisecond: 2} {
		if got := errs.RetryAfterSeconds(errs.New(rateLimited, "").WithRetryAfter(d)); got != want {
			t.Errorf("%s gives %d, want %d", d, got, want)
		}
	}
	if errs.RetryAfterSeconds(nil) != 0 {
		t.Error("no error, no advice")
	}
}

func TestBodyOverTheLimitIsRecognised(t *testing.T) {
	w := httptest.NewRecorder()
	_, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(strings.NewReader("too much")), 3))
	if got := errs.From(err); got.Reason != tooLarge {
		t.Errorf("got %v", got)
	}
}

func TestWriteCatalogueListsEveryReason(t *testing.T) {
	var b bytes.Buffer
	if err := errs.WriteCatalogue(&b); err != nil {
		t.Fatal(err)
	}
	for _, r := range reasons() {
		if !strings.Contains(b.String(), "\n| `"+errs.Name(r)+"` | ") {
			t.Errorf("%s is missing", r)
		}
	}
	if err := errs.WriteCatalogue(broken{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestJSONName(t *testing.T) {
	for name, want := range map[string]string{"text": "text", "custom_data": "customData", "a_1b": "a1b", "_x": "X", "": ""} {
		if got := errs.JSONName(name); got != want {
			t.Errorf("%q gives %q, want %q", name, got, want)
		}
	}
}

// FuzzFromStatus makes sure that nothing a peer sends breaks the translation or
// grows on its way through.
func FuzzFromStatus(f *testing.F) {
	for _, r := range reasons() {
		data, err := proto.Marshal(errs.New(r, "x").WithViolation("f", "m", "c").WithRetryAfter(1).GRPCStatus().Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p spb.Status
		if proto.Unmarshal(data, &p) != nil || p.GetCode() == 0 {
			return
		}
		first := errs.From(status.FromProto(&p).Err())
		second := errs.From(overTheWire(t, first.GRPCStatus()))
		_, before := errs.MarshalProblem(first, "", "")
		_, after := errs.MarshalProblem(second, "", "")
		if diff := cmp.Diff(string(before), string(after)); diff != "" {
			t.Error(diff)
		}
	})
}
