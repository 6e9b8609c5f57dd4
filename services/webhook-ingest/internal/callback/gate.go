package callback

import (
	"net/http"
	"time"
)

// strangersEvery is how often the log tells of calls that were turned away.
const strangersEvery = 10 * time.Second

// Behind returns the handler with its gate: calls that are not of AXP, by method,
// address or key, are turned away before anything else is done for them. They get
// no span, no line of the log each, no place among the calls that are worked, and
// nothing of their body is looked at, so that a flood of them costs little. The
// rest goes through the middleware of inside.
func (h *Handler) Behind(inside func(http.Handler) http.Handler) http.Handler {
	next := inside(http.HandlerFunc(h.serve))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if no := h.admit(r); no != nil {
			h.turnAway(w, r, no, began)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// NotFound turns calls of all other paths away. It repeats nothing of the path, as
// problems usually do: a path that is almost right holds the key.
func (h *Handler) NotFound(w http.ResponseWriter, r *http.Request) {
	h.turnAway(w, r, refuse(http.StatusNotFound, resultPath, nothingHere), time.Now())
}

// nothingHere is the same for a wrong key and a wrong path.
const nothingHere = "there is nothing here"

// admit refuses who is not AXP.
func (h *Handler) admit(r *http.Request) *refusal {
	account := r.PathValue("account")
	// The key is checked in any case, so that the time does not tell which of the
	// conditions failed.
	known := h.p.Keys.CheckCallbackKey(account, r.PathValue("key"))
	served := *h.accounts.Load()
	known = isAccount(account) && (len(served) == 0 || containsFold(served, account)) && known
	switch {
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, resultMethod, "only POST is served here")
	case !h.welcome(r):
		return refuse(http.StatusNotFound, resultAddress, nothingHere)
	case !known && h.p.Outdated():
		return later(resultOutdated, outdatedDetail)
	case !known:
		return refuse(http.StatusNotFound, resultKey, nothingHere)
	}
	return nil
}

func (h *Handler) turnAway(w http.ResponseWriter, r *http.Request, no *refusal, began time.Time) {
	// A connection is worth keeping: making a new one would cost more than all of
	// this. The server has to get past the body first, so it must be short, and come
	// in time. What is longer is not read at all.
	control, until := http.NewResponseController(w), began.Add(h.p.Limits.Read)
	if r.ContentLength < 0 || r.ContentLength > usualBody {
		no.close, until = true, began
	}
	if r.ContentLength != 0 && control.SetReadDeadline(until) != nil {
		no.close = true // the writers of tests, which have no connection
	}
	no.write(w)
	h.strangers.WarnContext(r.Context(), "call turned away", "result", no.result)
	h.metrics.answered(r.Context(), noType, no.result, time.Since(began))
}
