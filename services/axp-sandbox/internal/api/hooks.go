package api

import (
	"net/http"

	"github.com/axpchat/connector/services/axp-sandbox/internal/media"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

func (a *API) createSubscription(_ *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[world.Subscription](body)
	if p != nil {
		return 0, nil, p
	}
	return http.StatusCreated, a.hooks.Create(in), nil
}

func (a *API) listSubscriptions(r *http.Request, _ []byte) (int, any, *problem) {
	return http.StatusOK, a.hooks.List(r.URL.Query().Get("channelProviderId")), nil
}

func (a *API) getSubscription(r *http.Request, _ []byte) (int, any, *problem) {
	s, ok := a.hooks.Get(r.PathValue("subscription"))
	if !ok {
		return 0, nil, refuse(http.StatusNotFound, "subscription does not exist")
	}
	return http.StatusOK, s, nil
}

func (a *API) updateSubscription(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[world.Subscription](body)
	if p != nil {
		return 0, nil, p
	}
	s, ok := a.hooks.Replace(r.PathValue("subscription"), in)
	if !ok {
		return 0, nil, refuse(http.StatusNotFound, "subscription does not exist")
	}
	return http.StatusOK, s, nil
}

func (a *API) deleteSubscription(r *http.Request, _ []byte) (int, any, *problem) {
	if !a.hooks.Delete(r.PathValue("subscription")) {
		return 0, nil, refuse(http.StatusNotFound, "subscription does not exist")
	}
	return http.StatusNoContent, nil, nil
}

func (a *API) signUpload(r *http.Request, body []byte) (int, any, *problem) {
	in, p := decode[media.Info](body)
	if p != nil {
		return 0, nil, p
	}
	info, uri, ok := a.media.SignUpload(in, origin(r))
	if !ok {
		return 0, nil, refuse(http.StatusBadRequest, "too large, or too many files")
	}
	return http.StatusOK, struct {
		media.Info
		UploadSignedURI string `json:"uploadSignedUri"`
	}{info, uri}, nil
}

func (a *API) signDownload(r *http.Request, _ []byte) (int, any, *problem) {
	info, uri, ok := a.media.SignDownload(r.PathValue("media"), origin(r))
	if !ok {
		return 0, nil, refuse(http.StatusNotFound, "media does not exist")
	}
	return http.StatusOK, struct {
		media.Info
		DownloadSignedURI string `json:"downloadSignedUri"`
	}{info, uri}, nil
}

// origin is how the caller reached the sandbox.
func origin(r *http.Request) string { return "http://" + r.Host }

// Inject makes calls go wrong.
func (a *API) Inject(f Fault) { a.calls.inject(f) }

// Heal forgets all faults.
func (a *API) Heal() { a.calls.heal() }

// Calls lists the calls of an operation, or all, oldest first.
func (a *API) Calls(operation string) []Call { return a.calls.list(operation) }

// Forget forgets faults and calls.
func (a *API) Forget() { a.calls.forget() }

// RevokeTokens makes every token useless before its time.
func (a *API) RevokeTokens() { a.tokens.revoke() }
