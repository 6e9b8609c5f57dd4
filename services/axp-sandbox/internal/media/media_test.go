package media_test

import (
	"testing"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/media"
)

func TestTheOldestFilesGoWhereThereAreTooMany(t *testing.T) {
	store, err := media.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	add := func(n int) string {
		info, _ := store.Add("a", "b", make([]byte, n), "http://x")
		return info.MediaID
	}
	there := func(id string) bool {
		_, _, ok := store.SignDownload(id, "http://x")
		return ok
	}
	first := add(1)
	for range 999 {
		add(1)
	}
	if !there(first) {
		t.Error("the first of a thousand has gone")
	}
	last := add(1)
	if there(first) || !there(last) {
		t.Error("the oldest must go, the newest stay")
	}
	for range 26 { // of 10 MiB: more than is kept
		add(10 << 20)
	}
	if there(last) {
		t.Error("small files stay where large ones fill the store")
	}
}
