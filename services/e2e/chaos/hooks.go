package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// hooks stands before the ingests as a load balancer does, and notes which
// callbacks were answered 200: those AXP will never send again. It is safe for
// concurrent use.
type hooks struct {
	backends []string
	client   *http.Client
	server   *http.Server
	lis      net.Listener
	group    sync.WaitGroup
	next     atomic.Uint64

	mu       sync.Mutex
	accepted map[string]map[string]time.Time // by session, then key
	order    map[string][]string             // keys of a session as they were first accepted
	count    int
	repeats  int // answered 200 for a callback that had one already
	refused  int // attempts that were not answered 200
}

func newHooks(ctx context.Context, backends ...string) (*hooks, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &hooks{
		backends: backends, lis: lis, accepted: map[string]map[string]time.Time{}, order: map[string][]string{},
		client: &http.Client{
			Transport: &http.Transport{MaxIdleConnsPerHost: 32, DialContext: (&net.Dialer{Timeout: dialLimit}).DialContext},
			Timeout:   6 * time.Second, // AXP gives up after five
		},
	}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	h.group.Go(func() { _ = h.server.Serve(lis) }) // ends with close
	return h, nil
}

func (h *hooks) addr() string { return h.lis.Addr().String() }

func (h *hooks) close() {
	_ = h.server.Close() // what is under way is of no interest any more
	h.group.Wait()
	h.client.CloseIdleConnections()
}

// ServeHTTP implements http.Handler.
func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	first := h.next.Add(1)
	status := http.StatusBadGateway
	for i := range h.backends {
		answer, retry := h.forward(r, h.backends[(int(first)+i)%len(h.backends)], body)
		if status = answer; !retry {
			break
		}
	}
	if status == http.StatusOK {
		h.accept(body)
	} else {
		h.mu.Lock()
		h.refused++
		h.mu.Unlock()
	}
	w.WriteHeader(status)
}

// forward passes the call on; retry says that the backend never had it.
func (h *hooks) forward(r *http.Request, backend string, body []byte) (status int, retry bool) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+backend+r.URL.RequestURI(), bytes.NewReader(body)) //nolint:gosec // to our own ingests
	if err != nil {
		return http.StatusBadGateway, false
	}
	req.Header = r.Header.Clone()
	resp, err := h.client.Do(req) //nolint:gosec // to our own ingests
	if err != nil {
		// Whatever broke: the callback may be sent to the other one, for ingests
		// know a repeated event.
		return http.StatusBadGateway, r.Context().Err() == nil
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	return resp.StatusCode, false
}

// callback is what identifies an event of AXP.
type callback struct {
	Type             string `json:"eventType"`
	MessageID        string `json:"messageId"`
	Status           string `json:"status"`
	CorrelationID    string `json:"correlationId"`
	ConnectionID     string `json:"connectionId"`
	ProviderDialogID string `json:"providerDialogId"`
}

func (c callback) key() string {
	if c.Type == "MESSAGES" {
		return "MESSAGES " + c.MessageID + " " + c.Status
	}
	return c.Type + " " + c.ConnectionID + " " + c.CorrelationID
}

func (h *hooks) accept(body []byte) {
	var c callback
	if json.Unmarshal(body, &c) != nil {
		return
	}
	session, _, _ := strings.Cut(c.ProviderDialogID, ".")
	key := c.key()
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.accepted[session]
	if of == nil {
		of = map[string]time.Time{}
		h.accepted[session] = of
	}
	if _, again := of[key]; again {
		h.repeats++
		return
	}
	of[key] = time.Now()
	h.order[session] = append(h.order[session], key)
	h.count++
}

// of returns the keys of a session's accepted callbacks from the n-th on.
func (h *hooks) of(session string, n int) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.order[session][min(n, len(h.order[session])):]
}

func (h *hooks) counts() (accepted, repeats, refused int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count, h.repeats, h.refused
}

// keyOf is the callback that an event was made of; empty where the connector
// made it itself.
func keyOf(e *axpchatv1.Event) string {
	c := callback{CorrelationID: e.GetCorrelationId()}
	switch p := e.GetPayload().(type) {
	case *axpchatv1.Event_EngagementCreated:
		c.Type = "ENGAGEMENT_CREATED"
	case *axpchatv1.Event_EngagementError:
		c.Type = "ENGAGEMENT_ERROR"
	case *axpchatv1.Event_ParticipantAdded:
		c.Type, c.ConnectionID = "PARTICIPANT_ADDED", p.ParticipantAdded.GetParticipant().GetConnectionId()
	case *axpchatv1.Event_ParticipantDisconnected:
		c.Type, c.ConnectionID = "PARTICIPANT_DISCONNECTED", p.ParticipantDisconnected.GetParticipant().GetConnectionId()
	case *axpchatv1.Event_MessageArrived:
		c.Type, c.MessageID, c.Status = "MESSAGES", p.MessageArrived.GetAxpMessageId(), p.MessageArrived.GetAxpStatus()
	case *axpchatv1.Event_MessageDelivered:
		c.Type, c.MessageID, c.Status = "MESSAGES", p.MessageDelivered.GetAxpMessageId(), p.MessageDelivered.GetAxpStatus()
	default:
		return ""
	}
	return c.key()
}
