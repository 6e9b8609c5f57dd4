// Package control owns the API by which tests look into the sandbox and make
// things go wrong: state, recorded calls and callbacks, faults. It changes
// nothing that AXP's own API shows, but on request.
package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/axpchat/connector/services/axp-sandbox/internal/api"
	"github.com/axpchat/connector/services/axp-sandbox/internal/autoagent"
	"github.com/axpchat/connector/services/axp-sandbox/internal/reply"
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

// Register mounts the control API.
func Register(mux *http.ServeMux, p Params) {
	p.views(mux)
	p.faults(mux)
	mux.HandleFunc("POST /control/tokens/revoke", func(w http.ResponseWriter, _ *http.Request) {
		p.API.RevokeTokens()
		done(w)
	})
	mux.HandleFunc("POST /control/emit", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
		if err != nil || !json.Valid(body) {
			reply.Refuse(w, http.StatusBadRequest, "the body is not JSON")
			return
		}
		reply.JSON(w, http.StatusOK, map[string]int{"subscriptions": p.Hooks.EmitRaw(body)})
	})
	// Subscriptions stay: whoever serves them would not notice that they went.
	mux.HandleFunc("POST /control/reset", func(w http.ResponseWriter, _ *http.Request) {
		p.API.Heal()
		p.Hooks.Heal()
		p.World.Reset()
		p.API.ForgetCalls()
		p.Hooks.Forget()
		done(w)
	})
}

func (p Params) views(mux *http.ServeMux) {
	mux.HandleFunc("GET /control/state", func(w http.ResponseWriter, _ *http.Request) {
		reply.JSON(w, http.StatusOK, map[string]any{
			"sessions": p.World.Sessions(), "chats": p.World.Chats(), "subscriptions": p.Hooks.List(""),
			"webhooks": p.Hooks.Stats(), "autoAgent": p.Auto.Enabled(),
		})
	})
	mux.HandleFunc("GET /control/calls", func(w http.ResponseWriter, r *http.Request) {
		reply.JSON(w, http.StatusOK, p.API.Calls(r.URL.Query().Get("operation")))
	})
	mux.HandleFunc("DELETE /control/calls", func(w http.ResponseWriter, _ *http.Request) {
		p.API.ForgetCalls()
		done(w)
	})
	mux.HandleFunc("GET /control/callbacks", func(w http.ResponseWriter, _ *http.Request) {
		reply.JSON(w, http.StatusOK, p.Hooks.Attempts())
	})
}

func (p Params) faults(mux *http.ServeMux) {
	mux.HandleFunc("GET /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		reply.JSON(w, http.StatusOK, map[string]any{"calls": p.API.Faults(), "callbacks": p.Hooks.Faults()})
	})
	mux.HandleFunc("POST /control/faults", inject(p.API.Inject))
	mux.HandleFunc("POST /control/webhook-faults", inject(p.Hooks.Inject))
	mux.HandleFunc("POST /control/outage", inject(p.outage))
	mux.HandleFunc("DELETE /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		p.API.Heal()
		p.Hooks.Heal()
		done(w)
	})
	mux.HandleFunc("POST /control/seed", inject(func(in seed) (seed, error) {
		p.API.Seed(in.Seed)
		p.Hooks.Seed(in.Seed)
		return in, nil
	}))
}

type seed struct {
	Seed uint64 `json:"seed"`
}

// outage is AXP being away: no call is served and no callback is sent.
type outage struct {
	DurationMs int `json:"durationMs"`
	Status     int `json:"status"` // what calls are answered; 0: their connections are reset
}

func (p Params) outage(in outage) (outage, error) {
	if in.DurationMs <= 0 {
		return in, errors.New("durationMs must be more than 0")
	}
	f := api.Fault{Kind: api.ResetBefore, DurationMs: in.DurationMs}
	if in.Status != 0 {
		f.Kind, f.Status = api.StatusFault, in.Status
	}
	if _, err := p.API.Inject(f); err != nil {
		return in, err
	}
	_, err := p.Hooks.Inject(webhooks.Fault{Kind: "outage", DurationMs: in.DurationMs})
	return in, err
}

// inject reads what is asked for, does it and tells how it was understood.
// Unknown fields are refused: a fault that is spelt wrong never happens, and a
// test that relies on it proves nothing.
func inject[T any](do func(T) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
		d.DisallowUnknownFields()
		err := d.Decode(&in)
		if err == nil {
			in, err = do(in)
		}
		if err != nil {
			reply.Refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		reply.JSON(w, http.StatusOK, in)
	}
}

func done(w http.ResponseWriter) { reply.JSON(w, http.StatusOK, struct{}{}) }
