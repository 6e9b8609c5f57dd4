package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

const (
	customer = axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER
	agent    = axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT

	pending    = axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_PENDING
	active     = axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE
	ending     = axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING
	terminated = axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_TERMINATED
	failed     = axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_FAILED
)

func fresh() *busv1.EngagementRecord {
	return &busv1.EngagementRecord{
		Account: "ABCDEF", AxpSessionId: "axp-session",
		Engagement: &axpchatv1.Engagement{
			EngagementId: "e", SessionId: "s", Status: axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_CREATING,
		},
	}
}

func at(second int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 3, 11, 9, 0, second, 0, time.UTC))
}

func created(second int) *axpchatv1.Event {
	return &axpchatv1.Event{EventTime: at(second), Payload: &axpchatv1.Event_EngagementCreated{
		EngagementCreated: &axpchatv1.EngagementCreated{AxpEngagementId: "axp-engagement", AxpDialogId: "axp-dialog"},
	}}
}

func change(connection, session string, kind axpchatv1.ParticipantType) *axpchatv1.ParticipantChanged {
	return &axpchatv1.ParticipantChanged{
		AxpEngagementId: "axp-engagement", AxpDialogId: "axp-dialog", AxpSessionId: session,
		Participant: &axpchatv1.Participant{
			ConnectionId: connection, ParticipantId: "p-" + connection, ParticipantType: kind, DisplayName: "name of " + connection,
		},
	}
}

func added(second int, connection, session string, kind axpchatv1.ParticipantType) *axpchatv1.Event {
	return &axpchatv1.Event{EventTime: at(second), Payload: &axpchatv1.Event_ParticipantAdded{ParticipantAdded: change(connection, session, kind)}}
}

func left(second int, connection, session string, kind axpchatv1.ParticipantType) *axpchatv1.Event {
	return &axpchatv1.Event{EventTime: at(second), Payload: &axpchatv1.Event_ParticipantDisconnected{ParticipantDisconnected: change(connection, session, kind)}}
}

func broken(second int) *axpchatv1.Event {
	return &axpchatv1.Event{EventTime: at(second), Payload: &axpchatv1.Event_EngagementError{
		EngagementError: &axpchatv1.EngagementError{Type: "ENGAGEMENT_CREATION_FAILED"},
	}}
}

func TestApplyFollowsTheLifeOfAChat(t *testing.T) {
	cases := []struct {
		name   string
		events []*axpchatv1.Event
		want   axpchatv1.EngagementStatus
	}{
		{"AXP has the dialog", []*axpchatv1.Event{created(1)}, pending},
		{"the customer is connected", []*axpchatv1.Event{created(1), added(2, "c1", "axp-session", customer)}, active},
		{"the customer's connection overtakes the creation", []*axpchatv1.Event{added(2, "c1", "axp-session", customer)}, active},
		{"an agent alone does not make it active", []*axpchatv1.Event{created(1), added(2, "a1", "", agent)}, pending},
		{"an agent leaving does not end it", []*axpchatv1.Event{
			added(2, "c1", "axp-session", customer), added(3, "a1", "", agent), left(4, "a1", "", agent),
		}, active},
		{"a second device leaving does not end it", []*axpchatv1.Event{
			added(2, "c1", "axp-session", customer), added(3, "c2", "other-session", customer), left(4, "c2", "other-session", customer),
		}, active},
		{"the customer's own connection ends it", []*axpchatv1.Event{
			added(2, "c1", "axp-session", customer), left(4, "c1", "axp-session", customer),
		}, terminated},
		{"the end overtakes the beginning", []*axpchatv1.Event{
			left(4, "c1", "axp-session", customer), added(2, "c1", "axp-session", customer), created(1),
		}, terminated},
		{"AXP could not create it", []*axpchatv1.Event{broken(1)}, failed},
		{"the customer of another dialog is none of ours", []*axpchatv1.Event{created(1), {
			EventTime: at(2), Payload: &axpchatv1.Event_ParticipantAdded{ParticipantAdded: &axpchatv1.ParticipantChanged{
				AxpDialogId: "surplus", Participant: &axpchatv1.Participant{ConnectionId: "c9", ParticipantType: customer},
			}},
		}}, pending},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			rec := fresh()
			for _, ev := range c.events {
				state.Apply(rec, ev)
			}
			if got := rec.GetEngagement().GetStatus(); got != c.want {
				t.Errorf("status %v, want %v", got, c.want)
			}
		})
	}
}

func TestEndingIsNotUndoneByLateNews(t *testing.T) {
	rec := fresh()
	state.Apply(rec, created(1))
	state.AskEnd(rec, axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED)
	state.Apply(rec, added(2, "c1", "axp-session", customer))
	if got := rec.GetEngagement().GetStatus(); got != ending {
		t.Fatalf("status %v, want %v", got, ending)
	}
	if !state.WasActive(rec) {
		t.Error("that messages flowed must be known")
	}
	state.Apply(rec, left(3, "c1", "axp-session", customer))
	if got := rec.GetEngagement().GetEndReason(); got != axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED {
		t.Errorf("reason %v: what the customer asked for must not be overwritten by what AXP does not say", got)
	}
}

// TestApplyDoesNotDependOnOrder draws chats with agents coming and going and a
// second device, and applies their events in a random order with copies.
func TestApplyDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := history(t)
		want := fresh()
		for _, ev := range events {
			state.Apply(want, ev)
		}
		shuffled := append(rapid.Permutation(events).Draw(t, "order"),
			rapid.SliceOfN(rapid.SampledFrom(events), 0, 5).Draw(t, "copies")...)
		got := fresh()
		for _, ev := range shuffled {
			state.Apply(got, proto.CloneOf(ev))
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("the order of events shows in the record (-in order +shuffled):\n%s", diff)
		}
	})
}

func history(t *rapid.T) []*axpchatv1.Event {
	events := []*axpchatv1.Event{created(0)}
	second := 1
	next := func() int { second++; return second }
	events = append(events, added(next(), "c1", "axp-session", customer))
	for i := range rapid.IntRange(0, 3).Draw(t, "agents") {
		id := fmt.Sprintf("a%d", i)
		for range rapid.IntRange(1, 3).Draw(t, "visits") {
			events = append(events, added(next(), id, "", agent), left(next(), id, "", agent))
		}
	}
	if rapid.Bool().Draw(t, "second device") {
		events = append(events, added(next(), "c2", "other-session", customer), left(next(), "c2", "other-session", customer))
	}
	if rapid.Bool().Draw(t, "error") {
		events = append(events, broken(next()))
	}
	if rapid.Bool().Draw(t, "ended") {
		events = append(events, left(next(), "c1", "axp-session", customer))
	}
	return events
}

func TestAnErrorOfAnUnknownTypeEndsNothing(t *testing.T) {
	for kind, want := range map[string]axpchatv1.EngagementStatus{
		"ENGAGEMENT_CREATION_FAILED": failed, "": failed, "ENGAGEMENT_TRANSFER_SLOW": active,
	} {
		rec := fresh()
		state.Apply(rec, added(1, "own", "axp-session", customer))
		state.Apply(rec, &axpchatv1.Event{EventTime: at(2), Payload: &axpchatv1.Event_EngagementError{
			EngagementError: &axpchatv1.EngagementError{Type: kind},
		}})
		if got := rec.GetEngagement().GetStatus(); got != want {
			t.Errorf("%q makes the chat %v, want %v", kind, got, want)
		}
	}
}
