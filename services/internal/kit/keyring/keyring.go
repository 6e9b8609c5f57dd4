// Package keyring owns the two proofs that a callback comes from AXP: the key
// in the callback's path, and the code inside AXP's providerDialogId. AXP signs
// nothing, so both are derived from one secret of ours (HMAC-SHA-256) and
// compared in constant time. Two secrets may be valid at a time, so that one
// can be replaced while chats go on. It never stores or logs a key.
package keyring

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// minSecret is the shortest secret taken, in bytes: half of the hash's length.
const minSecret = 16

// proofBytes is the length of the code in a providerDialogId before encoding:
// 128 bits, more than anybody can guess against a live service.
const proofBytes = 16

// Config names the secrets.
type Config struct {
	Secret   config.Secret `env:"WEBHOOK_SECRET" required:"true" doc:"Derives the callback key and the proof in providerDialogId; at least 16 bytes."`
	Previous config.Secret `env:"WEBHOOK_SECRET_PREVIOUS" doc:"The secret before, still honoured while callbacks and chats that were made with it live."`
}

// Validate reports secrets that are too short.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	for _, s := range []struct {
		key   string
		value config.Secret
	}{{"WEBHOOK_SECRET", c.Secret}, {"WEBHOOK_SECRET_PREVIOUS", c.Previous}} {
		if n := len(s.value.Reveal()); n > 0 && n < minSecret {
			ms = append(ms, config.Mistake{Key: s.key, Problem: fmt.Sprintf("must have at least %d bytes", minSecret)})
		}
	}
	return ms
}

// Keyring derives and checks proofs. It is safe for concurrent use.
type Keyring struct {
	current  *secret
	previous *secret // nil where there is none
}

// New checks the secrets' lengths and makes a keyring of them.
func New(cfg Config) (*Keyring, error) {
	current, previous := cfg.Secret.Reveal(), cfg.Previous.Reveal()
	if len(current) < minSecret {
		return nil, fmt.Errorf("WEBHOOK_SECRET must have at least %d bytes", minSecret)
	}
	k := &Keyring{current: newSecret(current)}
	if previous == "" {
		return k, nil
	}
	if len(previous) < minSecret {
		return nil, fmt.Errorf("WEBHOOK_SECRET_PREVIOUS must have at least %d bytes", minSecret)
	}
	k.previous = newSecret(previous)
	return k, nil
}

// CallbackKey is the unguessable part of the callback path of an account.
func (k *Keyring) CallbackKey(account string) string {
	key := k.current.derive("callback", account)
	return encode(key[:])
}

// PreviousCallbackKey is the same under the secret before, where there is one.
func (k *Keyring) PreviousCallbackKey(account string) (string, bool) {
	if k.previous == nil {
		return "", false
	}
	key := k.previous.derive("callback", account)
	return encode(key[:]), true
}

// Fingerprint names the secret without telling it: replicas compare by it which
// one they have.
func (k *Keyring) Fingerprint() string { return k.current.fingerprint() }

// PreviousFingerprint is the same of the secret before; empty where there is none.
func (k *Keyring) PreviousFingerprint() string {
	if k.previous == nil {
		return ""
	}
	return k.previous.fingerprint()
}

// Swapped is a keyring with the same two secrets the other way round; false where
// there is one alone.
func (k *Keyring) Swapped() (*Keyring, bool) {
	if k.previous == nil {
		return nil, false
	}
	return &Keyring{current: k.previous, previous: k.current}, true
}

// CheckCallbackKey tells whether key is valid for the account, in constant time.
func (k *Keyring) CheckCallbackKey(account, key string) bool {
	ok := subtle.ConstantTimeCompare([]byte(key), []byte(k.CallbackKey(account))) == 1
	if previous, has := k.PreviousCallbackKey(account); has {
		ok = subtle.ConstantTimeCompare([]byte(key), []byte(previous)) == 1 || ok
	}
	return ok
}

// CallbackPath is the path of the webhook of an account, up to its key.
func CallbackPath(account string) string { return "/webhooks/axp/" + account + "/" }

// CallbackURL is what AXP is told to call for an account.
func (k *Keyring) CallbackURL(publicURL, account string) (string, error) {
	u, err := url.Parse(publicURL)
	if err != nil {
		return "", fmt.Errorf("parse WEBHOOK_PUBLIC_URL: %w", err)
	}
	if u.Scheme == "" || u.Host == "" {
		return "", errors.New("WEBHOOK_PUBLIC_URL must be an absolute URL")
	}
	return strings.TrimRight(u.String(), "/") + CallbackPath(account) + k.CallbackKey(account), nil
}

// DialogID is what a providerDialogId of ours says.
type DialogID struct {
	Session    string
	Engagement string
}

// Verdict is what became of checking a providerDialogId.
type Verdict int

const (
	// Foreign is a value that we did not make and that does not look so.
	Foreign Verdict = iota
	// Ours carries a proof that holds.
	Ours
	// Forged looks like ours, but its proof does not hold.
	Forged
)

// MintDialogID makes the providerDialogId of an engagement:
// <session>.<engagement>.<proof>. Its length is at most 152 of AXP's 256.
func (k *Keyring) MintDialogID(account, session, engagement string) string {
	return session + "." + engagement + "." + dialogProof(k.current, account, DialogID{Session: session, Engagement: engagement})
}

// ParseDialogID reads a providerDialogId and checks its proof in constant time.
func (k *Keyring) ParseDialogID(account, s string) (DialogID, Verdict) {
	id, text, ok := splitDialogID(s)
	if !ok {
		return DialogID{}, Foreign
	}
	proof := []byte(text)
	if subtle.ConstantTimeCompare(proof, []byte(dialogProof(k.current, account, id))) == 1 {
		return id, Ours
	}
	if k.previous != nil && subtle.ConstantTimeCompare(proof, []byte(dialogProof(k.previous, account, id))) == 1 {
		return id, Ours
	}
	return DialogID{}, Forged
}

// PublicDialogID is a providerDialogId without its proof, fit for clients;
// other values are returned as they are.
func PublicDialogID(s string) string {
	id, _, ok := splitDialogID(s)
	if !ok {
		return s
	}
	return id.Session + "." + id.Engagement
}

// proofLength is the length of a proof in base64url.
const proofLength = 22

// splitDialogID reads the form of our providerDialogIds; ok says nothing about
// the proof.
func splitDialogID(s string) (id DialogID, proof string, ok bool) {
	session, rest, _ := strings.Cut(s, ".")
	engagement, proof, _ := strings.Cut(rest, ".")
	if len(proof) != proofLength || !isToken(session) || !isToken(engagement) || !isToken(proof) {
		return DialogID{}, "", false
	}
	return DialogID{Session: session, Engagement: engagement}, proof, true
}

// isToken tells whether s may be part of a NATS subject.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// dialogProof is the proof of a dialog as it stands in its id.
func dialogProof(s *secret, account string, id DialogID) string {
	proof := s.derive("dialog", account, id.Session, id.Engagement)
	return encode(proof[:proofBytes])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
