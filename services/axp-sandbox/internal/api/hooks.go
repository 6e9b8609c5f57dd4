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
	if in.SubscriptionID != "" {
		return 0, nil, invalid(fail("subscriptionId", codeType, "is chosen by AXP")...)
	}
	if in.ChannelProviderID != a.cfg.ChannelProviderID {
		return 0, nil, invalid(fail("channelProviderId", codeEnum, "no such channel provider")...)
	}
	s, ok := a.hooks.Create(in)
	if !ok {
		return 0, nil, refuse(http.StatusForbidden, "too many subscriptions")
	}
	return http.StatusCreated, s, nil
}

func (a *API) listSubscriptions(r *http.Request, _ []byte) (int, any, *problem) {
	q := r.URL.Query()
	provider := q.Get("channelProviderId")
	if q.Has("channelProviderId") {
		if vs := text(3, 256)("channelProviderId", provider); len(vs) > 0 {
			return 0, nil, invalid(vs...)
		}
	}
	return http.StatusOK, a.hooks.List(provider), nil
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
	id := r.PathValue("subscription")
	if in.SubscriptionID != "" && in.SubscriptionID != id { // AXP's own sample sends the one of the path
		return 0, nil, invalid(fail("subscriptionId", codeType, "must be that of the path")...)
	}
	if old, ok := a.hooks.Get(id); ok && old.ChannelProviderID != in.ChannelProviderID {
		return 0, nil, invalid(fail("channelProviderId", codeEnum, "can't be changed")...)
	}
	s, ok := a.hooks.Replace(id, in)
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
		return 0, nil, invalid(fail("mediaSize", codeSize, "must be at most %d", media.MaxFile)...)
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

// Inject makes calls go wrong; it returns the fault as it was understood.
func (a *API) Inject(f Fault) (Fault, error) { return a.faults.inject(f) }

// Faults lists the faults that wait for calls.
func (a *API) Faults() []Fault { return a.faults.active() }

// Heal forgets all faults.
func (a *API) Heal() { a.faults.heal() }

// Seed makes the faults with a probability begin anew.
func (a *API) Seed(seed uint64) { a.faults.seed(seed) }

// Calls lists the calls of an operation, or all, oldest first.
func (a *API) Calls(operation string) []Call { return a.calls.list(operation) }

// ForgetCalls forgets the calls so far.
func (a *API) ForgetCalls() { a.calls.forget() }

// RevokeTokens makes every token useless before its time.
func (a *API) RevokeTokens() { a.tokens.revoke() }
