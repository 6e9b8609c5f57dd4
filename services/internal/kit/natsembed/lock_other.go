//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package natsembed

import "errors"

// lock refuses: without a lock two servers could write one directory.
func lock(string) (unlock func() error, err error) {
	return nil, errors.New("the embedded NATS server is not supported on this system; run one apart and set NATS_URL")
}
