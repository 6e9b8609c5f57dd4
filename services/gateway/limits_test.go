package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const rateLimited = axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED

// limitedAnswer asks for a session over REST, for the customer, as if from an
// address, and returns what the answer says of limits.
func limitedAnswer(t *testing.T, s *suite, tok, address string) (code int, reason string, retryAfter time.Duration) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("s1", ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok)
	if address != "" {
		req.Header.Set("X-Forwarded-For", address)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct {
		Reason       string
		RetryAfterMs int64
		Retryable    bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusTooManyRequests {
		return resp.StatusCode, problem.Reason, 0
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	wait := time.Duration(problem.RetryAfterMs) * time.Millisecond
	if err != nil || !problem.Retryable || wait <= 0 || time.Duration(seconds)*time.Second < wait || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("Retry-After %q, %s, %+v", resp.Header.Get("Retry-After"), resp.Header.Get("Content-Type"), problem)
	}
	return resp.StatusCode, problem.Reason, wait
}

// TestCallsAreLimitedOnEveryWay: who asks too much is told how long to wait, over
// gRPC and REST alike, out of one budget, and nobody else is.
func TestCallsAreLimitedOnEveryWay(t *testing.T) {
	s := start(t, map[string]string{"LIMIT_CUSTOMER_FRAMES": "6/1h", "LIMIT_CUSTOMER_SESSIONS": "1/1h"})
	client, ctx := axpchatv1.NewChatServiceClient(s.grpc), bearer(t.Context(), token(t, subject, nil))
	for range 2 {
		if _, err := client.GetSession(ctx, &axpchatv1.GetSessionRequest{SessionId: "s1"}); status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		if code, reason, _ := limitedAnswer(t, s, token(t, subject, nil), ""); code != http.StatusNotFound {
			t.Fatal(code, reason)
		}
	}
	create := func() error {
		_, err := client.CreateSession(ctx, &axpchatv1.CreateSessionRequest{})
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	if err := create(); !errs.HasReason(err, rateLimited) || !strings.Contains(err.Error(), "sessions of one customer") {
		t.Fatalf("a second session: %v", err)
	}
	if _, err := client.GetSession(ctx, &axpchatv1.GetSessionRequest{SessionId: "s1"}); status.Code(err) != codes.NotFound {
		t.Fatalf("what was refused has cost something: %v", err)
	}
	_, err := client.GetSession(ctx, &axpchatv1.GetSessionRequest{SessionId: "s1"})
	wait := time.Duration(0)
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			wait = info.GetRetryDelay().AsDuration()
		}
	}
	if status.Code(err) != codes.ResourceExhausted || wait < 9*time.Minute || wait > 10*time.Minute {
		t.Fatalf("got %v, to be repeated in %s", err, wait)
	}
	if code, reason, wait := limitedAnswer(t, s, token(t, subject, nil), ""); reason != "RATE_LIMITED" || wait < 9*time.Minute {
		t.Fatal(code, reason, wait)
	}
	if code, reason, _ := limitedAnswer(t, s, token(t, other, nil), ""); code != http.StatusNotFound {
		t.Fatalf("another customer: %d %s", code, reason)
	}
	if code, reason, _ := limitedAnswer(t, s, token(t, subject, func(c jwt.MapClaims) { c["account"] = "ZZZZZZ" }), ""); code != http.StatusNotFound {
		t.Fatalf("a customer of that name in another account: %d %s", code, reason)
	}
}

// TestAnAddressIsLimitedBeforeAnythingElse: bad tokens count, over every way in,
// and what somebody says of where he comes from is believed of our proxies alone.
func TestAnAddressIsLimitedBeforeAnythingElse(t *testing.T) {
	t.Run("straight", func(t *testing.T) {
		s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "3/1h"})
		for i, want := range []int{401, 401, 401, 429, 429} {
			if code, reason, _ := limitedAnswer(t, s, "rubbish", fmt.Sprint("203.0.113.", i)); code != want {
				t.Fatalf("request %d: %d %s, want %d", i, code, reason, want)
			}
		}
		// Neither gRPC nor a stream is another way.
		for _, tr := range transports() {
			f, err := tr.open(t.Context(), s, token(t, subject, nil), "s1", "")
			if err == nil {
				_, err = f.next()
				f.leave()
			}
			if err == nil {
				t.Errorf("%s is another way in", tr.name)
			} else if !errs.HasReason(err, rateLimited) && !strings.Contains(err.Error(), "429") {
				t.Errorf("%s: %v", tr.name, err)
			}
		}
	})
	t.Run("behind a proxy", func(t *testing.T) {
		s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "3/1h", "GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8"})
		for i, want := range []int{401, 401, 401, 429} {
			if code, reason, _ := limitedAnswer(t, s, "rubbish", "1.1.1.1, 2001:db8::"+strconv.Itoa(i)); code != want {
				t.Fatalf("request %d: %d %s, want %d", i, code, reason, want)
			}
		}
		if code, reason, _ := limitedAnswer(t, s, "rubbish", "2001:db8:0:1::1"); code != http.StatusUnauthorized {
			t.Fatalf("the next network: %d %s", code, reason)
		}
		ctx := metadata.AppendToOutgoingContext(bearer(t.Context(), token(t, subject, nil)), "x-forwarded-for", "2001:db8::9")
		_, err := axpchatv1.NewChatServiceClient(s.grpc).GetSession(ctx, &axpchatv1.GetSessionRequest{SessionId: "s1"})
		if !errs.HasReason(err, rateLimited) {
			t.Fatalf("over gRPC: %v", err)
		}
		// A stranger can't bring an origin of his own making.
		ctx = metadata.AppendToOutgoingContext(ctx, "axpchat-origin", "1-1")
		if _, err := axpchatv1.NewChatServiceClient(s.grpc).GetSession(ctx, &axpchatv1.GetSessionRequest{SessionId: "s1"}); !errs.HasReason(err, rateLimited) {
			t.Fatalf("with an origin of his own: %v", err)
		}
	})
}

// TestPagesAreLimitedWithTheAPI: by address, out of one budget; and a person who opens
// the web chat again and again comes nowhere near the limit.
func TestPagesAreLimitedWithTheAPI(t *testing.T) {
	load := func(s *suite, path string) int {
		a := s.call(http.MethodGet, s.base+path, "", "")
		if a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") == "" {
			t.Errorf("%s: nothing says when to come back", path)
		}
		return a.status
	}
	paths := []string{"/", "/config.json", "/docs", "/docs/docs.js", "/openapi.yaml", "/nothing"}
	s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "3/1h"})
	for i := range 3 {
		if code := load(s, paths[i]); code == http.StatusTooManyRequests {
			t.Fatalf("page %d: %d", i, code)
		}
	}
	for _, path := range paths {
		if code := load(s, path); code != http.StatusTooManyRequests {
			t.Errorf("%s: %d, want 429", path, code)
		}
	}
	if code, reason, _ := limitedAnswer(t, s, token(t, subject, nil), ""); code != http.StatusTooManyRequests {
		t.Errorf("the API: %d %s", code, reason)
	}
	s = start(t, nil)
	page := s.call(http.MethodGet, s.base+"/", "", "").body
	parts := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(parts) < 2 {
		t.Fatalf("a page of %d parts: %s", len(parts), page)
	}
	for i := range 50 {
		for _, part := range append(parts, []string{"", "/"}) {
			if code := load(s, part[1]); code != http.StatusOK {
				t.Fatalf("%s, the %d. time: %d", part[1], i, code)
			}
		}
	}
}

// TestTooManyStreams are refused with the time to come back, on every transport;
// one that ends makes room.
func TestTooManyStreams(t *testing.T) {
	for i, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			s := start(t, map[string]string{"LIMIT_SESSION_STREAMS": "1", "LIMIT_CUSTOMER_CONNECTS": "6/1h"})
			session := fmt.Sprint("full-", i)
			s.session(session)
			s.say(session, "0", "")
			tok := token(t, subject, nil)
			held := mustOpen(t, s, transports()[1], tok, session, "")
			wantEvent(t, held, "0")
			wantRefusal(t, s, tr, tok, session, "", rateLimited, axpchatv1.CloseCode_CLOSE_CODE_RATE_LIMITED)
			held.leave()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for { // until the server has noticed
				f, err := tr.open(ctx, s, tok, session, "")
				if err == nil {
					if _, err = f.next(); err == nil {
						f.leave()
						break
					}
					f.leave()
				}
				if ctx.Err() != nil {
					t.Fatal("no place was given back")
				}
			}
		})
	}
}

// TestFramesAreLimitedOnStreams: a frame over the limit is answered with the time
// to wait and not carried out; a client that goes on is closed, to come back later.
func TestFramesAreLimitedOnStreams(t *testing.T) {
	for i, tr := range transports() {
		if !tr.twoWay {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			s := start(t, map[string]string{"LIMIT_SESSION_MESSAGES": "2/1h"})
			session := fmt.Sprint("frames-", i)
			s.session(session)
			f, ok := mustOpen(t, s, tr, token(t, subject, nil), session, "").(speaker)
			if !ok {
				t.Fatal("not two-way")
			}
			send := func(id string) {
				t.Helper()
				err := f.say(&axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_SendMessage{
					SendMessage: &axpchatv1.SendMessageRequest{EngagementId: "e-" + session, ClientMessageId: session + id, Text: "hi"},
				}})
				if err != nil {
					t.Fatal(err)
				}
			}
			for n := range 2 {
				send(fmt.Sprint(n))
				if r := wantReply(t, f, fmt.Sprint(n)); r.GetProblem() != nil {
					t.Fatalf("reply %v", r)
				}
			}
			send("2")
			p := wantReply(t, f, "2").GetProblem()
			if p.GetReason() != rateLimited || p.GetRetryAfterMs() < 29*60*1000 || !p.GetRetryable() {
				t.Fatalf("problem %v", p)
			}
			if err := f.say(&axpchatv1.ConnectRequest{FrameId: "ping", Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}}); err != nil {
				t.Fatal(err)
			}
			want(t, f, "pong", func(r *axpchatv1.ConnectResponse) (bool, bool) { return true, r.GetPong().GetFrameId() == "ping" })
			for n := range 100 {
				send(fmt.Sprint("wild-", n))
			}
			var last *axpchatv1.ConnectResponse
			for frame, err := f.next(); err == nil; frame, err = f.next() {
				last = frame
			}
			c := last.GetClose()
			if c.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_RATE_LIMITED || !c.GetReconnect() || c.GetRetryAfterMs() < 29*60*1000 {
				t.Fatalf("the last frame is %v", last)
			}
			if n := len(s.orchestrator.sentIDs()); n != 2 {
				t.Fatalf("%d messages were sent", n)
			}
		})
	}
}

// TestAccountsAreLimitedAcrossGateways: what one gateway has given the other one
// does not give again.
func TestAccountsAreLimitedAcrossGateways(t *testing.T) {
	server := bustest.Server(t)
	const limit, rounds = 60, 6
	env := map[string]string{"LIMIT_ACCOUNT_FRAMES": strconv.Itoa(limit) + "/1h"}
	first, second := startOn(t, bustest.Connect(t, server, bustest.Config()), env), startOn(t, bustest.Connect(t, server, bustest.Config()), env)
	tok := token(t, subject, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ask := func(s *suite) error {
		_, err := axpchatv1.NewChatServiceClient(s.grpc).GetSession(bearer(ctx, tok), &axpchatv1.GetSessionRequest{SessionId: "s1"})
		return err
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	given := 0
	for range rounds { // they get to know each other
		if errs.HasReason(ask(first), rateLimited) || errs.HasReason(ask(second), rateLimited) {
			t.Fatal("limited already")
		}
		given += 2
		<-tick.C
	}
	for !errs.HasReason(ask(second), rateLimited) { // it asks a little, the other one much
		given++
		for range 10 {
			if !errs.HasReason(ask(first), rateLimited) {
				given++
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d were given, and there is no end", given)
		}
	}
	// Alone each would have given all of it.
	if given < limit || given > limit+limit/4 {
		t.Fatalf("%d were given, want %d and what was given before it was heard of", given, limit)
	}
}
