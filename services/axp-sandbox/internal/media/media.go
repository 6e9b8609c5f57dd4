// Package media owns files and their signed addresses. A signature covers the
// file's id, the use and the end of validity (epoch milliseconds), as AXP's
// published addresses suggest.
package media

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Info is AXP's SignedMediaInfo.
type Info struct {
	MediaID          string  `json:"mediaId,omitempty"`
	MediaName        string  `json:"mediaName"`
	MediaContentType string  `json:"mediaContentType"`
	MediaSize        float64 `json:"mediaSize"`
}

const (
	maxFile  = 10 << 20
	maxFiles = 1000
	validity = 15 * time.Minute
)

type file struct {
	info Info
	data []byte
	has  bool
}

// Store is safe for concurrent use.
type Store struct {
	now    func() time.Time
	secret []byte

	mu    sync.Mutex
	files map[string]*file
}

// New makes an empty store.
func New(now func() time.Time) (*Store, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	return &Store{now: now, secret: secret, files: map[string]*file{}}, nil
}

// Add keeps a file and returns an address to read it from.
func (s *Store) Add(name, contentType string, data []byte, origin string) (Info, string) {
	info := Info{MediaID: uuid.NewString(), MediaName: name, MediaContentType: contentType, MediaSize: float64(len(data))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[info.MediaID] = &file{info: info, data: data, has: true}
	return info, s.address(info.MediaID, "get", origin)
}

// SignUpload makes an address for a new file.
func (s *Store) SignUpload(in Info, origin string) (Info, string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.MediaSize > maxFile || len(s.files) >= maxFiles {
		return in, "", false
	}
	in.MediaID = uuid.NewString()
	s.files[in.MediaID] = &file{info: in}
	return in, s.address(in.MediaID, "post", origin), true
}

// SignDownload makes an address to read a file from.
func (s *Store) SignDownload(id, origin string) (Info, string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[id]
	if !ok {
		return Info{}, "", false
	}
	return f.info, s.address(id, "get", origin), true
}

func (s *Store) address(id, use, origin string) string {
	ttl := strconv.FormatInt(s.now().Add(validity).UnixMilli(), 10)
	return origin + "/api/media-store/v1/media/" + id + "?ttl=" + ttl + "&signature=" + s.sign(id, use, ttl)
}

func (s *Store) sign(id, use, ttl string) string {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(id + " " + use + " " + ttl))
	return hex.EncodeToString(mac.Sum(nil))
}

// open checks the signature.
func (s *Store) open(r *http.Request, use string) (*file, int) {
	q := r.URL.Query()
	id, ttl := r.PathValue("media"), q.Get("ttl")
	until, err := strconv.ParseInt(ttl, 10, 64)
	if err != nil || !hmac.Equal([]byte(q.Get("signature")), []byte(s.sign(id, use, ttl))) || s.now().UnixMilli() > until {
		return nil, http.StatusBadRequest
	}
	f, ok := s.files[id]
	if !ok {
		return nil, http.StatusNotFound
	}
	return f, 0
}

func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status}) // the caller has gone otherwise
}

// Upload takes a file: multipart/form-data, part mediaFile.
func (s *Store) Upload(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFile+(1<<20))
	part, _, err := r.FormFile("mediaFile")
	if err != nil {
		refuse(w, http.StatusBadRequest)
		return
	}
	defer part.Close()
	data, err := io.ReadAll(part)
	if err != nil {
		refuse(w, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, status := s.open(r, "post")
	if status != 0 {
		refuse(w, status)
		return
	}
	f.data, f.has = data, true
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]string{"mediaId": f.info.MediaID, "mediaName": f.info.MediaName}) // the caller has gone otherwise
}

// Download returns a file's bytes, or 204 where none were uploaded yet.
func (s *Store) Download(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f, status := s.open(r, "get")
	var data []byte
	var has bool
	if f != nil {
		data, has = f.data, f.has
	}
	s.mu.Unlock()
	switch {
	case status != 0:
		refuse(w, status)
	case !has:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data) // the caller has gone otherwise
	}
}
