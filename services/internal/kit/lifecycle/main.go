package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Exit codes of [Main].
const (
	exitOK       = 0
	exitFailure  = 1
	exitConfig   = 78  // EX_CONFIG of sysexits.h: a restart will not help
	exitAtSignal = 130 // as a shell reports an interrupted command
)

// Env is what a main gets from the outside.
type Env struct {
	// Name is the name of the command.
	Name string
	// Args holds the arguments without the name of the command.
	Args []string
	// Sources is where the configuration comes from.
	Sources config.Sources
	// Stdout gets what a subcommand prints; Stderr gets logs and mistakes.
	Stdout, Stderr io.Writer
}

// Main runs a command of the suite and returns its exit code: 0 after a clean
// end, 78 when the configuration is wrong, 1 for any other failure. The context
// of run ends at the first SIGINT or SIGTERM; the second ends the process at
// once with 130. Mistakes of the configuration are printed one a line. Garbage is
// collected when there is much of it, unless GOGC says otherwise.
//
//	func main() { os.Exit(lifecycle.Main("gateway", run)) }
//
//	func run(ctx context.Context, env lifecycle.Env) error {
//		var cfg gateway.Config
//		if handled, err := env.Command(&cfg); handled || err != nil {
//			return err
//		}
//		…
func Main(name string, run func(ctx context.Context, env Env) error) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	defer runtime.KeepAlive(heapFloor())
	p := process{
		env:     Env{Name: name, Args: os.Args[1:], Sources: config.OS(), Stdout: os.Stdout, Stderr: os.Stderr},
		signals: signals,
		exit:    os.Exit, // at the second signal nobody waits for main any more
	}
	return p.main(run)
}

// process is what Main touches of the operating system.
type process struct {
	env     Env
	signals <-chan os.Signal
	exit    func(code int)
}

func (p process) main(run func(ctx context.Context, env Env) error) int {
	ctx, cancel := context.WithCancel(context.Background())
	finished, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-p.signals:
			cancel()
		case <-finished:
			return
		}
		select {
		case <-p.signals:
			p.exit(exitAtSignal)
		case <-finished:
		}
	}()
	err := run(ctx, p.env)
	stopped := ctx.Err() != nil
	close(finished)
	<-watched
	cancel()
	if stopped && errors.Is(err, context.Canceled) {
		return exitOK // what was under way was given up because of the signal
	}
	return p.report(err)
}

// report prints an error and returns its exit code.
func (p process) report(err error) int {
	var mistakes config.Errors
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &mistakes):
		for _, m := range mistakes {
			_, _ = fmt.Fprintf(p.env.Stderr, "%s: configuration: %s\n", p.env.Name, m)
		}
		return exitConfig
	default:
		_, _ = fmt.Fprintf(p.env.Stderr, "%s: %s\n", p.env.Name, strings.ReplaceAll(err.Error(), "\n", "; "))
		return exitFailure
	}
}

// Subcommand is one that a single command has.
type Subcommand struct {
	// Name is one word.
	Name string
	// Help says in a line what it does.
	Help string
	// Args lets arguments follow the name, which Run reads itself.
	Args bool
	// Run carries it out.
	Run func() error
}

// help are the lines of the usage text for subcommands.
func help(own []Subcommand) string {
	var b strings.Builder
	for _, s := range own {
		_, _ = fmt.Fprintf(&b, "  %-16s %s\n", s.Name, s.Help) // never fails
	}
	return b.String()
}

// Command loads the configuration into cfg, a pointer to the command's Config,
// and carries out the subcommand when the arguments name one. When it has
// handled the call, the main is done and returns err; without arguments it only
// loads. Values that cfg holds before the call act as defaults.
//
// Subcommands: config print, config check, config doc, version, help, and those
// that the command has of its own, which load what they need themselves.
func (e Env) Command(cfg any, own ...Subcommand) (handled bool, err error) {
	switch strings.Join(e.Args, " ") {
	case "":
		return false, config.Load(cfg, e.Sources)
	case "config print":
		if err := config.Load(cfg, e.Sources); err != nil {
			return true, err
		}
		return true, config.Print(e.Stdout, cfg)
	case "config check":
		if err := config.Load(cfg, e.Sources); err != nil {
			return true, err
		}
		return true, e.print("the configuration has no mistakes\n")
	case "config doc":
		return true, config.Doc(e.Stdout, e.Name, cfg)
	case "version", "--version", "-version":
		return true, e.print("%s %s (%s %s/%s)\n", e.Name, Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	case "help", "--help", "-help", "-h":
		return true, e.print(usage, e.Name, help(own))
	default:
		if i := slices.IndexFunc(own, func(s Subcommand) bool { return e.Args[0] == s.Name && (len(e.Args) == 1 || s.Args) }); i >= 0 {
			return true, own[i].Run()
		}
		return true, fmt.Errorf("unknown arguments %q; try %s help", e.Args, e.Name)
	}
}

func (e Env) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(e.Stdout, format, args...); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

const usage = `Usage: %[1]s [command]

Without a command %[1]s runs until it gets SIGINT or SIGTERM; it then drains and
ends. A second signal ends it at once.

Commands:
%[2]s  config check     check the configuration and say what is wrong with it
  config print     print the effective configuration, secrets masked
  config doc       print the reference of all settings in Markdown
  version          print the version
  help             print this text

Settings come from environment variables, over the YAML file that CONFIG_FILE
names, over the defaults. For a secret KEY, KEY_FILE may name a file with it.

Exit codes: 0 ended cleanly, 1 failed, 78 the configuration is wrong, 130 ended
by a second signal.
`
