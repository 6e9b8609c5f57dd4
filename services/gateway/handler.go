package gateway

import (
	"context"
	"net/http"

	"google.golang.org/grpc"

	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/rest"
	"github.com/axpchat/connector/services/gateway/internal/sse"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/gateway/internal/web"
	"github.com/axpchat/connector/services/gateway/internal/websocket"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// handlerParams is what the HTTP side is made of.
type handlerParams struct {
	Params
	Conn     *grpc.ClientConn // to ChatService, inside the process
	Streams  *stream.Server
	Verifier *auth.Verifier
	Tickets  *tickets.Desk
	Tenants  *tenants.Book
	Limits   *limits.Limiter
}

// pages are what people look at: the description of the API and the web chat.
func pages(c Config) http.Handler {
	mux := http.NewServeMux()
	rest.Pages(mux)
	if c.WebChat {
		mux.Handle("/", web.Handler(web.Config{TokenURL: c.WebTokenURL, CompanyName: c.WebCompany}))
	}
	return httpx.Mux(mux)
}

// handler puts the HTTP side together.
func handler(ctx context.Context, p handlerParams) (http.Handler, error) {
	origins := rest.NewOrigins(p.Tenants, p.Verifier)
	marshaler, err := rest.NewMarshaler(ctx, p.Log, p.Providers.Meter)
	if err != nil {
		return nil, err
	}
	api, err := rest.New(ctx, p.Conn, func(r *http.Request) (*http.Request, error) {
		customer, err := p.Verifier.VerifyRequest(r)
		return r.WithContext(auth.WithPrincipal(r.Context(), customer)), err
	}, marshaler)
	if err != nil {
		return nil, err
	}
	api = httpx.LimitBody(int64(p.Config.MaxBody), api)
	streams := rest.Streams{
		WebSocket: websocket.New(websocket.Params{
			Streams: p.Streams, Verifier: p.Verifier, Tickets: p.Tickets, Origin: origins.Allowed, Admit: origins.Admit, Log: p.Log,
		}).Serve,
		SSE: sse.New(sse.Params{Streams: p.Streams, Verifier: p.Verifier, Tickets: p.Tickets, Admit: origins.Admit}).Serve,
	}
	mux := http.NewServeMux()
	// Within CORS: a page of another origin must be able to read how long to wait. No
	// token is looked at before the limits.
	mux.Handle("/v1/", origins.CORS(p.Limits.HTTP(int64(p.Config.MaxBody), origins.Judge(rest.Router(api, streams)))))
	mux.Handle("/", p.Limits.HTTP(int64(p.Config.MaxBody), pages(p.Config)))
	// Around everything: net/http reads the rest of a body, without a limit of its own,
	// also where nobody asked for it, such as for a page.
	h := httpx.ReadTimeout(p.Config.HTTP.WithDefaults().ReadTimeout, httpx.Mux(mux))
	h = httpx.SecurityHeaders(h)
	h = httpx.Recover(panics.New(p.Log, p.Providers.Meter.Meter(instrumentation)), h)
	h = httpx.AccessLog(p.Log, h)
	h = httpx.Instrument(p.Providers, h)
	return httpx.RequestID(h), nil
}
