package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/webhooks"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// saveAfter is how long changes are collected before they are written.
const saveAfter = 200 * time.Millisecond

// disk keeps the world over restarts.
type disk struct {
	path  string
	world *world.World
	hooks *webhooks.Hooks
	log   *slog.Logger
	dirty chan struct{}
}

type saved struct {
	World         json.RawMessage      `json:"world"`
	Subscriptions []world.Subscription `json:"subscriptions"`
	Pending       []webhooks.Job       `json:"pending"` // callbacks
}

func (d *disk) load() error {
	if d.path == "" {
		return nil
	}
	data, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var in saved
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	if err := d.world.Load(in.World); err != nil {
		return err
	}
	d.hooks.Restore(in.Subscriptions, in.Pending)
	return nil
}

// run writes changes until ctx ends; the last ones are written by save.
func (d *disk) run(ctx context.Context) {
	if d.path == "" {
		return
	}
	mark := func() {
		select {
		case d.dirty <- struct{}{}:
		default:
		}
	}
	d.world.OnChange(mark)
	d.hooks.OnChange(mark)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.dirty:
		}
		t := time.NewTimer(saveAfter)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if err := d.save(); err != nil {
			d.log.WarnContext(ctx, "the sandbox's data can't be written", "error", err)
		}
	}
}

// save writes everything, so that a crash leaves the old file or the new one.
func (d *disk) save() error {
	if d.path == "" {
		return nil
	}
	w, err := d.world.Save()
	if err != nil {
		return err
	}
	data, err := json.Marshal(saved{World: w, Subscriptions: d.hooks.List(""), Pending: d.hooks.Pending()})
	if err != nil {
		return err
	}
	next := d.path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, d.path)
}
