package axp_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// pager gives messages by pages of the asked size.
func pager(messages []string, total string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("pageSize"))
		number, _ := strconv.Atoi(r.URL.Query().Get("pageNumber"))
		from := min((number-1)*size, len(messages))
		to := min(from+size, len(messages))
		answer(w, 200, fmt.Sprintf(`{"pagination":{"pageNumber":%d,"pageSize":%d,"total":%s},"messages":[%s],"links":{"next":"/wrong"}}`,
			number, size, total, strings.Join(messages[from:to], ",")))
	}
}

func numbered(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf(`{"messageId":"m-%03d","messageIndex":%d}`, i, i))
	}
	return out
}

func ids(messages []axp.Message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, m.MessageID)
	}
	return out
}

func wantIDs(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("m-%03d", i))
	}
	return out
}

func TestListAllMessages(t *testing.T) {
	reversed := numbered(1, 60)
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	cases := []struct {
		name     string
		handler  http.HandlerFunc
		want     []string
		complete bool
		calls    int
	}{
		{"nothing", pager(nil, "0"), nil, true, 1},
		{"one page", pager(numbered(1, 3), "3"), wantIDs(1, 3), true, 1},
		{"several pages until the total", pager(numbered(1, 120), "120"), wantIDs(1, 120), true, 3},
		{"several pages until an empty one, without a total", pager(numbered(1, 100), "null"), wantIDs(1, 100), true, 3},
		{"a total that is a lie ends at the empty page", pager(numbered(1, 2), "7"), wantIDs(1, 2), true, 2},
		{"newest first is put in order", pager(reversed, "60"), wantIDs(1, 60), true, 2},
		{"a message that arrives meanwhile repeats another", inTurn(
			pager(append(numbered(11, 60), numbered(1, 10)...), "60"),
			pager(append(append(numbered(61, 61), numbered(11, 60)...), numbered(1, 10)...), "61"),
			always(200, `{"messages":[]}`),
		), wantIDs(1, 60), true, 3},
		{"the same page for ever", always(200, `{"messages":[`+strings.Join(numbered(1, 2), ",")+`]}`), wantIDs(1, 2), true, 2},
		{"without an index goes last, by time", always(200, `{"pagination":{"total":3},"messages":[
			{"messageId":"b","receivedAt":"2026-03-11T09:00:02Z"},{"messageId":"a","receivedAt":"2026-03-11T09:00:01Z"},{"messageId":"m","messageIndex":9}]}`),
			[]string{"m", "a", "b"}, true, 1},
		{"an endless list is cut", func() http.HandlerFunc {
			n := 0
			return func(w http.ResponseWriter, _ *http.Request) {
				n++
				answer(w, 200, fmt.Sprintf(`{"messages":[{"messageId":"m-%03d","messageIndex":%d}]}`, n, n))
			}
		}(), wantIDs(1, 100), false, 100},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakeAXP(t, tc.handler)
			got, complete, err := f.client().ListAllMessages(t.Context(), id2, id3, id1)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, ids(got)); diff != "" {
				t.Errorf("messages differ (-want +got):\n%s", diff)
			}
			if complete != tc.complete || len(f.calls()) != tc.calls {
				t.Errorf("complete %v after %d calls, want %v after %d", complete, len(f.calls()), tc.complete, tc.calls)
			}
		})
	}
}

func TestListAllMessagesGivesWhatItReadBeforeAnError(t *testing.T) {
	f := newFakeAXP(t, inTurn(pager(numbered(1, 100), "100"), always(404, "")))
	got, complete, err := f.client().ListAllMessages(t.Context(), id2, id3, id1)
	if !axp.IsNotFound(err) || complete || len(got) != 50 {
		t.Errorf("got %d messages, complete %v, %v", len(got), complete, err)
	}
}

func TestMessagesWithoutIdAreAllKept(t *testing.T) {
	f := newFakeAXP(t, always(200, `{"pagination":{"total":2},"messages":[{"status":"SENT"},{"status":"SENT"}]}`))
	got, _, err := f.client().ListAllMessages(t.Context(), id2, id3, id1)
	if err != nil || len(got) != 2 {
		t.Errorf("got %d messages, %v; want 2", len(got), err)
	}
}

func TestWhatIsSent(t *testing.T) {
	f := newFakeAXP(t, always(200, "{}"))
	c := f.client(func(p *axp.Params) { p.Account.ChannelID = "chat" })
	for _, op := range operations() {
		if err := op.call(t.Context(), c); err != nil && !errors.As(err, new(*axp.Error)) {
			t.Fatal(err)
		}
	}
	want := map[string]map[string]any{
		"POST /api/digital/channel/v1/accounts/ABCDEF/sessions": {
			"accountId": "ABCDEF", "channelProviderId": "provider-1", "displayName": "Ada",
			"customerIdentifiers": map[string]any{"emailAddresses": []any{"a@b.example"}},
			"sessionParameters":   map[string]any{"page": "home"}, "providerCustomerId": "c-1", "correlationId": "corr-1",
		},
		"POST /api/digital/channel/v1/accounts/ABCDEF/engagements": {
			"sessionId": id1, "channelId": "chat", "conversation": "bikes", "providerDialogId": "ours",
			"engagementParameters": map[string]any{"k": "v"}, "correlationId": "corr-1",
		},
		"POST /api/digital/channel/v1/accounts/ABCDEF/engagements/" + id2 + ":disconnect": {
			"sessionId": id1, "dialogId": id3, "reason": "USER_CLOSED",
		},
		"POST /api/digital/channel/v1/accounts/ABCDEF/engagements/" + id2 + "/messages": {
			"sessionId": id1, "dialogId": id3, "providerMessageId": "m-1", "fallbackText": "hello", "correlationId": "corr-1",
			"body":       map[string]any{"elementType": "text", "elementText": map[string]any{"text": "hello", "textFormat": "PLAINTEXT"}},
			"headers":    map[string]any{"clientDeviceTag": "web", "providerTimestamp": "2026-03-11T09:00:00.500Z"},
			"customData": map[string]any{"k": "v"},
		},
		"PUT /api/digital/webhook/v1/accounts/ABCDEF/subscriptions/" + id1: {
			"channelProviderId": "provider-1", "callbackUrl": "https://cb.example/webhooks/axp/ABCDEF/k", "eventTypes": []any{"MESSAGES"},
		},
	}
	uris := make(map[string]bool)
	for _, call := range f.calls() {
		at := call.method + " " + call.uri
		uris[at] = true
		if body, ok := want[at]; ok {
			if diff := cmp.Diff(body, decodeJSON(t, call.body)); diff != "" {
				t.Errorf("%s: body differs (-want +got):\n%s", at, diff)
			}
			delete(want, at)
		}
	}
	if len(want) != 0 {
		t.Errorf("not sent: %v", want)
	}
	for _, at := range []string{
		"DELETE /api/digital/channel/v1/accounts/ABCDEF/sessions/" + id1 + "?reason=USER_CLOSED",
		"GET /api/digital/webhook/v1/accounts/ABCDEF/subscriptions?channelProviderId=provider-1",
		"GET /api/digital/channel/v1/accounts/ABCDEF/engagements/" + id2 + "/messages?dialogId=" + id3 + "&pageNumber=1&pageSize=50&sessionId=" + id1,
	} {
		if !uris[at] {
			t.Errorf("not sent: %s", at)
		}
	}
}

// TestAPageOfLongMessagesIsRead: else a message whose sending had no clear
// outcome could never be looked for.
func TestAPageOfLongMessagesIsRead(t *testing.T) {
	long := make([]string, axp.MaxPageSize)
	for i := range long {
		long[i] = fmt.Sprintf(`{"messageId":"m-%03d","messageIndex":%d,"body":{"elementType":"text","elementText":{"text":"%s"},"payload":"%s"}}`,
			i+1, i+1, strings.Repeat(`\u00e9`, 4096), strings.Repeat(`\u00e9`, 4096))
	}
	f := newFakeAXP(t, pager(long, "50"))
	got, complete, err := f.client().ListAllMessages(t.Context(), id2, id3, id1)
	if err != nil || !complete || len(got) != len(long) {
		t.Errorf("got %d messages, complete %v, %v", len(got), complete, err)
	}
}
