// Package deskapi owns the JSON API behind the agent desk's page: the chats,
// what an agent can do with them, and a stream of changes. It has no
// authentication, for the sandbox is for development only.
package deskapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/autoagent"
	"github.com/axpchat/connector/services/axp-sandbox/internal/media"
	"github.com/axpchat/connector/services/axp-sandbox/internal/reply"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Params is what New needs.
type Params struct {
	World *world.World
	Auto  *autoagent.Agent
	Media *media.Store
	Name  string // of an agent who gives none
	Log   *slog.Logger
	Done  <-chan struct{} // ends the streams
}

// API is safe for concurrent use.
type API struct{ Params }

// New makes the API.
func New(p Params) *API { return &API{p} }

// Register mounts it.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /desk/api/state", func(w http.ResponseWriter, _ *http.Request) { write(w, a.state()) })
	mux.HandleFunc("GET /desk/api/events", a.events)
	mux.HandleFunc("POST /desk/api/auto", a.auto)
	mux.HandleFunc("POST /desk/api/chats/{dialog}/accept", a.accept)
	mux.HandleFunc("POST /desk/api/chats/{dialog}/messages", a.say)
	mux.HandleFunc("POST /desk/api/chats/{dialog}/leave", func(w http.ResponseWriter, r *http.Request) { done(w, a.World.Leave(r.PathValue("dialog"))) })
	mux.HandleFunc("POST /desk/api/chats/{dialog}/end", func(w http.ResponseWriter, r *http.Request) { done(w, a.World.End(r.PathValue("dialog"))) })
}

type state struct {
	AgentName string       `json:"agentName"`
	AutoAgent bool         `json:"autoAgent"`
	Chats     []world.Chat `json:"chats"`
}

func (a *API) state() state {
	return state{AgentName: a.Name, AutoAgent: a.Auto.Enabled(), Chats: a.World.Chats()}
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, http.StatusOK, v)
}

func done(w http.ResponseWriter, refusal *world.Refusal) {
	if refusal != nil {
		reply.Refuse(w, refusal.Status, refusal.Detail)
		return
	}
	write(w, struct{}{})
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(v); err != nil {
		reply.Refuse(w, http.StatusBadRequest, "the body is not JSON")
		return false
	}
	return true
}

func (a *API) auto(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Enabled bool `json:"enabled"`
	}
	if read(w, r, &in) {
		a.Auto.Enable(in.Enabled)
		write(w, a.state())
	}
}

func (a *API) accept(w http.ResponseWriter, r *http.Request) {
	var in struct {
		AgentName string `json:"agentName"`
	}
	if !read(w, r, &in) {
		return
	}
	if in.AgentName == "" {
		in.AgentName = a.Name
	}
	_, refusal := a.World.Accept(r.PathValue("dialog"), in.AgentName)
	done(w, refusal)
}

func (a *API) say(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Text       string `json:"text"`
		TextFormat string `json:"textFormat"`
		Kind       string `json:"kind"`
	}
	if !read(w, r, &in) {
		return
	}
	m, ok := a.compose(in.Kind, in.Text, in.TextFormat, "http://"+r.Host)
	if !ok {
		reply.Refuse(w, http.StatusBadRequest, "unknown kind or format, or no text")
		return
	}
	done(w, a.World.Say(r.PathValue("dialog"), m))
}

// compose makes a message of a kind; text may be empty where there is more.
func (a *API) compose(kind, text, format, origin string) (world.AgentMessage, bool) {
	switch format {
	case "":
		format = "PLAINTEXT"
	case "PLAINTEXT", "HTML", "MARKDOWN":
	default:
		return world.AgentMessage{}, false
	}
	words := func(fallback string) *world.Text {
		if text == "" {
			return &world.Text{Text: fallback, TextFormat: format}
		}
		return &world.Text{Text: text, TextFormat: format}
	}
	attach := func(name, contentType string, data []byte) []map[string]any {
		info, url := a.Media.Add(name, contentType, data, origin)
		return []map[string]any{{"attachmentId": info.MediaID, "name": name, "size": len(data), "contentType": contentType, "url": url}}
	}
	switch kind {
	case "", "text":
		if text == "" {
			return world.AgentMessage{}, false
		}
		return world.AgentMessage{Body: world.Body{ElementType: "text", ElementText: words("")}}, true
	case "image":
		drawn, err := picture()
		if err != nil {
			return world.AgentMessage{}, false
		}
		return world.AgentMessage{
			Body:        world.Body{ElementType: "image", ElementText: words("This is how it looks.")},
			Attachments: attach("tent.png", "image/png", drawn),
		}, true
	case "file":
		return world.AgentMessage{
			Body:        world.Body{ElementType: "file", ElementText: words("The care instructions.")},
			Attachments: attach("care.txt", "text/plain", []byte("Dry the tent before you pack it.\n")),
		}, true
	case "carousel":
		return autoagent.Options(), true
	case "actions":
		return world.AgentMessage{
			FallbackText: "Delivery or collection?",
			Body: world.Body{ElementType: "text", ElementText: words("How would you like to get it?"), RichMediaPayload: map[string]any{"actions": []any{
				map[string]any{"type": "reply", "text": "Delivery", "payload": "DELIVERY"},
				map[string]any{"type": "reply", "text": "Collection", "payload": "COLLECTION"},
				map[string]any{"type": "link", "text": "Our shops", "uri": "https://www.example.com/shops"},
			}}},
		}, true
	case "location":
		return world.AgentMessage{Body: world.Body{ElementType: "location", ElementText: words("Here you find us."), RichMediaPayload: map[string]any{
			"coordinates": map[string]any{"lat": 60.39205, "long": 5.32205},
			"location":    map[string]any{"name": "Harbour shop", "address": "Quay 3, 5003 Bergen"},
		}}}, true
	}
	return world.AgentMessage{}, false
}

const (
	heartbeat  = 15 * time.Second
	maxChanges = 256 // that one page may be behind; then it is told everything anew
)

// events streams changes to the desk's page.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	changes := make(chan world.Chat, maxChanges)
	lost := make(chan struct{}, 1)
	stop := a.World.Watch(func(c world.Chat) {
		to := changes
		if c.DialogID == "" { // everything has changed
			to = nil
		}
		select {
		case to <- c:
		default:
			select {
			case lost <- struct{}{}:
			default:
			}
		}
	})
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	send := func(v any) bool {
		data, err := json.Marshal(v)
		if err != nil {
			a.Log.Error("desk event can't be encoded", "error", err)
			return false
		}
		_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		return err == nil && rc.Flush() == nil
	}
	if !send(map[string]any{"state": a.state()}) {
		return
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for ok := true; ok; {
		select {
		case <-r.Context().Done():
			return
		case <-a.Done:
			return
		case c := <-changes:
			ok = send(map[string]any{"chat": c})
		case <-lost:
			ok = send(map[string]any{"state": a.state()})
		case <-tick.C:
			_, err := fmt.Fprint(w, ": still here\n\n")
			ok = err == nil && rc.Flush() == nil
		}
	}
}
