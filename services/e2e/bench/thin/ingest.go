package thin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// RunIngest takes callbacks until ctx ends.
func RunIngest(ctx context.Context, cfg Config) error {
	nc, js, err := open(ctx, cfg.NATSURL)
	if err != nil {
		return err
	}
	defer nc.Close()
	return serve(ctx, admin(cfg.AdminAddr), server(cfg.Addr, &ingest{js: js, path: Path + cfg.Key}))
}

type ingest struct {
	js   jetstream.JetStream
	path string
}

// ServeHTTP answers 200 when the callback is stored.
func (i *ingest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != i.path {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var about struct {
		ProviderDialogID string `json:"providerDialogId"`
		MessageID        string `json:"messageId"`
	}
	if json.Unmarshal(body, &about) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	session, _, _ := strings.Cut(about.ProviderDialogID, ".")
	msg := &nats.Msg{Subject: eventPrefix + session, Data: body}
	if _, err := i.js.PublishMsg(r.Context(), msg, jetstream.WithMsgID(about.MessageID)); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
