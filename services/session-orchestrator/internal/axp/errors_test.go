package axp_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func TestErrorsMapToTheCatalogue(t *testing.T) {
	cases := []struct {
		name   string
		fail   axp.Error
		reason axpchatv1.ErrorReason
	}{
		{"400", axp.Error{Status: 400}, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED},
		{"401", axp.Error{Status: 401}, axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS},
		{"403", axp.Error{Status: 403}, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED},
		{"404", axp.Error{Status: 404}, axpchatv1.ErrorReason_ERROR_REASON_AXP_NOT_FOUND},
		{"405", axp.Error{Status: 405}, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED},
		{"408", axp.Error{Status: 408}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"409", axp.Error{Status: 409}, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED},
		{"429", axp.Error{Status: 429}, axpchatv1.ErrorReason_ERROR_REASON_AXP_RATE_LIMITED},
		{"a redirect", axp.Error{Status: 302}, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED},
		{"500", axp.Error{Status: 500}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"503", axp.Error{Status: 503}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"a success that cannot be read", axp.Error{Status: 201, Cause: errors.New("x")}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"the network", axp.Error{Cause: errors.New("connection reset")}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"a time-out of AXP", axp.Error{Cause: axp.ErrTimeout}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"the caller's deadline", axp.Error{Cause: context.DeadlineExceeded}, axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED},
		{"the caller's leaving", axp.Error{Cause: context.Canceled}, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE},
		{"our own mistake", axp.Error{Cause: axp.ErrInvalidRequest}, axpchatv1.ErrorReason_ERROR_REASON_INTERNAL},
		{"400 of the token endpoint", axp.Error{Operation: axp.OpGenerateToken, Status: 400}, axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS},
		{"404 of the token endpoint", axp.Error{Operation: axp.OpGenerateToken, Status: 404}, axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS},
		{"500 of the token endpoint", axp.Error{Operation: axp.OpGenerateToken, Status: 500}, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE},
		{"429 of the token endpoint", axp.Error{Operation: axp.OpGenerateToken, Status: 429}, axpchatv1.ErrorReason_ERROR_REASON_AXP_RATE_LIMITED},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			fail := tc.fail
			if fail.Operation == "" {
				fail.Operation = axp.OpSendMessage
			}
			fail.RetryAfter = 3 * time.Second
			fail.Problem.Detail = "what a customer wrote"
			fail.Problem.Violations = []axp.Violation{{Field: "body.elementText.text", Message: "missing", Code: "20002"}}
			var got *errs.Error
			if !errors.As(error(&fail), &got) {
				t.Fatal("errors.As finds no *errs.Error")
			}
			if got.Reason != tc.reason {
				t.Errorf("got %v, want %v", got.Reason, tc.reason)
			}
			if strings.Contains(got.Detail, "customer wrote") {
				t.Errorf("the detail repeats AXP's: %q", got.Detail)
			}
			if !errors.Is(got, fail.Cause) && fail.Cause != nil {
				t.Error("the cause is lost")
			}
			if errors.Is(fail.Cause, context.DeadlineExceeded) || errors.Is(fail.Cause, context.Canceled) {
				return
			}
			want := []errs.Violation{{Field: "axp.body.elementText.text", Message: "missing", Code: "20002"}}
			if diff := cmp.Diff(want, got.Violations); diff != "" {
				t.Errorf("violations differ (-want +got):\n%s", diff)
			}
			if got.RetryAfter != 3*time.Second {
				t.Errorf("RetryAfter is %v", got.RetryAfter)
			}
		})
	}
}

func TestViolationsDoNotQuoteWhatWasSent(t *testing.T) {
	fail := &axp.Error{Operation: axp.OpCreateSession, Status: 400, Problem: axp.Problem{Violations: []axp.Violation{
		{Message: `value "Ada" and 'Bob' of ada@b.example must match`, Code: "20006"},
	}}}
	want := []errs.Violation{{Field: "axp", Message: "value … and … of … must match", Code: "20006"}}
	if diff := cmp.Diff(want, fail.AsError().Violations); diff != "" {
		t.Errorf("violations differ (-want +got):\n%s", diff)
	}
}

func TestProblemsAreReadLeniently(t *testing.T) {
	full := axp.Problem{
		Type: "https://axp.example/errors/400", Title: "Bad Request", Detail: "Invalid", Instance: "/i",
		Violations: []axp.Violation{{Field: "displayName", Message: "too long", Code: "20006"}},
	}
	cases := []struct {
		name, body string
		want       axp.Problem
	}{
		{"as documented", `{"type":"https://axp.example/errors/400","title":"Bad Request","status":400,"detail":"Invalid","instance":"/i","violations":[{"field":"displayName","message":"too long","code":20006}]}`, full},
		{"status and code as strings", `{"type":"https://axp.example/errors/400","title":"Bad Request","status":"400","detail":"Invalid","instance":"/i","violations":[{"field":"displayName","message":"too long","code":"20006"}]}`, full},
		{"nulls", `{"type":"t","title":null,"status":null,"detail":null,"instance":null,"violations":null}`, axp.Problem{Type: "t"}},
		{"other types", `{"type":5,"title":["x"],"detail":{"a":1},"violations":{"field":"x"}}`, axp.Problem{Type: "5"}},
		{"odd violations", `{"violations":[null,5,"x",{},{"field":null},{"field":"f","code":1.5}]}`,
			axp.Problem{Violations: []axp.Violation{{}, {Field: "f", Code: "1.5"}}}},
		{"OAuth", `{"error":"invalid_client","error_description":"Bad secret"}`, axp.Problem{Title: "invalid_client", Detail: "Bad secret"}},
		{"HTML", `<html><body>Bad gateway</body></html>`, axp.Problem{}},
		{"nothing", ``, axp.Problem{}},
		{"an array", `[1]`, axp.Problem{}},
		{"control characters", `{"title":"a\nlevel=ERROR\u0000b"}`, axp.Problem{Title: "a level=ERROR b"}},
		{"a long text", `{"title":"` + strings.Repeat("ä", 5000) + `"}`, axp.Problem{Title: strings.Repeat("ä", 1024)}},
		{"white space around", "\r\n " + `{"title":"x"}` + " \n", axp.Problem{Title: "x"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakeAXP(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("x-request-id", "req-1")
				w.Header().Set("av-log-id", "log-1")
				answer(w, 400, tc.body)
			})
			_, err := f.client().GetSession(t.Context(), id1)
			e := wantError(t, err)
			if diff := cmp.Diff(tc.want, e.Problem); diff != "" {
				t.Errorf("problem differs (-want +got):\n%s", diff)
			}
			if e.Status != 400 || e.RequestID != "req-1" || e.LogID != "log-1" {
				t.Errorf("got status %d, ids %q and %q", e.Status, e.RequestID, e.LogID)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("the text of the error has control characters: %q", err)
			}
		})
	}
}

func TestWhatIsKnownOfForeignErrors(t *testing.T) {
	err := errors.New("something else")
	if axp.OutcomeOf(err) != axp.Unknown || axp.IsNotFound(err) || axp.IsCredentials(err) || axp.Temporary(err) {
		t.Error("an error from elsewhere must tell nothing but that the outcome is unknown")
	}
	if axp.Unknown.String() != "unknown" || axp.NotApplied.String() != "not applied" {
		t.Error("outcomes have the wrong names")
	}
}
