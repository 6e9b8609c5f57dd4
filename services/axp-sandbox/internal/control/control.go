// Package control owns the API by which tests look into the sandbox and make
// things go wrong: state, recorded calls, faults. It changes nothing that AXP's
// own API shows, but on request.
package control

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/api"
	"github.com/axpchat/connector/services/axp-sandbox/internal/autoagent"
	"github.com/axpchat/connector/services/axp-sandbox/internal/webhooks"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Params is what Register needs.
type Params struct {
	World *world.World
	Hooks *webhooks.Hooks
	API   *api.API
	Auto  *autoagent.Agent
}

type webhookFault struct {
	Kind    string `json:"kind"`
	Count   int    `json:"count"`
	DelayMs int    `json:"delayMs"`
	Type    string `json:"eventType"`
}

// Register mounts the control API.
func Register(mux *http.ServeMux, p Params) {
	mux.HandleFunc("GET /control/state", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{
			"sessions": p.World.Sessions(), "chats": p.World.Chats(), "subscriptions": p.Hooks.List(""),
			"webhooks": p.Hooks.Stats(), "autoAgent": p.Auto.Enabled(),
		})
	})
	mux.HandleFunc("GET /control/calls", func(w http.ResponseWriter, r *http.Request) { write(w, p.API.Calls(r.URL.Query().Get("operation"))) })
	mux.HandleFunc("POST /control/faults", func(w http.ResponseWriter, r *http.Request) {
		var f api.Fault
		if !read(w, r, &f) {
			return
		}
		switch f.Kind {
		case "latency", "resetBefore", "resetAfter":
		case "status":
			if f.Status < 400 || f.Status > 599 {
				refuse(w, "status must be 400 to 599")
				return
			}
		default:
			refuse(w, "kind must be latency, status, resetBefore or resetAfter")
			return
		}
		p.API.Inject(f)
		write(w, f)
	})
	mux.HandleFunc("POST /control/webhook-faults", func(w http.ResponseWriter, r *http.Request) {
		var f webhookFault
		if !read(w, r, &f) {
			return
		}
		switch f.Kind {
		case "duplicate", "delay", "reorder", "swallow":
			p.Hooks.Inject(webhooks.Fault{Kind: f.Kind, Count: max(f.Count, 1), Delay: time.Duration(f.DelayMs) * time.Millisecond, Type: f.Type})
			write(w, f)
		default:
			refuse(w, "kind must be duplicate, delay, reorder or swallow")
		}
	})
	mux.HandleFunc("DELETE /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		p.API.Heal()
		p.Hooks.Heal()
		write(w, struct{}{})
	})
	mux.HandleFunc("POST /control/tokens/revoke", func(w http.ResponseWriter, _ *http.Request) {
		p.API.RevokeTokens()
		write(w, struct{}{})
	})
	mux.HandleFunc("POST /control/emit", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
		if err != nil || !json.Valid(body) {
			refuse(w, "the body is not JSON")
			return
		}
		write(w, map[string]int{"subscriptions": p.Hooks.EmitRaw(body)})
	})
	mux.HandleFunc("POST /control/reset", func(w http.ResponseWriter, _ *http.Request) {
		p.World.Reset()
		p.API.Forget()
		p.Hooks.Heal()
		write(w, struct{}{})
	})
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(v); err != nil {
		refuse(w, "the body is not JSON")
		return false
	}
	return true
}

func refuse(w http.ResponseWriter, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": "Bad Request", "status": http.StatusBadRequest, "detail": detail}) // the caller has gone otherwise
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller has gone otherwise
}
