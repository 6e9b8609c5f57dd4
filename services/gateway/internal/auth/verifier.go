package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const (
	// maxToken bounds what is parsed; real tokens have one or two KiB.
	maxToken = 16 << 10

	jwksTimeout = 5 * time.Second
	jwksRefresh = 15 * time.Minute
	// jwksUnknown is how often an unknown key id may cause a refresh, so that
	// forged tokens can't make us flood the issuer. It is also how long they can
	// keep us from noticing a new key.
	jwksUnknown = 10 * time.Second
)

// AXP's limits on what a token says of the customer.
const (
	maxSubject         = 256
	maxName            = 70
	maxIdentifiers     = 10
	maxIdentifierName  = 50
	maxIdentifierCount = 5
	maxIdentifierValue = 256
)

// claims is what we read of a token.
type claims struct {
	jwt.RegisteredClaims
	Account     string              `json:"account"`
	Name        string              `json:"name"`
	Identifiers map[string][]string `json:"identifiers"`
	Verified    bool                `json:"verified"`
	Anonymous   bool                `json:"anonymous"`
	// AnonymousSubject is the sub of the anonymous token that the same customer
	// had before.
	AnonymousSubject string `json:"anonymous_sub"`
}

// UnmarshalJSON implements json.Unmarshaler. Names count letter for letter (RFC
// 7519, section 4): encoding/json alone would take "SUB", which an issuer may let
// customers choose, for "sub".
func (c *claims) UnmarshalJSON(data []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	names := []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "account", "name", "identifiers", "verified", "anonymous", "anonymous_sub"}
	for name := range all {
		for _, known := range names {
			if name != known && strings.EqualFold(name, known) {
				delete(all, name)
			}
		}
	}
	exact, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	type plain claims
	if err := json.Unmarshal(exact, (*plain)(c)); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	return nil
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	cfg    Config
	parser *jwt.Parser
	keys   jwt.Keyfunc
	admit  func(account string) error
}

// NewVerifier returns a verifier. With a key set it fetches the keys now and
// again until ctx ends; it does not fail when the issuer can't be reached yet.
func NewVerifier(ctx context.Context, cfg Config, log *slog.Logger) (*Verifier, error) {
	opts := []jwt.ParserOption{jwt.WithExpirationRequired(), jwt.WithLeeway(cfg.Leeway)}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		opts = append(opts, jwt.WithAudience(cfg.Audience))
	}
	v := &Verifier{cfg: cfg, admit: func(string) error { return nil }}
	if cfg.JWKSURL == "" {
		secret := []byte(cfg.HS256Secret.Reveal())
		if len(secret) < minSecret {
			return nil, errors.New("auth: AUTH_HS256_SECRET must have at least 32 bytes")
		}
		opts = append(opts, jwt.WithValidMethods([]string{"HS256"}))
		v.keys = func(*jwt.Token) (any, error) { return secret, nil }
	} else {
		opts = append(opts, jwt.WithValidMethods([]string{"RS256", "PS256", "ES256", "EdDSA"}))
		set, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{cfg.JWKSURL}, keyfunc.Override{
			Client:            &http.Client{Timeout: jwksTimeout, Transport: keySetTransport{http.DefaultTransport}},
			HTTPTimeout:       jwksTimeout,
			RefreshInterval:   jwksRefresh,
			RefreshUnknownKID: rate.NewLimiter(rate.Every(jwksUnknown), 2),
			// It bounds the fetch as well. Only one call ever waits for its turn: that
			// of the next one would come too late, and it is refused at once.
			RateLimitWaitMax: jwksTimeout,
			RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
				return func(ctx context.Context, err error) { log.ErrorContext(ctx, "key set can't be fetched", "error", err) }
			},
		})
		if err != nil {
			return nil, fmt.Errorf("auth: key set: %w", err)
		}
		if v.keys, err = signing(ctx, set); err != nil {
			return nil, err
		}
	}
	v.parser = jwt.NewParser(opts...)
	return v, nil
}

// signing gives the keys of a set that are for signing: a set may hold others, for
// encrypting. Their use may be left out. A token without a key id may be signed
// with any of them.
func signing(ctx context.Context, set keyfunc.Keyfunc) (jwt.Keyfunc, error) {
	opts := keyfunc.Options{Ctx: ctx, Storage: set.Storage()}
	opts.UseWhitelist = append(opts.UseWhitelist, "sig", "")
	named, err := keyfunc.New(opts)
	if err != nil {
		return nil, fmt.Errorf("auth: key set: %w", err)
	}
	byID := shared(named.KeyfuncCtx(ctx))
	return func(token *jwt.Token) (any, error) {
		if _, has := token.Header["kid"]; has {
			return byID(token)
		}
		all, err := opts.Storage.KeyReadAll(ctx)
		if err != nil {
			return nil, fmt.Errorf("key set: %w", err)
		}
		var keys jwt.VerificationKeySet
		for _, k := range all {
			if slices.Contains(opts.UseWhitelist, k.Marshal().USE) {
				keys.Keys = append(keys.Keys, k.Key())
			}
		}
		return keys, nil
	}, nil
}

// shared lets calls with the same key id wait for one look-up: when an issuer
// changes its key everybody comes with the new one at once, and the key set is
// fetched for the first alone. The algorithm counts, for the key is checked to be
// one for it.
func shared(keys jwt.Keyfunc) jwt.Keyfunc {
	var group singleflight.Group
	return func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		key, err, _ := group.Do(token.Method.Alg()+" "+kid, func() (any, error) { return keys(token) })
		return key, err
	}
}

// critical refuses tokens that demand extensions (RFC 7515, section 4.1.11), of
// which none is known here.
func critical(keys jwt.Keyfunc) jwt.Keyfunc {
	return func(token *jwt.Token) (any, error) {
		if _, has := token.Header["crit"]; has {
			return nil, errors.New("the token demands an extension")
		}
		return keys(token)
	}
}

// Only has sound tokens refused, with the error of admit, whose account is not
// served. It must be called before the first token is checked.
func (v *Verifier) Only(admit func(account string) error) { v.admit = admit }

// Verify checks a token and returns its customer. It fails with UNAUTHENTICATED,
// with TOKEN_EXPIRED where the token is sound but for its expiry, or with
// ACCOUNT_UNKNOWN where its account is not served.
func (v *Verifier) Verify(_ context.Context, token string) (*Principal, error) {
	if token == "" {
		return nil, refused("there is no token")
	}
	if len(token) > maxToken {
		return nil, refused("the token is too long")
	}
	var c claims
	if _, err := v.parser.ParseWithClaims(token, &c, critical(v.keys)); err != nil {
		if errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid) && !otherFault(err) {
			return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED, "the token has expired").WithCause(err)
		}
		return nil, refused("the token is not valid here").WithCause(err)
	}
	p, err := v.principal(&c)
	if err != nil {
		return nil, err
	}
	if err := v.admit(p.Account); err != nil {
		return nil, err
	}
	return p, nil
}

// otherFault tells whether more than the expiry is wrong with a token.
func otherFault(err error) bool {
	for _, fault := range []error{
		jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable, jwt.ErrTokenInvalidAudience,
		jwt.ErrTokenInvalidIssuer, jwt.ErrTokenNotValidYet, jwt.ErrTokenRequiredClaimMissing,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

func (v *Verifier) principal(c *claims) (*Principal, error) {
	if c.Account == "" {
		c.Account = v.cfg.DefaultAccount
	}
	switch {
	case c.Subject == "":
		return nil, refused("the token has no claim sub")
	case strings.ContainsRune(c.Subject, utf8.RuneError) || strings.ContainsRune(c.AnonymousSubject, utf8.RuneError):
		// Whatever is no text has become this character: two such customers would be one.
		return nil, refused("the token's claim sub or anonymous_sub holds what is no text")
	case length(c.Subject) > maxSubject:
		return nil, refused("the token's claim sub is too long")
	case !accountPattern.MatchString(c.Account):
		return nil, refused("the token's claim account is not six letters")
	case c.Anonymous && c.Verified:
		return nil, refused("the token says anonymous and verified, of which one is wrong")
	case c.AnonymousSubject != "" && (c.Anonymous || c.AnonymousSubject == c.Subject):
		return nil, refused("the token's claim anonymous_sub needs a customer who is not anonymous any more")
	case length(c.AnonymousSubject) > maxSubject:
		return nil, refused("the token's claim anonymous_sub is too long")
	case length(c.Name) > maxName:
		return nil, refused("the token's claim name has more than 70 characters")
	case !validIdentifiers(c.Identifiers):
		return nil, refused("the token's claim identifiers breaks the limits: at most 10 names of 1 to 50 characters, each with 1 to 5 values of 1 to 256")
	}
	return &Principal{
		Account: c.Account, Subject: c.Subject, Name: c.Name, Identifiers: c.Identifiers,
		Anonymous: c.Anonymous, AnonymousSubject: c.AnonymousSubject,
		// A token that is accepted within the leeway must not end its stream at once.
		Verified: c.Verified, ExpireTime: c.ExpiresAt.Add(v.cfg.Leeway),
	}, nil
}

func validIdentifiers(ids map[string][]string) bool {
	if len(ids) > maxIdentifiers {
		return false
	}
	for name, values := range ids {
		if n := length(name); n < 1 || n > maxIdentifierName || len(values) < 1 || len(values) > maxIdentifierCount {
			return false
		}
		for _, v := range values {
			if n := length(v); n < 1 || n > maxIdentifierValue {
				return false
			}
		}
	}
	return true
}

// length counts in UTF-16 units, as AXP's limits do.
func length(s string) int { return len(utf16.Encode([]rune(s))) }

func refused(detail string) *errs.Error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, detail)
}
