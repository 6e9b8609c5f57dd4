package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// profiler writes profiles into a folder; nil writes none.
type profiler struct {
	dir string
}

func newProfiler(dir string) (*profiler, error) {
	if dir == "" {
		return nil, nil //nolint:nilnil // nil is a profiler that does nothing
	}
	return &profiler{dir: dir}, os.MkdirAll(dir, 0o750)
}

func (p *profiler) save(ctx context.Context, s *side, part *part, name, path string) error {
	data, err := fetch(ctx, part.admin+path)
	if err != nil {
		return fmt.Errorf("profile of %s: %w", part.name, err)
	}
	return os.WriteFile(filepath.Join(p.dir, s.name+"-"+part.name+"-"+name+".pprof"), data, 0o600)
}

// load profiles a side's processes while one more round runs, which counts for
// no figure: profiling costs time.
func (p *profiler) load(ctx context.Context, s *side, d time.Duration, drive func(context.Context) error) error {
	if p == nil {
		return nil
	}
	seconds := max(1, int(d.Seconds()))
	group, groupCtx := errgroup.WithContext(ctx)
	for _, part := range s.parts() {
		group.Go(func() error {
			return p.save(groupCtx, s, part, "cpu", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
		})
	}
	group.Go(func() error { return drive(groupCtx) })
	if err := group.Wait(); err != nil {
		return err
	}
	for _, part := range s.parts() {
		if err := p.save(ctx, s, part, "allocs", "/debug/pprof/allocs"); err != nil {
			return err
		}
	}
	return nil
}

// idle profiles the memory and the goroutines of a gateway whose clients idle.
func (p *profiler) idle(ctx context.Context, s *side, transport string) error {
	if p == nil {
		return nil
	}
	if err := p.save(ctx, s, s.gateway, "idle-"+transport+"-heap", "/debug/pprof/heap?gc=1"); err != nil {
		return err
	}
	return p.save(ctx, s, s.gateway, "idle-"+transport+"-goroutine", "/debug/pprof/goroutine")
}
