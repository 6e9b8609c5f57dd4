package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the kernel's unit of CPU time in /proc (USER_HZ), the same on all
// platforms that Go runs on.
const tick = 10 * time.Millisecond

// cpuOf is the CPU time that a process has used, in user and kernel mode.
func cpuOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/pid/stat is not as expected")
	}
	return ticks(fields[11:13])
}

// busy is the CPU time that all processes of the machine have used.
func busy() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq
	if len(fields) < 8 {
		return 0, errors.New("/proc/stat is not as expected")
	}
	return ticks([]string{fields[1], fields[2], fields[3], fields[6], fields[7]})
}

func ticks(fields []string) (time.Duration, error) {
	var sum time.Duration
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// usage is what was used between two moments.
type usage struct {
	parts  map[string]time.Duration
	others time.Duration // by processes that have no part in the benchmark
	wall   time.Duration
}

// meter measures the processes of a side.
type meter struct {
	side  *side
	rest  []*part // of the other side, which is not idle altogether
	at    time.Time
	began map[string]time.Duration
}

func newMeter(s, other *side) (*meter, error) {
	m := &meter{side: s, at: time.Now()}
	if other != nil {
		m.rest = other.parts()
	}
	var err error
	m.began, err = m.read()
	return m, err
}

func (m *meter) read() (map[string]time.Duration, error) {
	out := map[string]time.Duration{}
	var err error
	if out["all"], err = busy(); err != nil {
		return nil, err
	}
	if out["own"], err = cpuOf(os.Getpid()); err != nil {
		return nil, err
	}
	for _, p := range m.rest {
		cpu, err := cpuOf(p.Pid())
		if err != nil {
			return nil, err
		}
		out["rest"] += cpu
	}
	for _, p := range m.side.parts() {
		if out[p.name], err = cpuOf(p.Pid()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (m *meter) stop() (usage, error) {
	now, err := m.read()
	if err != nil {
		return usage{}, err
	}
	u := usage{parts: map[string]time.Duration{}, wall: time.Since(m.at)}
	u.others = now["all"] - m.began["all"] - (now["own"] - m.began["own"]) - (now["rest"] - m.began["rest"])
	for _, p := range m.side.parts() {
		u.parts[p.name] = now[p.name] - m.began[p.name]
		u.others -= u.parts[p.name]
	}
	u.others = max(u.others, 0)
	return u, nil
}

// memory of a process, in bytes.
type memory struct {
	RSS     float64 // as it grew, with what the collector has not given back
	Settled float64 // RSS after a collection
	Heap    float64 // in use after it, of that
	Stacks  float64 // of goroutines, in use after it
}

func (m memory) minus(o memory, n int) memory {
	d := float64(n)
	return memory{RSS: (m.RSS - o.RSS) / d, Settled: (m.Settled - o.Settled) / d, Heap: (m.Heap - o.Heap) / d, Stacks: (m.Stacks - o.Stacks) / d}
}

// weigh collects the process's garbage and tells its memory.
func weigh(ctx context.Context, p *part) (memory, error) {
	var m memory
	var err error
	if m.RSS, err = rss(p.Pid()); err != nil {
		return m, err
	}
	// The text form ends with the runtime's own figures.
	text, err := fetch(ctx, p.admin+"/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return m, err
	}
	if m.Settled, err = rss(p.Pid()); err != nil {
		return m, err
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " = ")
		value, _, _ := strings.Cut(rest, " / ")
		switch name {
		case "# HeapInuse":
			m.Heap, err = strconv.ParseFloat(value, 64)
		case "# Stack":
			m.Stacks, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

func rss(pid int) (float64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, errors.New("/proc/pid/statm is not as expected")
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()), err
}

// fetch reads a page of an admin server.
func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return data, err
}
