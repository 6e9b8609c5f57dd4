package rest

import (
	"net/http"
	"net/url"
	"strings"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// Origins decides which pages may use the API from a browser, by the account of
// the request's token. The gateway's own origin always may. It is safe for
// concurrent use.
type Origins struct {
	book     *tenants.Book
	verifier *auth.Verifier
}

// NewOrigins asks the book who may, and the verifier whose token a request has.
func NewOrigins(book *tenants.Book, v *auth.Verifier) Origins {
	return Origins{book: book, verifier: v}
}

// Allowed tells whether the request comes from a page that may use the API, or
// from no page at all, before it is known whose request it is.
func (o Origins) Allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || sameOrigin(r, origin) || o.book.AllowsAny(origin)
}

// Admit refuses a request of the account that comes from a page of another one.
func (o Origins) Admit(r *http.Request, account string) error {
	if err := o.book.Admit(account); err != nil {
		return err
	}
	origin := r.Header.Get("Origin")
	if origin == "" || sameOrigin(r, origin) || o.book.Allows(account, origin) {
		return nil
	}
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_ORIGIN_FORBIDDEN, "pages of this origin may not use the API for this account")
}

// sameOrigin compares hosts only: behind a proxy that ends TLS the scheme that
// the browser saw is not known here.
func sameOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// CORS answers a browser's questions for pages of other origins. Pages that may not
// use the API get no permission, which the browser then enforces.
//
// A question ahead of the request (preflight) has no token: it is answered for
// whatever any tenant allows, and the request that follows is judged by its own.
func (o Origins) CORS(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		header := w.Header()
		header.Add("Vary", "Origin")
		preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
		if origin != "" && o.book.AllowsAny(origin) {
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
			if preflight {
				header.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
				header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id, Traceparent")
				header.Set("Access-Control-Max-Age", "600")
			}
		}
		if preflight {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Judge refuses, where tenants are listed, what a page of another origin asks with
// the token of an account that does not allow it. It has no say on preflights, which
// CORS answers.
func (o Origins) Judge(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(r, origin) && o.book.Listed() {
			customer, err := o.foreign(r, origin)
			if err != nil {
				w.Header().Del("Access-Control-Allow-Origin") // not even that is for this page
				w.Header().Del("Access-Control-Expose-Headers")
				httpx.WriteProblem(w, r, err)
				return
			}
			r = r.WithContext(auth.WithPrincipal(r.Context(), customer))
		}
		h.ServeHTTP(w, r)
	})
}

// foreign refuses a request of another origin's page that its token's account
// does not allow, and tells whose the token is, where it is valid. One without a token that is valid goes on to be refused where
// all of them are, readable for pages of any tenant: they have to see that a
// token has expired. So does one with a ticket, which works once and is judged
// where it is taken.
func (o Origins) foreign(r *http.Request, origin string) (*auth.Principal, error) {
	customer, err := o.verifier.VerifyRequest(r)
	if err == nil {
		return customer, o.Admit(r, customer.Account)
	}
	if o.book.AllowsAny(origin) {
		return nil, nil //nolint:nilnil // nobody knows whose it is
	}
	return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ORIGIN_FORBIDDEN, "pages of this origin may not use the API")
}
