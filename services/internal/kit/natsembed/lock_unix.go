//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package natsembed

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock takes an exclusive lock that the kernel gives free when the process ends,
// however it ends: a lock file by its mere existence would outlive a crash.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("in use by another process")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	return f.Close, nil
}
