package axp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func TestMediaAddresses(t *testing.T) {
	c := newClient(t, "https://eu.axp.example", func(p *axp.Params) {
		p.Account.MediaHosts = []string{"media.axp.example", ".cdn.example"}
	})
	good := map[string]string{
		"/v1/media/m?ttl=1&signature=a%2Bb":                                 "https://eu.axp.example/api/media-store/v1/media/m?ttl=1&signature=a%2Bb",
		"v1/media/m?ttl=1":                                                  "https://eu.axp.example/api/media-store/v1/media/m?ttl=1",
		"/api/media-store/v1/media/m?ttl=1":                                 "https://eu.axp.example/api/media-store/v1/media/m?ttl=1",
		"https://eu.axp.example/api/media-store/v1/media/m?signature=Zz%3D": "https://eu.axp.example/api/media-store/v1/media/m?signature=Zz%3D",
		"https://EU.axp.example/x":                                          "https://EU.axp.example/x",
		"https://media.axp.example/x":                                       "https://media.axp.example/x",
		"https://a.b.cdn.example/x":                                         "https://a.b.cdn.example/x",
	}
	for address, want := range good {
		if got, err := c.ResolveMediaURL(address); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", address, got, err, want)
		}
	}
	for _, address := range []string{
		"https://evil.example/x", "https://cdn.example/x", "https://evilcdn.example/x", "//evil.example/x", "http://eu.axp.example/x",
		"https://eu.axp.example@evil.example/x", "https://u:p@eu.axp.example/x", "https://eu.axp.example:8443/x", "file:///etc/passwd",
		"javascript:alert(1)", "http://169.254.169.254/latest", "https:evil.example/x", "https:///evil.example/x", "data:text/html,x",
		"https://eu.axp.example.evil.example/x", "https://.cdn.example.evil.example/x",
	} {
		if got, err := c.ResolveMediaURL(address); !errors.Is(err, axp.ErrForeignMedia) {
			t.Errorf("%s: got %s, %v; want ErrForeignMedia", address, got, err)
		}
	}
	for _, address := range []string{"", "https://%", ":", "https://eu.axp.example\\@evil.example/x"} {
		if got, err := c.ResolveMediaURL(address); err == nil {
			t.Errorf("%q: got %s, want an error", address, got)
		}
	}
	// Whatever a relative address is made of, it stays on the account's own host.
	for _, address := range []string{
		"%2Fapi/media-store/@evil.example/x", "%2fapi%2fmedia-store%2f@evil.example/x", "%2Fapi/media-store/x", "@evil.example/x", ".evil.example/x", ":80@evil.example/x",
		"///evil.example/x", "/\\evil.example/x", "\\\\evil.example/x", "/api/media-store/..//evil.example/x", "?@evil.example", "#@evil.example", ";@evil.example",
	} {
		got, err := c.ResolveMediaURL(address)
		if u, parsed := url.Parse(got); err == nil && (parsed != nil || u.Host != "eu.axp.example" || u.User != nil || !strings.HasPrefix(got, "https://eu.axp.example/")) {
			t.Errorf("%s leads to %s", address, got)
		}
	}
	if _, err := c.DownloadMedia(t.Context(), "https://evil.example/x"); !errors.Is(err, axp.ErrForeignMedia) {
		t.Errorf("got %v, want ErrForeignMedia", err)
	}
}

func TestUploadIsOneMultipartOfKnownLength(t *testing.T) {
	name := "résumé \"x\"\r\n.pdf"
	f := newFakeAXP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength <= 0 {
			t.Errorf("content length is %d", r.ContentLength)
		}
		file, header, err := r.FormFile("mediaFile")
		if err != nil {
			t.Errorf("no part mediaFile: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		content, err := io.ReadAll(file)
		if err != nil || string(content) != "hello" || header.Header.Get("Content-Type") != "application/pdf" {
			t.Errorf("got %q of %s, %v", content, header.Header.Get("Content-Type"), err)
		}
		answer(w, 202, `{"mediaId":"m","mediaName":"n"}`)
	})
	got, err := f.client().UploadMedia(t.Context(), "/v1/media/m?ttl=1&signature=s", axp.MediaFile{
		Name: name, ContentType: "application/pdf", Size: 5, Content: strings.NewReader("hello"),
	})
	if err != nil || got.MediaID != "m" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUploadOfAnotherLengthFails(t *testing.T) {
	f := newFakeAXP(t, func(http.ResponseWriter, *http.Request) { t.Error("AXP got the whole of a file that was cut") })
	for _, content := range []string{"hell", "hello!"} {
		_, err := f.client().UploadMedia(t.Context(), "/v1/media/m", axp.MediaFile{
			Name: "n", ContentType: "not a type", Size: 5, Content: strings.NewReader(content),
		})
		if !errors.Is(err, axp.ErrInvalidRequest) {
			t.Errorf("%q as 5 bytes: got %v, want ErrInvalidRequest", content, err)
		}
	}
}

func TestDownload(t *testing.T) {
	t.Run("streams more than an answer may hold", func(t *testing.T) {
		big := strings.Repeat("x", 3<<20)
		f := newFakeAXP(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.WriteString(w, big)
		})
		media, err := f.client().DownloadMedia(t.Context(), "/v1/media/m")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(media.Body)
		if err != nil || len(got) != len(big) || media.ContentType != "application/octet-stream" {
			t.Errorf("got %d bytes of %s, %v", len(got), media.ContentType, err)
		}
		if err := media.Body.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("outlives the limit of one call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := wiredClient(t, wire(func(r *http.Request) (*http.Response, error) {
				answer := reply(200, "")
				answer.Body = io.NopCloser(slowBody{r.Context(), strings.NewReader("the content")})
				return answer, nil
			}))
			media, err := c.DownloadMedia(t.Context(), "/v1/media/m")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(media.Body); err != nil || string(got) != "the content" {
				t.Errorf("got %q, %v", got, err)
			}
			if err := media.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("may have no content", func(t *testing.T) {
		f := newFakeAXP(t, always(204, ""))
		media, err := f.client().DownloadMedia(t.Context(), "/v1/media/m")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(media.Body); err != nil || len(got) != 0 || media.Size != 0 {
			t.Errorf("got %d bytes, size %d, %v", len(got), media.Size, err)
		}
		_ = media.Body.Close()
	})
	t.Run("ends with the limit of one call without an answer", func(t *testing.T) {
		f := newFakeAXP(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		client := f.client(func(p *axp.Params) { p.Config.CallTimeout, p.Config.MaxAttempts = 50*time.Millisecond, 1 })
		if _, err := client.DownloadMedia(t.Context(), "/v1/media/m"); !errors.Is(err, axp.ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
	})
	t.Run("ends with the caller", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFakeAXP(t, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		if _, err := f.client().DownloadMedia(ctx, "/v1/media/m"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the cancellation", err)
		}
	})
}

func TestSignedAddressOnAForeignHostIsRefused(t *testing.T) {
	f := newFakeAXP(t, always(200, `{"mediaId":"m","uploadSignedUri":"https://evil.example/x","downloadSignedUri":"https://evil.example/x"}`))
	c := f.client()
	if _, err := c.SignedUploadURI(t.Context(), axp.SignedMediaInfo{MediaName: "n", MediaContentType: "t", MediaSize: 1}); !errors.Is(err, axp.ErrForeignMedia) {
		t.Errorf("got %v", err)
	}
	if _, err := c.SignedDownloadURI(t.Context(), "m"); !errors.Is(err, axp.ErrForeignMedia) {
		t.Errorf("got %v", err)
	}
}

// slowBody takes a minute for each read, as long as its request lives.
type slowBody struct {
	ctx  context.Context // that of the request, as in net/http
	text io.Reader
}

func (b slowBody) Read(p []byte) (int, error) {
	if err := (axp.SystemClock{}).Sleep(b.ctx, time.Minute); err != nil {
		return 0, err
	}
	return b.text.Read(p)
}
