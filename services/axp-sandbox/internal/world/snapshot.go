package world

import (
	"encoding/json"
	"fmt"
)

// snapshot is the world on disk.
type snapshot struct {
	Sessions []*Session       `json:"sessions"`
	Dialogs  []dialogSnapshot `json:"dialogs"`
}

type dialogSnapshot struct {
	Dialog       *Dialog    `json:"dialog"`
	EngagementID string     `json:"engagementId"`
	Conversation string     `json:"conversation"`
	SessionID    string     `json:"sessionId"`
	Log          []*Message `json:"log"`
}

// OnChange calls f, which must not block, after each change.
func (w *World) OnChange(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = f
}

// Save returns the whole world.
func (w *World) Save() ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out snapshot
	for _, s := range w.sessions {
		out.Sessions = append(out.Sessions, s)
	}
	for _, id := range w.order {
		d := w.dialogs[id]
		out.Dialogs = append(out.Dialogs, dialogSnapshot{d.Dialog, d.Engagement.EngagementID, d.Engagement.Conversation, d.Session.SessionID, d.Log})
	}
	return json.Marshal(out)
}

// Load replaces the world by one that Save returned. Dialogs that were about
// to become active do so now.
func (w *World) Load(data []byte) error {
	var in snapshot
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("read the sandbox's data: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clear()
	for _, s := range in.Sessions {
		w.sessions[s.SessionID] = s
	}
	for _, ds := range in.Dialogs {
		s, ok := w.sessions[ds.SessionID]
		if !ok || ds.Dialog == nil {
			return fmt.Errorf("read the sandbox's data: a dialog without its session")
		}
		e := w.engagements[ds.EngagementID]
		if e == nil {
			e = &Engagement{EngagementID: ds.EngagementID, AccountID: w.cfg.AccountID, Conversation: ds.Conversation, URL: "/v1/engagements/" + ds.EngagementID}
			w.engagements[ds.EngagementID] = e
		}
		e.Dialogs = append(e.Dialogs, ds.Dialog)
		d := &dialog{Dialog: ds.Dialog, Engagement: e, Session: s, Log: ds.Log}
		w.dialogs[d.DialogID] = d
		w.order = append(w.order, d.DialogID)
		if d.DialogStatus == Pending {
			w.later(w.cfg.ActivationDelay, func() { w.activate(d, orNew("")) })
		}
	}
	return nil
}

// Reset empties the world.
func (w *World) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clear()
	w.changed()
}

func (w *World) clear() {
	clear(w.sessions)
	clear(w.engagements)
	clear(w.dialogs)
	w.order = nil
}
