package suitetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
)

// Command is how a process is started, and started again.
type Command struct {
	Name   string
	Binary string
	Args   []string
	Env    map[string]string // all of it, but for PATH and HOME
	Dir    string            // working directory and home
	Log    io.Writer         // gets what the process writes; may be nil
}

// Process is a command of the suite, or a NATS server, that can be killed,
// frozen and started again on the same addresses. It is safe for concurrent use,
// but one caller at a time should change its life. It dies with this process.
type Process struct {
	Name string

	command Command
	log     logtest.Records

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{}
	starts int
}

// Launch starts a process.
func Launch(c Command) (*Process, error) {
	p := &Process{Name: c.Name, command: c}
	return p, p.Start()
}

// Setenv changes the environment of the next Start.
func (p *Process) Setenv(key, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	env := maps.Clone(p.command.Env)
	if env == nil {
		env = map[string]string{}
	}
	env[key] = value
	p.command.Env = env
}

// Start starts the process again after it has ended.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && !ended(p.done) {
		return fmt.Errorf("%s runs already", p.Name)
	}
	c := p.command
	cmd := exec.Command(c.Binary, c.Args...) //nolint:noctx,gosec // ended by Kill or Terminate; the caller's own binary
	cmd.Dir = c.Dir
	var out io.Writer = &p.log
	if c.Log != nil {
		out = c.Log
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir}
	for k, v := range c.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	p.starts++
	go func() { // ends with the process
		defer close(done)
		_ = cmd.Wait() // the state tells how it ended
	}()
	return nil
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func (p *Process) current() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.done
}

// Pid is the process's id.
func (p *Process) Pid() int {
	cmd, _ := p.current()
	return cmd.Process.Pid
}

// Starts is how often the process was started.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// Done is closed when the process, as it runs now, has ended.
func (p *Process) Done() <-chan struct{} {
	_, done := p.current()
	return done
}

// Log is all that the process has written, unless the command names a writer.
func (p *Process) Log() string { return p.log.String() }

// Kill ends the process without a chance to clean up, as kill -9 does.
func (p *Process) Kill() {
	cmd, done := p.current()
	_ = cmd.Process.Kill() // it may have ended already
	<-done
}

// Terminate asks the process to leave and waits for it; the error is its exit code's.
func (p *Process) Terminate(ctx context.Context) error {
	cmd, done := p.current()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-done:
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%s: exit code %d", p.Name, code)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not leave: %w", p.Name, ctx.Err())
	}
}

// Freeze stops the process where it stands, as a machine does that is paused or
// cut off; Thaw lets it go on.
func (p *Process) Freeze() error { return p.signal(freezeSignal) }

// Thaw ends Freeze.
func (p *Process) Thaw() error { return p.signal(thawSignal) }

func (p *Process) signal(s os.Signal) error {
	cmd, _ := p.current()
	if err := cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// WaitReady waits until the process answers 200 at url, for a minute at most.
func (p *Process) WaitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := p.Done()
	return Await(ctx, p.Name+" to be ready", func(ctx context.Context) (bool, error) {
		if ended(done) {
			return false, errors.New("it has ended")
		}
		try, stop := context.WithTimeout(ctx, 3*time.Second)
		defer stop()
		req, err := http.NewRequestWithContext(try, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil // not listening yet
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// Ports hands out addresses of the loopback interface that nobody listens on.
// They lie below the range from which the system takes the ports of outgoing
// connections: a process that starts again would else find its port taken by
// one. It is safe for concurrent use.
type Ports struct {
	mu    sync.Mutex
	given map[int]bool
}

const (
	firstPort = 12000
	lastPort  = 32000
)

// Addr is a free address.
func (p *Ports) Addr() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil {
		p.given = map[int]bool{}
	}
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // any will do
		if p.given[port] {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil { //nolint:noctx // closed at once
			p.given[port] = true
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port: %w", err)
}

// Build builds commands of this module, named by their package path below it or
// in full, into a folder.
func Build(ctx context.Context, dir string, packages ...string) error {
	_, file, _, _ := runtime.Caller(0)
	module := filepath.Join(filepath.Dir(file), "..", "..")
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", dir + string(filepath.Separator)}, packages...)...) //nolint:gosec // the caller's own packages
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(packages, " "), err, out)
	}
	return nil
}

// StartProcess runs a binary until the test ends; its output shows where the
// test fails.
func StartProcess(t testing.TB, name, binary string, env map[string]string, args ...string) *Process {
	t.Helper()
	p, err := Launch(Command{Name: name, Binary: binary, Args: args, Env: env, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- %s ---\n%s", name, tail(p.Log(), 6000))
		}
	})
	return p
}

// Binaries builds commands as Build does, into a folder of the test's.
func Binaries(t testing.TB, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := Build(t.Context(), dir, packages...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// WaitReady waits until a process says on its admin port that it is ready.
func WaitReady(t testing.TB, p *Process, url string) {
	t.Helper()
	if err := p.WaitReady(t.Context(), url); err != nil {
		t.Fatalf("%v\n%s", err, tail(p.Log(), 4000))
	}
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "..." + s[len(s)-n:]
}
