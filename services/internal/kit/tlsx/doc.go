// Package tlsx owns certificates: it reads them, with their keys and the
// authorities that others are checked by, from PEM files, and again whenever the
// files have changed, so that a renewed certificate or another list of
// authorities needs no restart.
//
// It looks at the files when a connection is made, and only then: it has no
// goroutine, and connections that are open go on as they began. Files that can't
// be used, such as half of a renewal, change nothing: what was read before stays
// in use, and the log says so.
//
// It is called by grpcx, httpx and bus, knows no service and no protocol, and
// never logs more of a certificate than when it ends.
package tlsx
