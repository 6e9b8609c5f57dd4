// Package api owns AXP's documented operations over HTTP: tokens, sessions,
// engagements, messages, subscriptions and signed media, with AXP's validation
// and problem+json errors, calls recorded and faults on demand. What an
// operation does is package world's business.
package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/media"
	"github.com/axpchat/connector/services/axp-sandbox/internal/webhooks"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Config is who may call.
type Config struct {
	AccountID, ClientID, ClientSecret, AppKey string
	TokenLifetime                             time.Duration
	PlainHTTPCallbacks                        bool // AXP wants https
	Seed                                      uint64
}

// API serves AXP's operations. It is safe for concurrent use.
type API struct {
	cfg     Config
	world   *world.World
	hooks   *webhooks.Hooks
	media   *media.Store
	tokens  *tokens
	calls   *recorder
	schemas schemas
}

// Params is what New needs.
type Params struct {
	Config Config
	World  *world.World
	Hooks  *webhooks.Hooks
	Media  *media.Store
	Now    func() time.Time
}

// New makes the API.
func New(p Params) *API {
	return &API{
		cfg: p.Config, world: p.World, hooks: p.Hooks, media: p.Media,
		tokens: newTokens(p.Config, p.Now), calls: newRecorder(p.Now, p.Config.Seed), schemas: newSchemas(p.Config.PlainHTTPCallbacks),
	}
}

// maxBody bounds a JSON body.
const maxBody = 1 << 20

const (
	channel = "/api/digital/channel/v1/accounts/{account}"
	hook    = "/api/digital/webhook/v1/accounts/{account}"
	store   = "/api/media-store/v1"
)

// operation answers a call: a status, a JSON body, or a problem.
type operation func(r *http.Request, body []byte) (int, any, *problem)

// Register mounts every operation.
func (a *API) Register(mux *http.ServeMux) {
	handle := func(pattern, name string, body rule, f operation) {
		mux.HandleFunc(pattern, a.calls.wrap(name, a.serve(body, f)))
	}
	mux.HandleFunc("POST /api/auth/v1/{account}/protocol/openid-connect/token", a.calls.wrap("postGenerateToken", a.token))
	handle("POST "+channel+"/sessions", "createDigitalSession", a.schemas.createSession, a.createSession)
	handle("GET "+channel+"/sessions/{session}", "getDigitalSession", nil, a.getSession)
	handle("DELETE "+channel+"/sessions/{session}", "deleteDigitalSession", nil, a.deleteSession)
	mux.HandleFunc("POST "+channel+"/sessions/{verb}", a.sessionVerb)
	handle("POST "+channel+"/engagements", "createDigitalEngagement", a.schemas.createEngagement, a.createEngagement)
	handle("GET "+channel+"/engagements", "listDigitalEngagements", nil, a.listEngagements)
	handle("GET "+channel+"/engagements/{engagement}", "getDigitalEngagement", nil, a.getEngagement)
	mux.HandleFunc("POST "+channel+"/engagements/{verb}", a.engagementVerb)
	handle("POST "+channel+"/engagements/{engagement}/messages", "sendDigitalMessage", a.schemas.sendMessage, a.sendMessage)
	handle("GET "+channel+"/engagements/{engagement}/messages", "listDigitalMessages", nil, a.listMessages)
	handle("POST "+hook+"/subscriptions", "createDigitalWebhookSubscription", a.schemas.subscription, a.createSubscription)
	handle("GET "+hook+"/subscriptions", "listDigitalWebhookSubscriptions", nil, a.listSubscriptions)
	handle("GET "+hook+"/subscriptions/{subscription}", "getDigitalWebhookSubscription", nil, a.getSubscription)
	handle("PUT "+hook+"/subscriptions/{subscription}", "updateDigitalWebhookSubscription", a.schemas.subscription, a.updateSubscription)
	handle("DELETE "+hook+"/subscriptions/{subscription}", "deleteDigitalWebhookSubscription", nil, a.deleteSubscription)
	handle("POST "+store+"/accounts/{account}/media/signed-upload-uri", "signedMediaUploadUri", a.schemas.upload, a.signUpload)
	handle("GET "+store+"/accounts/{account}/media/{media}/signed-download-uri", "signedMediaDownloadUri", nil, a.signDownload)
	mux.HandleFunc("POST "+store+"/media/{media}", a.calls.wrap("uploadSignedMedia", a.media.Upload))
	mux.HandleFunc("GET "+store+"/media/{media}", a.calls.wrap("getSignedMedia", a.media.Download))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(http.StatusNotFound, "no such resource or method").write(w)
	})
}

// sessionVerb serves /sessions/{id}:verb, which the mux can't split.
func (a *API) sessionVerb(w http.ResponseWriter, r *http.Request) {
	id, verb, _ := strings.Cut(r.PathValue("verb"), ":")
	r.SetPathValue("session", id)
	switch verb {
	case "appendIdentifiers":
		a.calls.wrap("appendIdentifiersInDigitalSession", a.serve(a.schemas.identifiers, a.appendIdentifiers))(w, r)
	case "updateSessionParameters":
		a.calls.wrap("updateSessionParametersInDigitalSession", a.serve(a.schemas.parameters, a.updateParameters))(w, r)
	default:
		refuse(http.StatusNotFound, "no such resource or method").write(w)
	}
}

func (a *API) engagementVerb(w http.ResponseWriter, r *http.Request) {
	id, verb, _ := strings.Cut(r.PathValue("verb"), ":")
	r.SetPathValue("engagement", id)
	switch verb {
	case "join":
		a.calls.wrap("joinDigitalEngagement", a.serve(a.schemas.join, a.join))(w, r)
	case "disconnect":
		a.calls.wrap("disconnectDigitalEngagement", a.serve(a.schemas.disconnect, a.disconnect))(w, r)
	default:
		refuse(http.StatusNotFound, "no such resource or method").write(w)
	}
}

func (a *API) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	answer, p := a.tokens.grant(r)
	if p != nil {
		p.write(w)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// serve checks credentials, ids and body, and writes the answer.
func (a *API) serve(body rule, f operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-request-id", r.Header.Get("x-request-id"))
		if p := a.tokens.check(r); p != nil {
			p.write(w)
			return
		}
		data, p := a.read(w, r, body)
		if p == nil {
			p = ids(r)
		}
		if p != nil {
			p.write(w)
			return
		}
		status, answer, p := f(r, data)
		if p != nil {
			p.Instance = r.URL.Path
			p.write(w)
			return
		}
		writeJSON(w, status, answer)
	}
}

// ids checks the ids in the path.
func ids(r *http.Request) *problem {
	for _, name := range []string{"session", "engagement", "subscription", "media"} {
		if v := r.PathValue(name); v != "" && !idPattern.MatchString(v) {
			return refuse(http.StatusBadRequest, name+"Id", fail(name+"Id", codePattern, "must match %s", idPattern)...)
		}
	}
	return nil
}

func (a *API) read(w http.ResponseWriter, r *http.Request, body rule) ([]byte, *problem) {
	if body == nil {
		return nil, nil
	}
	if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(ct) != "application/json" {
		return nil, refuse(http.StatusBadRequest, "the body must be application/json")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body can't be read")
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not JSON")
	}
	if vs := body("", v); len(vs) > 0 {
		return nil, refuse(http.StatusBadRequest, "Validation failed", vs...)
	}
	return data, nil
}

// decode reads a body that was checked before.
func decode[T any](data []byte) (v T, p *problem) {
	if err := json.Unmarshal(data, &v); err != nil {
		return v, refuse(http.StatusBadRequest, "the body does not fit")
	}
	return v, nil
}

func answer(status int, v any, r *world.Refusal) (int, any, *problem) {
	if r != nil {
		p := refuse(r.Status, r.Detail)
		p.Title = r.Title
		return 0, nil, p
	}
	return status, v, nil
}

func (a *API) createSession(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[struct {
		world.CreateSession
		AccountID string `json:"accountId"`
	}](body)
	if p != nil {
		return 0, nil, p
	}
	if in.AccountID != "" && in.AccountID != r.PathValue("account") {
		return 0, nil, refuse(http.StatusBadRequest, "accountId", fail("accountId", codePattern, "must be that of the path")...)
	}
	s, refusal := a.world.CreateSession(in.CreateSession)
	return answer(http.StatusCreated, s, refusal)
}

func (a *API) getSession(r *http.Request, _ []byte) (int, any, *problem) {
	s, refusal := a.world.GetSession(r.PathValue("session"))
	return answer(http.StatusOK, s, refusal)
}

func (a *API) deleteSession(r *http.Request, _ []byte) (int, any, *problem) {
	switch reason := r.URL.Query().Get("reason"); reason {
	case "USER_CLOSED", "USER_INACTIVE", "SYSTEM_CLOSED", "UNKNOWN":
	default:
		return 0, nil, refuse(http.StatusBadRequest, "reason", fail("reason", codeMissing, "must be a known reason")...)
	}
	return answer(http.StatusNoContent, nil, a.world.DeleteSession(r.PathValue("session")))
}

func (a *API) appendIdentifiers(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[map[string][]string](body)
	if p != nil {
		return 0, nil, p
	}
	s, refusal := a.world.AppendIdentifiers(r.PathValue("session"), in)
	return answer(http.StatusOK, s, refusal)
}

func (a *API) updateParameters(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[map[string]string](body)
	if p != nil {
		return 0, nil, p
	}
	s, refusal := a.world.UpdateParameters(r.PathValue("session"), in)
	return answer(http.StatusOK, s, refusal)
}

func (a *API) createEngagement(_ *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[world.CreateEngagement](body)
	if p != nil {
		return 0, nil, p
	}
	if !strings.EqualFold(in.ChannelID, "Chat") {
		return 0, nil, refuse(http.StatusBadRequest, "channelId", fail("channelId", codeEnum, "only Chat is offered here")...)
	}
	e, refusal := a.world.CreateEngagement(in)
	return answer(http.StatusCreated, e, refusal)
}

// queryIDs reads ids that must stand in the query.
func queryIDs(q url.Values, names ...string) *problem {
	var vs []Violation
	for _, name := range names {
		switch v := q.Get(name); {
		case v == "":
			vs = append(vs, fail(name, codeMissing, "must not be null")...)
		case !idPattern.MatchString(v):
			vs = append(vs, fail(name, codePattern, "must match %s", idPattern)...)
		}
	}
	if len(vs) > 0 {
		return refuse(http.StatusBadRequest, "Validation failed", vs...)
	}
	return nil
}

func (a *API) listEngagements(r *http.Request, _ []byte) (int, any, *problem) {
	q := r.URL.Query()
	if p := queryIDs(q, "sessionId"); p != nil {
		return 0, nil, p
	}
	es, refusal := a.world.ListEngagements(q.Get("sessionId"))
	return answer(http.StatusOK, es, refusal)
}

func (a *API) getEngagement(r *http.Request, _ []byte) (int, any, *problem) {
	e, refusal := a.world.GetEngagement(r.PathValue("engagement"))
	return answer(http.StatusOK, e, refusal)
}

func (a *API) join(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[world.Leave](body)
	if p != nil {
		return 0, nil, p
	}
	e, refusal := a.world.Join(r.PathValue("engagement"), in)
	return answer(http.StatusOK, e, refusal)
}

func (a *API) disconnect(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[world.Leave](body)
	if p != nil {
		return 0, nil, p
	}
	return answer(http.StatusOK, in, a.world.Disconnect(r.PathValue("engagement"), in))
}

func (a *API) sendMessage(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[world.SendMessage](body)
	if p != nil {
		return 0, nil, p
	}
	in.Body.RichMediaPayload = nil // Custom Chat takes none
	m, refusal := a.world.Send(r.PathValue("engagement"), in)
	return answer(http.StatusAccepted, m, refusal)
}

func (a *API) listMessages(r *http.Request, _ []byte) (int, any, *problem) {
	q := r.URL.Query()
	if p := queryIDs(q, "dialogId", "sessionId"); p != nil {
		return 0, nil, p
	}
	size, number := 10, 1
	for _, x := range []struct {
		name string
		to   *int
		most int
	}{{"pageSize", &size, 50}, {"pageNumber", &number, 1 << 30}} {
		if !q.Has(x.name) {
			continue
		}
		n, err := strconv.Atoi(q.Get(x.name))
		if err != nil || n < 1 || n > x.most {
			return 0, nil, refuse(http.StatusBadRequest, x.name, fail(x.name, codeSize, "must be 1 to %d", x.most)...)
		}
		*x.to = n
	}
	page, refusal := a.world.ListMessages(r.PathValue("engagement"), q.Get("dialogId"), q.Get("sessionId"), size, number)
	return answer(http.StatusOK, page, refusal)
}
