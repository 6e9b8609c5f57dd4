// Package issuer signs customers' tokens for development, as a company's own
// backend does in production. It asks nobody who they are.
package issuer

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Config is what tokens say and are signed with.
type Config struct {
	Secret, Issuer, Audience, Account string
}

const (
	usualLife = 15 * time.Minute
	maxLife   = 24 * time.Hour
)

// Handler serves POST /dev/token. It is safe for concurrent use.
func Handler(cfg Config, now func() time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.Header().Set("Cache-Control", "no-store")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var in struct {
			Name        string              `json:"name"`
			Subject     string              `json:"subject"`
			Account     string              `json:"account"`
			Identifiers map[string][]string `json:"identifiers"`
			TTLSeconds  int                 `json:"ttlSeconds"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&in); err != nil {
			http.Error(w, `{"title":"the body is not JSON"}`, http.StatusBadRequest)
			return
		}
		if in.Subject == "" {
			in.Subject = uuid.NewString()
		}
		if in.Account == "" {
			in.Account = cfg.Account
		}
		if len(in.Identifiers) == 0 {
			in.Identifiers = map[string][]string{"emailAddresses": {in.Subject + "@visitor.invalid"}}
		}
		life := time.Duration(in.TTLSeconds) * time.Second
		if life <= 0 || life > maxLife {
			life = usualLife
		}
		at := now()
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"iss": cfg.Issuer, "aud": cfg.Audience, "sub": in.Subject, "account": in.Account, "name": in.Name,
			"identifiers": in.Identifiers, "verified": true, "iat": at.Unix(), "exp": at.Add(life).Unix(),
		}).SignedString([]byte(cfg.Secret))
		if err != nil {
			http.Error(w, `{"title":"the token can't be signed"}`, http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"token": token, "expiresAt": at.Add(life).UTC().Format(time.RFC3339)}) // the caller has gone otherwise
	})
}
