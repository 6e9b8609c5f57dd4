// Package media owns files and their signed addresses. A signature covers the
// file's id, the use and the end of validity (epoch milliseconds), as AXP's
// published addresses suggest.
package media

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/axpchat/connector/services/axp-sandbox/internal/reply"
)

// Info is AXP's SignedMediaInfo.
type Info struct {
	MediaID          string  `json:"mediaId,omitempty"`
	MediaName        string  `json:"mediaName"`
	MediaContentType string  `json:"mediaContentType"`
	MediaSize        float64 `json:"mediaSize"`
}

// MaxFile bounds one file, in bytes.
const MaxFile = 10 << 20

// What is kept of files; the oldest go first.
const (
	maxFiles = 1000
	maxBytes = 256 << 20
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
	order []string // oldest first
	bytes int
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
	s.keep(&file{info: info, data: data, has: true})
	return info, s.address(info.MediaID, "get", origin)
}

// SignUpload makes an address for a new file; it refuses what is too large.
func (s *Store) SignUpload(in Info, origin string) (Info, string, bool) {
	if in.MediaSize > MaxFile {
		return in, "", false
	}
	in.MediaID = uuid.NewString()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(&file{info: in})
	return in, s.address(in.MediaID, "post", origin), true
}

// keep takes a new file and lets old ones go; mu is held.
func (s *Store) keep(f *file) {
	s.files[f.info.MediaID] = f
	s.order = append(s.order, f.info.MediaID)
	s.bytes += len(f.data)
	s.trim()
}

func (s *Store) trim() {
	for len(s.order) > 1 && (len(s.order) > maxFiles || s.bytes > maxBytes) {
		s.bytes -= len(s.files[s.order[0]].data)
		delete(s.files, s.order[0])
		s.order = s.order[1:]
	}
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

// open checks the signature; mu is held. It says which file, or why not.
func (s *Store) open(r *http.Request, use string) (f *file, status int, detail string) {
	q := r.URL.Query()
	id, ttl := r.PathValue("media"), q.Get("ttl")
	until, err := strconv.ParseInt(ttl, 10, 64)
	switch {
	case err != nil:
		return nil, http.StatusBadRequest, "ttl"
	case !hmac.Equal([]byte(q.Get("signature")), []byte(s.sign(id, use, ttl))):
		return nil, http.StatusBadRequest, "signature"
	case s.now().UnixMilli() > until:
		return nil, http.StatusBadRequest, "ttl"
	}
	f, ok := s.files[id]
	if !ok {
		return nil, http.StatusNotFound, ""
	}
	return f, 0, ""
}

func refuse(w http.ResponseWriter, r *http.Request, status int, field string) {
	p := map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "instance": r.URL.EscapedPath(), "detail": "media does not exist",
	}
	if field != "" {
		p["detail"] = "Validation failed"
		p["violations"] = []map[string]any{{"field": field, "message": "is missing, not valid or expired", "code": invalid}}
	}
	reply.Problem(w, status, p)
}

// invalid is AXP's code for a value of the wrong form.
const invalid = 20006

// Upload takes a file: multipart/form-data, part mediaFile. The signature is
// checked before anything is read.
func (s *Store) Upload(w http.ResponseWriter, r *http.Request) {
	if _, status, field := s.locked(r, "post"); status != 0 {
		refuse(w, r, status, field)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxFile+(1<<20))
	part, header, err := r.FormFile("mediaFile")
	if r.MultipartForm != nil {
		defer func() { _ = r.MultipartForm.RemoveAll() }() // a temporary file that stays is the system's to remove
	}
	if err != nil || header.Size > MaxFile {
		refuse(w, r, http.StatusBadRequest, "mediaFile")
		return
	}
	defer part.Close()
	data, err := io.ReadAll(part)
	if err != nil {
		refuse(w, r, http.StatusBadRequest, "mediaFile")
		return
	}
	s.mu.Lock()
	f, status, field := s.open(r, "post") // it may have gone or expired meanwhile
	if status == 0 {
		s.bytes += len(data) - len(f.data)
		f.data, f.has = data, true
		s.trim()
	}
	s.mu.Unlock()
	if status != 0 {
		refuse(w, r, status, field)
		return
	}
	reply.JSON(w, http.StatusAccepted, map[string]string{"mediaId": f.info.MediaID, "mediaName": f.info.MediaName})
}

func (s *Store) locked(r *http.Request, use string) (file, int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, status, field := s.open(r, use)
	if f == nil {
		return file{}, status, field
	}
	return *f, status, field
}

// Download returns a file's bytes, or 204 where none were uploaded yet.
func (s *Store) Download(w http.ResponseWriter, r *http.Request) {
	f, status, field := s.locked(r, "get")
	switch {
	case status != 0:
		refuse(w, r, status, field)
	case !f.has:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Length", strconv.Itoa(len(f.data)))
		_, _ = w.Write(f.data) // the caller has gone otherwise
	}
}
