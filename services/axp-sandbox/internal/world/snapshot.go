package world

import (
	"encoding/json"
	"errors"
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
	Topic        string     `json:"engagementConversation"`
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
	for _, id := range w.arrivals {
		out.Sessions = append(out.Sessions, w.sessions[id])
	}
	for _, id := range w.order {
		d := w.dialogs[id]
		if w.sessions[d.Session.SessionID] == nil { // forgotten, but for its dialogs
			out.Sessions = append(out.Sessions, d.Session)
		}
		out.Dialogs = append(out.Dialogs, dialogSnapshot{
			Dialog: d.Dialog, EngagementID: d.Engagement.EngagementID, Topic: d.Engagement.Conversation,
			Conversation: d.Conversation, SessionID: d.Session.SessionID, Log: d.Log,
		})
	}
	return json.Marshal(out)
}

// Load replaces the world by one that Save returned. Dialogs that are PENDING
// go on.
func (w *World) Load(data []byte) error {
	var in snapshot
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("read the sandbox's data: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clear()
	for _, s := range in.Sessions {
		if w.sessions[s.SessionID] == nil {
			w.arrivals = append(w.arrivals, s.SessionID)
		}
		w.sessions[s.SessionID] = s
	}
	for _, ds := range in.Dialogs {
		s, ok := w.sessions[ds.SessionID]
		if !ok || ds.Dialog == nil || len(ds.Dialog.Connections) == 0 {
			return errors.New("read the sandbox's data: a dialog without its session or its customer")
		}
		e := w.engagements[ds.EngagementID]
		if e == nil {
			e = &Engagement{EngagementID: ds.EngagementID, AccountID: w.cfg.AccountID, Conversation: ds.Topic, URL: "/v1/engagements/" + ds.EngagementID}
			w.engagements[ds.EngagementID] = e
		}
		e.Dialogs = append(e.Dialogs, ds.Dialog)
		d := &dialog{Dialog: ds.Dialog, Engagement: e, Session: s, Conversation: ds.Conversation, Log: ds.Log}
		w.dialogs[d.DialogID] = d
		w.order = append(w.order, d.DialogID)
		switch d.DialogStatus {
		case Pending:
			w.later(w.cfg.ActivationDelay, func() { w.settle(d, orNew("")) })
		case Terminated:
			w.ended++
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
	for _, f := range w.watchers {
		f(Chat{})
	}
}

func (w *World) clear() {
	clear(w.sessions)
	clear(w.engagements)
	clear(w.dialogs)
	w.order, w.arrivals, w.ended = nil, nil, 0
}
