// Package api owns AXP's documented operations over HTTP: tokens, sessions,
// engagements, messages, subscriptions and signed media, with AXP's validation
// and problem+json errors, calls recorded and faults on demand. What an
// operation does is package world's business.
package api

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/axpchat/connector/services/axp-sandbox/internal/media"
	"github.com/axpchat/connector/services/axp-sandbox/internal/webhooks"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Config is who may call.
type Config struct {
	AccountID, ClientID, ClientSecret, AppKey string
	ChannelProviderID                         string // the one that exists
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
	faults  *faults
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
		tokens: newTokens(p.Config, p.Now), calls: &recorder{now: p.Now}, faults: newFaults(p.Now, p.Config.Seed), schemas: newSchemas(p.Config.PlainHTTPCallbacks),
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

// Operations names every operation, as AXP's documents do.
func Operations() []string {
	return []string{
		"postGenerateToken",
		"createDigitalSession", "getDigitalSession", "deleteDigitalSession",
		"appendIdentifiersInDigitalSession", "updateSessionParametersInDigitalSession",
		"createDigitalEngagement", "listDigitalEngagements", "getDigitalEngagement",
		"joinDigitalEngagement", "disconnectDigitalEngagement", "sendDigitalMessage", "listDigitalMessages",
		"createDigitalWebhookSubscription", "listDigitalWebhookSubscriptions", "getDigitalWebhookSubscription",
		"updateDigitalWebhookSubscription", "deleteDigitalWebhookSubscription",
		"signedMediaUploadUri", "signedMediaDownloadUri", "uploadSignedMedia", "getSignedMedia",
	}
}

// Register mounts every operation.
func (a *API) Register(mux *http.ServeMux) {
	handle := func(pattern, name string, body rule, f operation) {
		mux.HandleFunc(pattern, a.wrap(name, a.serve(body, f)))
	}
	mux.HandleFunc("POST /api/auth/v1/{account}/protocol/openid-connect/token", a.wrap("postGenerateToken", a.token))
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
	mux.HandleFunc("POST "+store+"/media/{media}", a.wrap("uploadSignedMedia", a.media.Upload))
	mux.HandleFunc("GET "+store+"/media/{media}", a.wrap("getSignedMedia", a.media.Download))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		refuse(http.StatusNotFound, "no such resource or method").write(w, r)
	})
}

// sessionVerb serves /sessions/{id}:verb, which the mux can't split.
func (a *API) sessionVerb(w http.ResponseWriter, r *http.Request) {
	id, verb, _ := strings.Cut(r.PathValue("verb"), ":")
	r.SetPathValue("session", id)
	switch verb {
	case "appendIdentifiers":
		a.wrap("appendIdentifiersInDigitalSession", a.serve(a.schemas.identifiers, a.appendIdentifiers))(w, r)
	case "updateSessionParameters":
		a.wrap("updateSessionParametersInDigitalSession", a.serve(a.schemas.parameters, a.updateParameters))(w, r)
	default:
		refuse(http.StatusNotFound, "no such resource or method").write(w, r)
	}
}

func (a *API) engagementVerb(w http.ResponseWriter, r *http.Request) {
	id, verb, _ := strings.Cut(r.PathValue("verb"), ":")
	r.SetPathValue("engagement", id)
	switch verb {
	case "join":
		a.wrap("joinDigitalEngagement", a.serve(a.schemas.join, a.join))(w, r)
	case "disconnect":
		a.wrap("disconnectDigitalEngagement", a.serve(a.schemas.disconnect, a.disconnect))(w, r)
	default:
		refuse(http.StatusNotFound, "no such resource or method").write(w, r)
	}
}

func (a *API) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	answer, p := a.tokens.grant(r)
	if p != nil {
		p.write(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, answer)
}

// serve checks credentials, ids and body, and writes the answer.
func (a *API) serve(body rule, f operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p := a.tokens.check(r); p != nil {
			p.write(w, r)
			return
		}
		if p := ids(r); p != nil {
			p.write(w, r)
			return
		}
		data, p := a.read(w, r, body)
		if p != nil {
			p.write(w, r)
			return
		}
		status, answer, p := f(r, data)
		if p != nil {
			p.write(w, r)
			return
		}
		writeJSON(w, status, answer)
	}
}

// ids checks the ids in the path.
func ids(r *http.Request) *problem {
	for _, name := range []string{"session", "engagement", "subscription", "media"} {
		if v := r.PathValue(name); v != "" && !idPattern.MatchString(v) {
			return invalid(fail(name+"Id", codePattern, "must match %s", idPattern)...)
		}
	}
	return nil
}

func (a *API) read(w http.ResponseWriter, r *http.Request, body rule) ([]byte, *problem) {
	if body == nil {
		return nil, nil
	}
	if !isJSON(r) {
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
		return nil, invalid(vs...)
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
		if r.Field != "" {
			p.Violations = fail(r.Field, codeEnum, "%s", r.Detail)
		}
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
		return 0, nil, invalid(fail("accountId", codePattern, "must be that of the path")...)
	}
	s, refusal := a.world.CreateSession(in.CreateSession)
	return answer(http.StatusCreated, s, refusal)
}

func (a *API) getSession(r *http.Request, _ []byte) (int, any, *problem) {
	s, refusal := a.world.GetSession(r.PathValue("session"))
	return answer(http.StatusOK, s, refusal)
}

func (a *API) deleteSession(r *http.Request, _ []byte) (int, any, *problem) {
	reason := r.URL.Query().Get("reason")
	if reason == "" {
		return 0, nil, invalid(fail("reason", codeMissing, "must not be null")...)
	}
	if vs := oneOf(reasons...)("reason", reason); len(vs) > 0 {
		return 0, nil, invalid(vs...)
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
		return 0, nil, invalid(fail("channelId", codeEnum, "only Chat is offered here")...)
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
		return invalid(vs...)
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
	in.CorrelationID = cmp.Or(in.CorrelationID, uuid.NewString())
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
			return 0, nil, invalid(fail(x.name, codeSize, "must be 1 to %d", x.most)...)
		}
		*x.to = n
	}
	page, refusal := a.world.ListMessages(r.PathValue("engagement"), q.Get("dialogId"), q.Get("sessionId"), size, number)
	return answer(http.StatusOK, page, refusal)
}
