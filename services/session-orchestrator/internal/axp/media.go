package axp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// mediaPart is the name of the file's part in an upload.
const mediaPart = "mediaFile"

// MediaFile is a file to upload.
type MediaFile struct {
	Name        string
	ContentType string
	// Size is the exact number of bytes that Content gives.
	Size int64
	// Content is read once. It may be read for a moment after UploadMedia has
	// returned with an error; do not use it again.
	Content io.Reader
}

// Media is a download under way.
type Media struct {
	// Body is the content; the caller reads it to its end or closes it. It
	// ends with the context of the call.
	Body io.ReadCloser
	// ContentType is as AXP says, which is often application/octet-stream.
	ContentType string
	// Size is the number of bytes, -1 if AXP does not say.
	Size int64
}

// signedMedia is the answer of the two signed-uri operations.
type signedMedia struct {
	MediaID           string `json:"mediaId"`
	MediaName         string `json:"mediaName"`
	MediaContentType  string `json:"mediaContentType"`
	MediaSize         Int    `json:"mediaSize"`
	UploadSignedURI   string `json:"uploadSignedUri"`
	DownloadSignedURI string `json:"downloadSignedUri"`
}

// SignedUploadURI gets an address to upload one file to.
func (c *Client) SignedUploadURI(ctx context.Context, info SignedMediaInfo) (*SignedMedia, error) {
	var out signedMedia
	if err := c.do(ctx, OpSignedUploadURI, input{body: info, out: &out}); err != nil {
		return nil, err
	}
	return c.signed(OpSignedUploadURI, out, out.UploadSignedURI)
}

// SignedDownloadURI gets an address to download one file from.
func (c *Client) SignedDownloadURI(ctx context.Context, mediaID string) (*SignedMedia, error) {
	var out signedMedia
	if err := c.do(ctx, OpSignedDownloadURI, input{ids: []string{mediaID}, out: &out}); err != nil {
		return nil, err
	}
	return c.signed(OpSignedDownloadURI, out, out.DownloadSignedURI)
}

func (c *Client) signed(name string, m signedMedia, address string) (*SignedMedia, error) {
	resolved, err := c.ResolveMediaURL(address)
	if err != nil {
		return nil, &Error{Operation: name, Status: http.StatusOK, Outcome: Unknown, Attempts: 1, Cause: err}
	}
	return &SignedMedia{
		MediaID:          m.MediaID,
		MediaName:        m.MediaName,
		MediaContentType: m.MediaContentType,
		MediaSize:        m.MediaSize.Value,
		URL:              resolved,
	}, nil
}

// ResolveMediaURL makes a media address absolute: relative ones such as
// "/v1/media/..." are meant under the account's media store. Query and
// signature stay byte for byte. An address on a host that is neither that of
// the account's BaseURL nor one of its MediaHosts gives ErrForeignMedia, so
// that a forged attachment cannot make the connector call somebody else.
func (c *Client) ResolveMediaURL(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return "", errors.New("the media address is malformed") // the reason would quote it
	}
	if u.Host == "" && u.Scheme == "" && u.Opaque == "" {
		// The address itself must begin so, not what it stands for: behind the origin,
		// %2F... would be a part of the host, or a user at another one.
		store := strings.TrimSuffix(mediaBase, "/v1")
		if strings.HasPrefix(address, store+"/") {
			return c.origin.String() + address, nil
		}
		return c.origin.String() + store + "/" + strings.TrimPrefix(address, "/"), nil
	}
	if u.Scheme != "https" && (u.Scheme != "http" || c.origin.Scheme != "http") {
		return "", fmt.Errorf("%w: scheme", ErrForeignMedia)
	}
	if u.User != nil || (!strings.EqualFold(u.Host, c.origin.Host) && !allowedHost(u.Hostname(), c.account.MediaHosts)) {
		return "", ErrForeignMedia
	}
	return address, nil
}

func allowedHost(host string, allowed []string) bool {
	host = strings.ToLower(host)
	for _, a := range allowed {
		a = strings.ToLower(a)
		if host == a || (strings.HasPrefix(a, ".") && strings.HasSuffix(host, a)) {
			return true
		}
	}
	return false
}

// UploadMedia uploads a file to a signed address, without token and key: the
// signature is the authority. It is never repeated after it was on its way.
func (c *Client) UploadMedia(ctx context.Context, signedURL string, file MediaFile) (*UploadMediaResponse, error) {
	op := c.operations[OpUploadMedia]
	address, err := c.ResolveMediaURL(signedURL)
	if err != nil {
		return nil, &Error{Operation: op.Name, Cause: err}
	}
	if file.Size < 1 || file.Content == nil {
		return nil, invalidRequest(op, "the file is empty")
	}
	head, tail, contentType, err := multipartFrame(file)
	if err != nil {
		return nil, invalidRequest(op, "the name of the file cannot be encoded")
	}
	ctx, end := c.observer.start(ctx, op)
	out := new(UploadMediaResponse)
	fail := func() *Error {
		body := io.MultiReader(bytes.NewReader(head), &exactly{file.Content, file.Size}, bytes.NewReader(tail))
		r, err := http.NewRequestWithContext(ctx, op.Method, address, body)
		if err != nil {
			return invalidRequest(op, "its address is malformed")
		}
		r.ContentLength = int64(len(head)) + file.Size + int64(len(tail))
		r.Header.Set("Content-Type", contentType)
		if fail := c.pass(ctx, op); fail != nil {
			return fail
		}
		began := c.clock.Now()
		// The caller's context bounds an upload, not the limit of one call:
		// large files take as long as they take.
		response, fail := c.openMedia(ctx, op, r) //nolint:bodyclose // read closes it
		if fail == nil {
			fail = c.read(response, request{op: op, out: out})
		}
		c.observeMedia(ctx, op, began, response, fail)
		c.heed(ctx, fail)
		return fail
	}()
	end(fail)
	if fail != nil {
		fail.Attempts = 1
		return nil, fail
	}
	return out, nil
}

// exactly reads a content of a known length and fails if it has another one.
// The upload is then broken off before its end, so that AXP does not keep a
// file that was cut.
type exactly struct {
	content io.Reader
	left    int64
}

// Read implements io.Reader.
func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		var probe [1]byte
		if n, err := io.ReadFull(e.content, probe[:]); n > 0 || !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: the file is longer than announced", ErrInvalidRequest)
		}
		return 0, io.EOF
	}
	n, err := e.content.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) {
		if e.left > 0 {
			return n, fmt.Errorf("%w: the file is shorter than announced", ErrInvalidRequest)
		}
		err = nil // the next call probes
	}
	return n, err
}

// multipartFrame gives what comes before and after the file's content, so that
// the length is known ahead and the content need not be held in memory.
func multipartFrame(file MediaFile) (head, tail []byte, contentType string, err error) {
	var frame bytes.Buffer
	w := multipart.NewWriter(&frame)
	mediaType := file.ContentType
	if _, _, parseErr := mime.ParseMediaType(mediaType); parseErr != nil {
		mediaType = "application/octet-stream"
	}
	header := textproto.MIMEHeader{}
	header.Set("Content-Disposition", multipart.FileContentDisposition(mediaPart, file.Name))
	header.Set("Content-Type", mediaType)
	if _, err = w.CreatePart(header); err != nil {
		return nil, nil, "", fmt.Errorf("building the upload: %w", err)
	}
	n := frame.Len()
	if err = w.Close(); err != nil {
		return nil, nil, "", fmt.Errorf("building the upload: %w", err)
	}
	return frame.Bytes()[:n:n], frame.Bytes()[n:], w.FormDataContentType(), nil
}

// DownloadMedia opens a signed address, without token and key. It is repeated
// until there is an answer, not after the first byte. An answer without
// content (204) gives an empty Body.
func (c *Client) DownloadMedia(ctx context.Context, signedURL string) (*Media, error) {
	op := c.operations[OpDownloadMedia]
	address, err := c.ResolveMediaURL(signedURL)
	if err != nil {
		return nil, &Error{Operation: op.Name, Cause: err}
	}
	ctx, end := c.observer.start(ctx, op)
	var media *Media
	fail := c.repeat(ctx, op, func() *Error {
		var fail *Error
		media, fail = c.download(ctx, op, address)
		return fail
	})
	end(fail)
	if fail != nil {
		return nil, fail
	}
	return media, nil
}

func (c *Client) download(ctx context.Context, op Operation, address string) (*Media, *Error) {
	if fail := c.pass(ctx, op); fail != nil {
		return nil, fail
	}
	// The limit of one call holds until the headers are there; the content may
	// take as long as the caller's context allows.
	attempt, cancel := context.WithCancelCause(ctx)
	limit := time.AfterFunc(c.config.CallTimeout, func() { cancel(ErrTimeout) })
	r, err := http.NewRequestWithContext(attempt, op.Method, address, nil)
	if err != nil {
		limit.Stop()
		cancel(nil)
		return nil, invalidRequest(op, "its address is malformed")
	}
	began := c.clock.Now()
	response, fail := c.openMedia(ctx, op, r) //nolint:bodyclose // read or the caller closes it
	limit.Stop()
	if fail == nil && (response.StatusCode < 200 || response.StatusCode > 299) {
		fail = c.read(response, request{op: op})
	}
	c.observeMedia(ctx, op, began, response, fail)
	c.heed(ctx, fail)
	if fail != nil {
		cancel(nil)
		return nil, fail
	}
	return &Media{
		Body:        &mediaBody{ReadCloser: response.Body, release: func() { cancel(nil) }},
		ContentType: response.Header.Get("Content-Type"),
		Size:        response.ContentLength,
	}, nil
}

// openMedia sends a request to a signed address: no token, no key.
func (c *Client) openMedia(ctx context.Context, op Operation, r *http.Request) (*http.Response, *Error) {
	r.Header.Set("User-Agent", c.userAgent)
	return c.send(ctx, op, r)
}

func (c *Client) observeMedia(ctx context.Context, op Operation, began time.Time, response *http.Response, fail *Error) {
	status, cause := 0, error(nil)
	if response != nil {
		status = response.StatusCode
	}
	if fail != nil {
		cause = fail.Cause
	}
	c.observer.attempt(ctx, op, c.clock.Now().Sub(began), status, cause)
}

// mediaBody gives up the context of its request when it is closed.
type mediaBody struct {
	io.ReadCloser
	release context.CancelFunc
}

// Close implements io.Closer.
func (b *mediaBody) Close() error {
	defer b.release()
	if err := b.ReadCloser.Close(); err != nil {
		return fmt.Errorf("closing the download: %w", err)
	}
	return nil
}
