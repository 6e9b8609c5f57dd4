package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// secret derives from one of the secrets. It is safe for concurrent use.
type secret struct {
	// Hashing the key takes as long as hashing what is signed, so each keyed hash
	// is used again; every callback needs two.
	macs sync.Pool
}

// keyed is a keyed hash, with the room for what is fed to it and comes out.
type keyed struct {
	mac  hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

// mostKept is how much room is kept for the next; only a stranger needs more.
const mostKept = 1024

func newSecret(key string) *secret {
	return &secret{macs: sync.Pool{New: func() any { return &keyed{mac: hmac.New(sha256.New, []byte(key))} }}}
}

// derive separates its parts with a byte that none of them can hold.
func (s *secret) derive(parts ...string) [sha256.Size]byte {
	k, _ := s.macs.Get().(*keyed) // nothing else is put in
	k.text = k.text[:0]
	for i, part := range parts {
		if i > 0 {
			k.text = append(k.text, 0)
		}
		k.text = append(k.text, part...)
	}
	k.mac.Reset()
	k.mac.Write(k.text)
	k.mac.Sum(k.sum[:0])
	sum := k.sum
	if cap(k.text) <= mostKept {
		s.macs.Put(k)
	}
	return sum
}

// fingerprint is 96 bits: nobody has two secrets with the same one by accident.
func (s *secret) fingerprint() string {
	sum := s.derive("fingerprint")
	return encode(sum[:12])
}
