package tlsx

import (
	"bytes"
	"os"
	"time"
)

// settling is more than the grain of file systems' clocks. A file that changed
// less than this before it was looked at may change again at what its time calls
// the same moment.
const settling = 2 * time.Second

// look returns what tells a file from its successor, and whether that can be
// relied upon. A file that is not there is nil.
func look(f Files) ([]os.FileInfo, bool) {
	settled, began := true, time.Now()
	var out []os.FileInfo
	for _, name := range []string{f.Cert, f.Key, f.CA} {
		if name == "" {
			continue
		}
		// Secrets of Kubernetes are links to links; the file behind them counts.
		info, err := os.Stat(name)
		if err != nil {
			info = nil
		}
		settled = settled && info != nil && began.Sub(info.ModTime()) > settling
		out = append(out, info)
	}
	return out, settled
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			return false
		}
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// beginsBlock tells whether a block begins here that pem.Decode did not find the
// end of.
func beginsBlock(rest []byte) bool { return bytes.Contains(rest, []byte("-----BEGIN")) }
