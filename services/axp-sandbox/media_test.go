package sandbox_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

const signUpload = store + "/accounts/" + account + "/media/signed-upload-uri"

// upload sends a file to a signed address, without token and key.
func (b *box) upload(address, part, content string) answer {
	b.t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	f, err := w.CreateFormFile(part, "a.txt")
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		b.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.call(http.MethodPost, strings.TrimPrefix(address, b.url), form.String(),
		header("Content-Type", w.FormDataContentType()), header("Authorization", ""), header("appkey", ""))
}

// bare fetches a signed address without token and key.
func (b *box) bare(address string) answer {
	b.t.Helper()
	return b.call(http.MethodGet, strings.TrimPrefix(address, b.url), nil, header("Authorization", ""), header("appkey", ""))
}

func TestAFileGoesUpAndDownOverSignedAddresses(t *testing.T) {
	b := start(t, nil)
	up := b.post(signUpload, object{"mediaName": "a.txt", "mediaContentType": "text/plain", "mediaSize": 5}).want(200)
	id := up.text("mediaId")
	if up.text("mediaName") != "a.txt" || up.text("mediaContentType") != "text/plain" || into[object](up)["mediaSize"] != 5.0 {
		t.Errorf("the description is not repeated: %s", up.data)
	}
	down := func() string {
		t.Helper()
		return b.get(store + "/accounts/" + account + "/media/" + id + "/signed-download-uri").want(200).text("downloadSignedUri")
	}
	b.bare(down()).want(http.StatusNoContent) // nothing is there yet
	got := b.upload(up.text("uploadSignedUri"), "mediaFile", "hello").want(http.StatusAccepted)
	if got.text("mediaId") != id || got.text("mediaName") != "a.txt" {
		t.Errorf("the upload is answered %s", got.data)
	}
	file := b.bare(down()).want(200)
	if string(file.data) != "hello" || file.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("got %q as %s", file.data, file.header.Get("Content-Type"))
	}
}

func TestASignatureServesOneFileAndOneUse(t *testing.T) {
	b := start(t, nil)
	sign := func() answer {
		return b.post(signUpload, object{"mediaName": "a", "mediaContentType": "b", "mediaSize": 1}).want(200)
	}
	one, two := sign(), sign()
	address := one.text("uploadSignedUri")
	b.bare(address).refused("signature") // it is for the upload
	b.upload(strings.Replace(address, one.text("mediaId"), two.text("mediaId"), 1), "mediaFile", "x").refused("signature")
	b.upload(strings.Replace(address, "ttl=", "ttl=9", 1), "mediaFile", "x").refused("signature")
	b.upload(address[:strings.Index(address, "?")], "mediaFile", "x").refused("ttl")
	b.upload(address, "file", "x").refused("mediaFile")
	b.upload(address, "mediaFile", "x").want(http.StatusAccepted)
}

func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	b := start(t, nil)
	b.post(signUpload, object{"mediaName": "a", "mediaContentType": "b", "mediaSize": 11 << 20}).refused("mediaSize")
	address := b.post(signUpload, object{"mediaName": "a", "mediaContentType": "b", "mediaSize": 1}).want(200).text("uploadSignedUri")
	b.upload(address, "mediaFile", strings.Repeat("x", 10<<20+1)).refused("mediaFile")
}
