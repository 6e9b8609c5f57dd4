// Package world owns the simulated contact centre: sessions, engagements with
// their dialogs, participants and messages of one AXP account, and what it
// tells of them as callback events. Its rules are those of AXP's contract, and
// where the contract is silent the strictest reading. It knows no HTTP.
package world

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Config is how the contact centre behaves.
type Config struct {
	AccountID         string
	ChannelProviderID string
	ActivationDelay   time.Duration // from Create Engagement to the dialog being ACTIVE
	QueueMessage      bool          // tell the customer the place in the queue
}

// What is kept; beyond it the oldest that has ended goes.
const (
	maxEnded    = 2000    // dialogs that have ended
	maxSessions = 50_000  // also live ones go, but none with an open dialog
	maxMessages = 100_000 // of a dialog; more are refused
)

// Refusal is why an operation is not done, with AXP's HTTP status.
type Refusal struct {
	Status        int
	Title, Detail string
	Field         string // of the request that broke a rule; may be empty
}

func breaks(field, detail string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Title: "Bad Request", Detail: detail, Field: field}
}

func notFound(what string) *Refusal {
	return &Refusal{Status: http.StatusNotFound, Title: "Not Found", Detail: what + " does not exist"}
}

// dialog is a Dialog with what AXP's answers do not show.
type dialog struct {
	*Dialog
	Engagement   *Engagement
	Session      *Session // that started it
	Conversation string   // its own: the engagement has the first dialog's
	Log          []*Message
}

// World is safe for concurrent use. Close ends what it has begun.
type World struct {
	cfg  Config
	emit func(Event)
	now  func() time.Time

	ctx    context.Context //nolint:containedctx // the world's lifetime, for what happens later
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu          sync.Mutex
	sessions    map[string]*Session
	engagements map[string]*Engagement
	dialogs     map[string]*dialog
	order       []string // dialogs, oldest first
	arrivals    []string // sessions, oldest first
	ended       int      // dialogs
	watchers    map[int]func(Chat)
	nextWatcher int
	changed     func()
}

// New makes an empty world; emit must not block.
func New(cfg Config, emit func(Event), now func() time.Time) *World {
	w := &World{
		cfg: cfg, emit: emit, now: now, sessions: map[string]*Session{}, engagements: map[string]*Engagement{},
		dialogs: map[string]*dialog{}, watchers: map[int]func(Chat){}, changed: func() {},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Close ends what was to happen later and waits for it.
func (w *World) Close() {
	w.cancel()
	w.group.Wait()
}

// later runs f under the lock after d.
func (w *World) later(d time.Duration, f func()) {
	w.group.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-w.ctx.Done():
			return
		case <-t.C:
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	})
}

// Watch calls f, which must not block, with each chat that changes; with an
// empty one where everything has.
func (w *World) Watch(f func(Chat)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextWatcher
	w.nextWatcher++
	w.watchers[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, id)
	}
}

// touched tells everybody that a dialog has changed; mu is held.
func (w *World) touched(d *dialog) {
	d.LastUpdatedAt = w.now().UTC()
	chat := w.chat(d)
	for _, f := range w.watchers {
		f(chat)
	}
	w.changed()
}

// CreateSession is AXP's Create Session.
func (w *World) CreateSession(in CreateSession) (*Session, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if in.ChannelProviderID != w.cfg.ChannelProviderID {
		return nil, breaks("channelProviderId", "no such channel provider")
	}
	now := w.now().UTC()
	id := uuid.NewString()
	s := &Session{
		SessionID: id, AccountID: w.cfg.AccountID, ChannelProviderID: in.ChannelProviderID, DisplayName: in.DisplayName,
		CustomerIdentifiers: in.CustomerIdentifiers, SessionParameters: in.SessionParameters, SessionStatus: Active,
		ProviderCustomerID: in.ProviderCustomerID, CreatedAt: now, LastUpdatedAt: now, URL: "/v1/sessions/" + id,
		ParticipantID: uuid.NewString(),
	}
	if s.SessionParameters == nil {
		s.SessionParameters = map[string]string{}
	}
	w.sessions[id] = s
	w.arrivals = append(w.arrivals, id)
	w.trimSessions()
	w.changed()
	out := s.copy()
	out.ParticipantID, out.CorrelationID = s.ParticipantID, orNew(in.CorrelationID)
	return out, nil
}

func orNew(correlation string) string {
	if correlation == "" {
		return uuid.NewString()
	}
	return correlation
}

// copy is the session as later answers show it.
func (s *Session) copy() *Session {
	c := *s
	c.ParticipantID = ""
	c.CustomerIdentifiers, c.SessionParameters = maps.Clone(s.CustomerIdentifiers), maps.Clone(s.SessionParameters)
	return &c
}

func (w *World) session(id string) (*Session, *Refusal) {
	s, ok := w.sessions[id]
	if !ok || s.SessionStatus == Terminated {
		return nil, notFound("session")
	}
	return s, nil
}

// GetSession is AXP's Get Session.
func (w *World) GetSession(id string) (*Session, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.sessions[id]
	if !ok {
		return nil, notFound("session")
	}
	return s.copy(), nil
}

// AppendIdentifiers is AXP's Append Identifiers: values are added, also twice.
func (w *World) AppendIdentifiers(id string, in map[string][]string) (*Session, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, refusal := w.session(id)
	if refusal != nil {
		return nil, refusal
	}
	merged := maps.Clone(s.CustomerIdentifiers)
	for k, vs := range in {
		merged[k] = append(slices.Clone(merged[k]), vs...)
		if len(merged[k]) > 5 {
			return nil, breaks("customerIdentifiers."+k, "must have at most 5 values")
		}
	}
	if len(merged) > 10 {
		return nil, breaks("customerIdentifiers", "must have at most 10 properties")
	}
	s.CustomerIdentifiers, s.LastUpdatedAt = merged, w.now().UTC()
	w.touchSession(s)
	return s.copy(), nil
}

// UpdateParameters is AXP's Update Session Parameters: set key by key.
func (w *World) UpdateParameters(id string, in map[string]string) (*Session, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, refusal := w.session(id)
	if refusal != nil {
		return nil, refusal
	}
	merged := maps.Clone(s.SessionParameters)
	maps.Copy(merged, in)
	if len(merged) > 20 {
		return nil, breaks("sessionParameters", "must have at most 20 properties")
	}
	s.SessionParameters, s.LastUpdatedAt = merged, w.now().UTC()
	w.touchSession(s)
	return s.copy(), nil
}

// touchSession shows a session's change on its chats.
func (w *World) touchSession(s *Session) {
	w.changed()
	for _, id := range w.order {
		if d := w.dialogs[id]; d.Session == s && d.DialogStatus != Terminated {
			w.touched(d)
		}
	}
}

// of lists the open dialogs that a session takes part in.
func (w *World) of(session string) []*dialog {
	var out []*dialog
	for _, id := range w.order {
		if d := w.dialogs[id]; d.DialogStatus != Terminated && d.in(session) {
			out = append(out, d)
		}
	}
	return out
}

// DeleteSession is AXP's Delete Session; it takes the customer out of what is
// still open.
func (w *World) DeleteSession(id string) *Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, refusal := w.session(id)
	if refusal != nil {
		return refusal
	}
	for _, d := range w.of(id) {
		c := d.Connections[0]
		if d.Session != s { // a further device goes, the chat stays
			c.SessionIDs = slices.DeleteFunc(slices.Clone(c.SessionIDs), func(x string) bool { return x == id })
			w.touched(d)
			continue
		}
		w.end(d, uuid.NewString())
	}
	s.SessionStatus, s.LastUpdatedAt = Terminated, w.now().UTC()
	w.changed()
	return nil
}

// CreateEngagement is AXP's Create Engagement. Where the customer has an open
// engagement, a further dialog is added to it.
func (w *World) CreateEngagement(in CreateEngagement) (*Engagement, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, refusal := w.session(in.SessionID)
	if refusal != nil {
		return nil, refusal
	}
	now := w.now().UTC()
	e := w.openEngagement(s)
	if e == nil {
		id := uuid.NewString()
		e = &Engagement{EngagementID: id, AccountID: w.cfg.AccountID, Conversation: in.Conversation, URL: "/v1/engagements/" + id}
		w.engagements[id] = e
	}
	d := &dialog{Engagement: e, Session: s, Conversation: in.Conversation, Dialog: &Dialog{
		DialogID: uuid.NewString(), ChannelID: in.ChannelID, DialogStatus: Pending, ProviderDialogID: in.ProviderDialogID,
		InitiatorParticipantID: s.ParticipantID, EngagementParameters: in.EngagementParameters, CreatedAt: now, LastUpdatedAt: now,
		Connections: []*Connection{{
			ConnectionID: uuid.NewString(), ParticipantID: s.ParticipantID, ParticipantType: Customer,
			DisplayName: s.DisplayName, SessionIDs: []string{s.SessionID}, ConnectionState: Connected,
		}},
	}}
	e.Dialogs = append(e.Dialogs, d.Dialog)
	w.dialogs[d.DialogID] = d
	w.order = append(w.order, d.DialogID)
	correlation := orNew(in.CorrelationID)
	w.later(w.cfg.ActivationDelay, func() { w.settle(d, correlation) })
	w.touched(d)
	out := e.copy()
	out.CorrelationID = correlation
	return out, nil
}

// Unroutable is a conversation that no agent serves: creating it fails later,
// with an ENGAGEMENT_ERROR.
const Unroutable = "no-route"

// openEngagement finds an engagement of the same customer with an open dialog.
func (w *World) openEngagement(s *Session) *Engagement {
	for _, id := range w.order {
		d := w.dialogs[id]
		if d.DialogStatus == Terminated || d.Session.SessionStatus == Terminated {
			continue
		}
		if d.Session == s || sameCustomer(d.Session, s) {
			return d.Engagement
		}
	}
	return nil
}

func sameCustomer(a, b *Session) bool {
	for name, values := range a.CustomerIdentifiers {
		for _, v := range b.CustomerIdentifiers[name] {
			if slices.Contains(values, v) {
				return true
			}
		}
	}
	return false
}

func (e *Engagement) copy() *Engagement {
	c := *e
	c.Dialogs = nil
	for _, d := range e.Dialogs {
		dc := *d
		dc.Connections = nil
		for _, conn := range d.Connections {
			cc := *conn
			dc.Connections = append(dc.Connections, &cc)
		}
		c.Dialogs = append(c.Dialogs, &dc)
	}
	return &c
}

// settle decides about a dialog that is PENDING, unless it has ended or a reset
// has swept it away meanwhile.
func (w *World) settle(d *dialog, correlation string) {
	switch {
	case d.DialogStatus != Pending || w.dialogs[d.DialogID] != d:
	case d.Conversation == Unroutable:
		w.fail(d, correlation)
	default:
		w.activate(d, correlation)
	}
}

// activate connects the customer: from then on messages flow.
func (w *World) activate(d *dialog, correlation string) {
	d.DialogStatus = Active
	w.emit(w.engagementCreated(d, correlation))
	w.emit(w.participant("PARTICIPANT_ADDED", d, d.Connections[0], correlation))
	if w.cfg.QueueMessage {
		w.append(d, w.systemMessage(d, queueText(w.place(d))))
	}
	w.touched(d)
}

// place is the dialog's place in the queue, from 1.
func (w *World) place(d *dialog) int {
	n := 1
	for _, id := range w.order {
		other := w.dialogs[id]
		if other == d {
			break
		}
		if w.waiting(other) {
			n++
		}
	}
	return n
}

func (w *World) waiting(d *dialog) bool {
	if d.DialogStatus != Active && d.DialogStatus != Pending {
		return false
	}
	return !slices.ContainsFunc(d.Connections, func(c *Connection) bool {
		return c.ParticipantType == Agent && c.ConnectionState == Connected
	})
}

func (w *World) fail(d *dialog, correlation string) {
	d.DialogStatus = Terminated
	for _, c := range d.Connections {
		c.ConnectionState = Disconnected
	}
	w.emit(w.engagementError(d, correlation))
	w.touched(d)
	w.trimDialogs()
}

// ListEngagements is AXP's List Engagements.
func (w *World) ListEngagements(sessionID string) ([]*Engagement, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, refusal := w.session(sessionID); refusal != nil {
		return nil, refusal
	}
	out := []*Engagement{}
	for _, id := range w.order {
		d := w.dialogs[id]
		if d.in(sessionID) && !slices.ContainsFunc(out, func(e *Engagement) bool { return e.EngagementID == d.Engagement.EngagementID }) {
			out = append(out, d.Engagement.copy())
		}
	}
	return out, nil
}

// in tells whether a session takes part in the dialog.
func (d *dialog) in(sessionID string) bool {
	return slices.ContainsFunc(d.Connections, func(c *Connection) bool { return slices.Contains(c.SessionIDs, sessionID) })
}

// GetEngagement is AXP's Get Engagement.
func (w *World) GetEngagement(id string) (*Engagement, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.engagements[id]
	if !ok {
		return nil, notFound("engagement")
	}
	return e.copy(), nil
}

// find reads the dialog of an engagement that a session takes part in.
func (w *World) find(engagementID, dialogID string) (*dialog, *Refusal) {
	d, ok := w.dialogs[dialogID]
	if _, known := w.engagements[engagementID]; !known {
		return nil, notFound("engagement")
	}
	if !ok || d.Engagement.EngagementID != engagementID {
		return nil, notFound("dialog")
	}
	return d, nil
}

// Join is AXP's Join Engagement.
func (w *World) Join(engagementID string, in Leave) (*Engagement, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, refusal := w.session(in.SessionID)
	if refusal != nil {
		return nil, refusal
	}
	d, refusal := w.find(engagementID, in.DialogID)
	if refusal != nil {
		return nil, refusal
	}
	if d.DialogStatus != Active {
		return nil, notIn(d)
	}
	if d.Session != s && !sameCustomer(d.Session, s) {
		return nil, &Refusal{Status: http.StatusForbidden, Title: "Forbidden", Detail: "the session is another customer's"}
	}
	c := d.Connections[0]
	if !slices.Contains(c.SessionIDs, s.SessionID) {
		c.SessionIDs = append(slices.Clone(c.SessionIDs), s.SessionID)
	}
	w.touched(d)
	out := d.Engagement.copy()
	out.CorrelationID = orNew(in.CorrelationID)
	return out, nil
}

func notIn(d *dialog) *Refusal {
	if d.DialogStatus == Terminated {
		return notFound("active dialog")
	}
	return breaks("dialogId", "the dialog is "+d.DialogStatus)
}

// Disconnect is AXP's Disconnect Engagement.
func (w *World) Disconnect(engagementID string, in Leave) *Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, refusal := w.find(engagementID, in.DialogID)
	if refusal != nil {
		return refusal
	}
	if d.DialogStatus == Terminated {
		return notFound("active dialog")
	}
	if !d.in(in.SessionID) {
		return notFound("session")
	}
	w.end(d, orNew(in.CorrelationID))
	return nil
}

// end takes everybody out, agents first.
func (w *World) end(d *dialog, correlation string) {
	for _, wanted := range []bool{false, true} {
		for _, c := range d.Connections {
			if (c.ParticipantType == Customer) == wanted && c.ConnectionState == Connected {
				c.ConnectionState = Disconnected
				w.emit(w.participant("PARTICIPANT_DISCONNECTED", d, c, correlation))
			}
		}
	}
	d.DialogStatus = Terminated
	w.touched(d)
	w.trimDialogs()
}

// trimDialogs forgets the oldest dialog where too many have ended.
func (w *World) trimDialogs() {
	w.ended++
	if w.ended <= maxEnded {
		return
	}
	i := slices.IndexFunc(w.order, func(id string) bool { return w.dialogs[id].DialogStatus == Terminated })
	d := w.dialogs[w.order[i]]
	e := d.Engagement
	e.Dialogs = slices.DeleteFunc(e.Dialogs, func(x *Dialog) bool { return x == d.Dialog })
	if len(e.Dialogs) == 0 {
		delete(w.engagements, e.EngagementID)
	}
	delete(w.dialogs, d.DialogID)
	w.order = slices.Delete(w.order, i, i+1)
	w.ended--
}

// trimSessions forgets the oldest tenth of the sessions where there are too
// many, except those with an open dialog.
func (w *World) trimSessions() {
	if len(w.sessions) <= maxSessions {
		return
	}
	busy := map[string]bool{}
	for _, d := range w.dialogs {
		if d.DialogStatus != Terminated {
			for _, id := range d.Connections[0].SessionIDs {
				busy[id] = true
			}
		}
	}
	gone := 0
	w.arrivals = slices.DeleteFunc(w.arrivals, func(id string) bool {
		if busy[id] || gone > maxSessions/10 {
			return false
		}
		gone++
		delete(w.sessions, id)
		return true
	})
}
