package state

import (
	"sort"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// Apply brings the record up to date with one event of AXP's. Events that say
// nothing about the state of an engagement, and events of another dialog than
// the record's, change nothing.
func Apply(rec *busv1.EngagementRecord, ev *axpchatv1.Event) {
	switch p := ev.GetPayload().(type) {
	case *axpchatv1.Event_EngagementCreated:
		Adopt(rec, p.EngagementCreated.GetAxpEngagementId(), p.EngagementCreated.GetAxpDialogId())
	case *axpchatv1.Event_ParticipantAdded:
		participant(rec, ev, p.ParticipantAdded, true)
	case *axpchatv1.Event_ParticipantDisconnected:
		participant(rec, ev, p.ParticipantDisconnected, false)
	case *axpchatv1.Event_EngagementError:
		if SameDialog(rec, p.EngagementError.GetAxpDialogId()) && fatal(p.EngagementError.GetType()) {
			Fail(rec, when(ev))
		}
	}
}

// fatal tells whether an error means that there is no engagement. The only type
// that AXP documents does; one that is not known may be about anything, and must
// not cut off a customer who is talking to an agent.
func fatal(kind string) bool {
	return kind == "" || strings.Contains(strings.ToUpper(kind), "CREATION_FAILED")
}

// Concerns tells whether Apply may change anything for an event of this kind,
// a name of a field of Event's payload.
func Concerns(kind string) bool {
	switch kind {
	case "engagement_created", "participant_added", "participant_disconnected", "engagement_error":
		return true
	default:
		return false
	}
}

// when is AXP's time of the event, else the time when it came.
func when(ev *axpchatv1.Event) time.Time {
	if ev.GetEventTime() != nil {
		return ev.GetEventTime().AsTime()
	}
	return ev.GetReceiveTime().AsTime()
}

func participant(rec *busv1.EngagementRecord, ev *axpchatv1.Event, change *axpchatv1.ParticipantChanged, added bool) {
	p := change.GetParticipant()
	if p.GetConnectionId() == "" || !Adopt(rec, change.GetAxpEngagementId(), change.GetAxpDialogId()) {
		return
	}
	at := when(ev)
	connection(rec, p, at, added)
	if !own(rec, p, change.GetAxpSessionId()) {
		return
	}
	rec.CustomerConnectionId = p.GetConnectionId()
	if added {
		Activate(rec, at)
		return
	}
	// AXP does not reopen a dialog, so this is the end even where an older
	// "added" comes in later.
	Terminate(rec, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN, at)
}

// own tells whether a connection is that of the session that started the
// engagement: a second device that joined is a CUSTOMER as well, and its
// leaving ends nothing.
func own(rec *busv1.EngagementRecord, p *axpchatv1.Participant, axpSession string) bool {
	if p.GetParticipantType() != axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER {
		return false
	}
	if rec.GetCustomerConnectionId() != "" {
		return rec.GetCustomerConnectionId() == p.GetConnectionId()
	}
	return axpSession == "" || axpSession == rec.GetAxpSessionId()
}

// connection keeps, for each connection, the newest time it was added and the
// newest time it left; of the two the later one says whether it is connected,
// and at the same instant leaving wins. Maxima do not depend on the order.
func connection(rec *busv1.EngagementRecord, p *axpchatv1.Participant, at time.Time, added bool) {
	if rec.ConnectionTimes == nil {
		rec.ConnectionTimes = map[string]*timestamppb.Timestamp{}
	}
	ts := timestamppb.New(at)
	have := find(rec, p)
	newest := rec.GetConnectionTimes()[p.GetConnectionId()]
	describe(have, p, newest == nil || !ts.AsTime().Before(newest.AsTime()))
	rec.ConnectionTimes[p.GetConnectionId()] = later(newest, ts)
	if added {
		have.JoinTime = later(have.GetJoinTime(), ts)
	} else {
		have.LeaveTime = later(have.GetLeaveTime(), ts)
	}
	have.Connected = have.GetLeaveTime() == nil || (have.GetJoinTime() != nil && have.GetLeaveTime().AsTime().Before(have.GetJoinTime().AsTime()))
	if have.GetConnected() {
		have.LeaveTime = nil
	}
}

// find returns the participant of a connection, adding it where it is new.
// They are sorted by connection, for the order of arrival must not show.
func find(rec *busv1.EngagementRecord, p *axpchatv1.Participant) *axpchatv1.Participant {
	ps := rec.GetEngagement().GetParticipants()
	i := sort.Search(len(ps), func(i int) bool { return ps[i].GetConnectionId() >= p.GetConnectionId() })
	if i < len(ps) && ps[i].GetConnectionId() == p.GetConnectionId() {
		return ps[i]
	}
	fresh := &axpchatv1.Participant{ConnectionId: p.GetConnectionId()}
	ps = append(ps, nil)
	copy(ps[i+1:], ps[i:])
	ps[i] = fresh
	rec.Engagement.Participants = ps
	return fresh
}

// describe takes over what an event says of a participant. An older event only
// fills in what is missing.
func describe(have, p *axpchatv1.Participant, newest bool) {
	set := func(dst *string, src string) {
		if src != "" && (newest || *dst == "") {
			*dst = src
		}
	}
	set(&have.ParticipantId, p.GetParticipantId())
	set(&have.DisplayName, p.GetDisplayName())
	set(&have.ProviderParticipantId, p.GetProviderParticipantId())
	set(&have.ChannelProviderId, p.GetChannelProviderId())
	if t := p.GetParticipantType(); t != axpchatv1.ParticipantType_PARTICIPANT_TYPE_UNSPECIFIED &&
		(newest || have.GetParticipantType() == axpchatv1.ParticipantType_PARTICIPANT_TYPE_UNSPECIFIED) {
		have.ParticipantType = t
	}
}
