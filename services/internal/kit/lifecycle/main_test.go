package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/config"
)

type mainConfig struct {
	Port int           `env:"PORT" default:"80" doc:"Port."`
	Key  config.Secret `env:"KEY" required:"true" doc:"Key."`
	Name string        `env:"NAME" required:"true" doc:"Name."`
}

// outcome is what a call of a command leaves behind.
type outcome struct {
	code           int
	stdout, stderr string
	ran            bool
}

// call runs a command as its main does.
func call(env map[string]string, args ...string) outcome {
	var out outcome
	var stdout, stderr strings.Builder
	p := process{env: Env{Name: "demo", Args: args, Sources: config.Map(env), Stdout: &stdout, Stderr: &stderr}}
	out.code = p.main(func(_ context.Context, env Env) error {
		var cfg mainConfig
		own := Subcommand{Name: "tidy", Help: "put things in order", Run: func() error { return env.print("tidied\n") }}
		if handled, err := env.Command(&cfg, own); handled || err != nil {
			return err
		}
		out.ran = true
		return nil
	})
	out.stdout, out.stderr = stdout.String(), stderr.String()
	return out
}

func TestCommands(t *testing.T) {
	good := map[string]string{"KEY": "s3cret", "NAME": "n"}
	bad := map[string]string{"PORT": "x"}
	const mistakes = "demo: configuration: PORT: \"x\" is not a whole number of 64 bits\n" +
		"demo: configuration: KEY: is required: set the environment variable KEY (or KEY_FILE), or key in the configuration file\n" +
		"demo: configuration: NAME: is required: set the environment variable NAME, or name in the configuration file\n"
	for _, tc := range []struct {
		name   string
		env    map[string]string
		args   string
		code   int
		ran    bool
		stdout string // what it contains
		stderr string // what it is
	}{
		{"no arguments run the service", good, "", 0, true, "", ""},
		{"mistakes are printed one a line", bad, "", 78, false, "", mistakes},
		{"config print", good, "config print", 0, false, "PORT=80\nKEY=***\nNAME=n\n", ""},
		{"config print with mistakes", bad, "config print", 78, false, "", mistakes},
		{"config check", good, "config check", 0, false, "no mistakes", ""},
		{"config check with mistakes", bad, "config check", 78, false, "", mistakes},
		{"config doc needs no configuration", bad, "config doc", 0, false, "## demo\n\n| variable", ""},
		{"version", nil, "version", 0, false, "demo " + Version() + " (go", ""},
		{"--version", nil, "--version", 0, false, "demo ", ""},
		{"help", nil, "--help", 0, false, "config check", ""},
		{"help names its own", nil, "help", 0, false, "\n  tidy             put things in order\n  config check     check", ""},
		{"a command of its own needs no configuration", bad, "tidy", 0, false, "tidied\n", ""},
		{"anything else", good, "sing loud", 1, false, "", "demo: unknown arguments [\"sing\" \"loud\"]; try demo help\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := call(tc.env, strings.Fields(tc.args)...)
			if got.code != tc.code || got.ran != tc.ran || !strings.Contains(got.stdout, tc.stdout) || got.stderr != tc.stderr {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestMainReportsFailures(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"success", nil, 0, ""},
		{"failure on one line", errors.Join(errors.New("a"), errors.New("b")), 1, "demo: a; b\n"},
		{"a cancellation that no signal caused", context.Canceled, 1, "demo: context canceled\n"},
		{"wrapped mistakes", fmt.Errorf("start: %w", config.Errors{{Key: "K", Problem: "is bad"}}), 78, "demo: configuration: K: is bad\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stderr strings.Builder
			p := process{env: Env{Name: "demo", Stderr: &stderr}}
			code := p.main(func(context.Context, Env) error { return tc.err })
			if code != tc.code || stderr.String() != tc.want {
				t.Fatalf("%d %q", code, stderr.String())
			}
		})
	}
}

func TestTheFirstSignalEndsTheContextAndTheSecondTheProcess(t *testing.T) {
	signals := make(chan os.Signal)
	exited := make(chan int, 1)
	p := process{
		env:     Env{Name: "demo", Stderr: &strings.Builder{}},
		signals: signals,
		exit:    func(code int) { exited <- code },
	}
	code := p.main(func(ctx context.Context, _ Env) error {
		signals <- syscall.SIGTERM
		<-ctx.Done()
		signals <- os.Interrupt
		if code := <-exited; code != 130 {
			t.Errorf("second signal: %d", code)
		}
		return fmt.Errorf("wait: %w", ctx.Err())
	})
	if code != 0 {
		t.Fatalf("got %d", code)
	}
}

func TestMainHearsTheSignalsOfTheSystem(t *testing.T) {
	code := Main("demo", func(ctx context.Context, env Env) error {
		if env.Name != "demo" || env.Sources.Lookup == nil || env.Stdout == nil {
			t.Errorf("env: %+v", env)
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	if code != 0 {
		t.Fatalf("got %d", code)
	}
}
