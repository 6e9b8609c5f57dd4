package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// use is what a process holds.
type use struct {
	Goroutines int
	Memory     int64 // resident, in bytes
	Starts     int
}

const (
	// A process at rest may hold more goroutines than before: two for each HTTP
	// connection that idles for a minute and more until it is closed. What leaks
	// with each stream, call or callback leaks by the hundred here.
	spareGoroutines = 80
	// Memory that is free again is not given back at once, and the caches of what
	// was stored meanwhile are no leak.
	spareMemory = 48 << 20
	restLimit   = 30 * time.Second
)

// leaked says what is wrong with how a process ended, compared with how it began.
func leaked(before, now use) string {
	switch {
	case now.Goroutines > before.Goroutines+spareGoroutines:
		return fmt.Sprintf("%d goroutines, %d before", now.Goroutines, before.Goroutines)
	case now.Memory > 2*before.Memory+spareMemory:
		return fmt.Sprintf("%d MiB, %d before", now.Memory>>20, before.Memory>>20)
	}
	return ""
}

// measure reads what a pod holds from its metrics.
func (s *service) measure(ctx context.Context) (use, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.admin+"/metrics", nil)
	if err != nil {
		return use{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return use{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return use{}, err
	}
	u := use{Goroutines: -1, Memory: -1, Starts: s.Starts()}
	for line := range strings.Lines(string(body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "go_goroutines":
			u.Goroutines = int(number)
		case name == "process_resident_memory_bytes":
			u.Memory = int64(number)
		}
	}
	if u.Goroutines < 0 || u.Memory < 0 {
		return u, fmt.Errorf("%s does not tell go_goroutines and process_resident_memory_bytes", s.Name)
	}
	return u, nil
}

// profile keeps what the goroutines of a pod that has too many are doing.
func (s *service) profile(ctx context.Context, file string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.admin+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // it would have been of use, no more
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		_ = os.WriteFile(file, body, 0o600) // the same
	}
}

// resident reads a process's memory from the system; 0 where it does not tell.
func resident(pid int) int64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// rest sends everybody home and looks at what the services hold then. Where
// there is a measurement from before, it waits for them to come down to it.
func (r *run) rest(ctx context.Context, moment, before string) error {
	for _, c := range r.clients {
		c.leave()
	}
	defer func() {
		for _, c := range r.clients {
			c.comeBack()
		}
	}()
	if before == "" {
		pause(ctx, 3*time.Second) // for connections to be given up
	}
	for _, s := range r.stage.services() {
		within, cancel := context.WithTimeout(ctx, restLimit)
		err := suitetest.Await(within, s.Name+" to rest", func(ctx context.Context) (bool, error) {
			u, err := s.measure(ctx)
			if err != nil {
				return false, err
			}
			s.usage[moment] = u
			if before == "" || leaked(s.usage[before], u) == "" {
				return true, nil
			}
			pause(ctx, 500*time.Millisecond)
			return false, nil
		})
		cancel()
		if err != nil && within.Err() == nil {
			return err
		}
		if before != "" {
			if what := leaked(s.usage[before], s.usage[moment]); what != "" {
				r.report.Leaks = append(r.report.Leaks, s.Name+" "+moment+": "+what)
				s.profile(ctx, filepath.Join(r.stage.logs, s.Name+" "+moment+".goroutines"))
			}
		}
	}
	return ctx.Err()
}
