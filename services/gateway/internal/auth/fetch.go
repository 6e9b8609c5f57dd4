package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxKeySet bounds what is read of a key set; real ones have some KiB.
const maxKeySet = 1 << 20

var (
	errLargeKeySet = errors.New("the key set is larger than 1 MiB")
	errNoKeySet    = errors.New("the answer is no key set")
)

// keySetTransport fetches key sets. An answer that does not end, or that holds no
// keys, as those of proxies do for an issuer that is away, fails: the keys that are
// known stay.
type keySetTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t keySetTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(body) > maxKeySet {
		return nil, errLargeKeySet
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || len(set.Keys) == 0 {
		return nil, errNoKeySet
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
