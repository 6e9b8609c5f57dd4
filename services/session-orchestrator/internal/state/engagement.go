package state

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// Over tells whether an engagement has ended for good.
func Over(s axpchatv1.EngagementStatus) bool {
	return s == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_TERMINATED ||
		s == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_FAILED
}

// TakesMessages tells whether the customer may still write: not once an end
// was asked for, or the engagement is over.
func TakesMessages(s axpchatv1.EngagementStatus) bool {
	return s < axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING
}

// HalfMade tells whether it is open what came of creating the engagement:
// neither AXP's dialog is known nor is it over. Its end may have been asked for.
func HalfMade(rec *busv1.EngagementRecord) bool {
	return rec.GetEngagement().GetAxpDialogId() == "" && !Over(rec.GetEngagement().GetStatus())
}

// Untold tells whether the journal may lack a turn of the record.
func Untold(rec *busv1.EngagementRecord) bool {
	return rec.GetUntoldActiveTime() != nil || rec.GetUntoldEndTime() != nil
}

// Unclear tells whether the engagement is over although nobody has found out
// whether AXP made a dialog for it.
func Unclear(rec *busv1.EngagementRecord) bool {
	return Over(rec.GetEngagement().GetStatus()) && rec.GetEngagement().GetAxpDialogId() == "" && rec.GetAttemptTime() != nil
}

// Leave notes a dialog that should end and could not be made to yet. It returns
// false where that was noted before.
func Leave(rec *busv1.EngagementRecord, axpEngagement, axpDialog string) bool {
	if axpDialog == "" || leftAt(rec, axpDialog) >= 0 {
		return false
	}
	rec.LeftDialogs = append(rec.LeftDialogs, &busv1.LeftDialog{AxpEngagementId: axpEngagement, AxpDialogId: axpDialog})
	return true
}

// Gone notes that a dialog has ended.
func Gone(rec *busv1.EngagementRecord, axpDialog string) {
	if i := leftAt(rec, axpDialog); i >= 0 {
		rec.LeftDialogs = slices.Delete(rec.GetLeftDialogs(), i, i+1)
	}
}

func leftAt(rec *busv1.EngagementRecord, axpDialog string) int {
	return slices.IndexFunc(rec.GetLeftDialogs(), func(d *busv1.LeftDialog) bool { return d.GetAxpDialogId() == axpDialog })
}

// WasActive tells whether messages flow, or did until the end was asked for.
func WasActive(rec *busv1.EngagementRecord) bool {
	return rec.GetEngagement().GetActiveTime() != nil
}

// raise moves the status forward, never back.
func raise(rec *busv1.EngagementRecord, to axpchatv1.EngagementStatus) {
	if rec.GetEngagement().GetStatus() < to {
		rec.Engagement.Status = to
	}
}

// Adopt fills in what AXP calls the engagement and its dialog, where that is
// not known yet. It returns false, and changes nothing, where the record is
// bound to another dialog already: one that a repeated Create Engagement left
// over.
func Adopt(rec *busv1.EngagementRecord, axpEngagement, axpDialog string) bool {
	e := rec.GetEngagement()
	if !SameDialog(rec, axpDialog) {
		return false
	}
	if e.GetAxpEngagementId() == "" {
		e.AxpEngagementId = axpEngagement
	}
	if e.GetAxpDialogId() == "" {
		e.AxpDialogId = axpDialog
	}
	if e.GetAxpEngagementId() != "" && e.GetAxpDialogId() != "" {
		raise(rec, axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_PENDING)
	}
	return true
}

// SameDialog tells whether something about that dialog concerns the record: it
// does unless both are known and differ.
func SameDialog(rec *busv1.EngagementRecord, axpDialog string) bool {
	have := rec.GetEngagement().GetAxpDialogId()
	return have == "" || axpDialog == "" || have == axpDialog
}

// Activate notes that messages flow since at.
func Activate(rec *busv1.EngagementRecord, at time.Time) {
	e := rec.GetEngagement()
	e.ActiveTime = earlier(e.GetActiveTime(), timestamppb.New(at))
	raise(rec, axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE)
}

// AskEnd notes that the customer wants the end.
func AskEnd(rec *busv1.EngagementRecord, reason axpchatv1.CloseReason) {
	if Over(rec.GetEngagement().GetStatus()) {
		return
	}
	because(rec, reason)
	raise(rec, axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING)
}

// Terminate notes that the engagement is over since at.
func Terminate(rec *busv1.EngagementRecord, reason axpchatv1.CloseReason, at time.Time) {
	end(rec, axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_TERMINATED, reason, at)
}

// Fail notes that AXP could not create or keep the engagement.
func Fail(rec *busv1.EngagementRecord, at time.Time) {
	end(rec, axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_FAILED, axpchatv1.CloseReason_CLOSE_REASON_SYSTEM_CLOSED, at)
}

func end(rec *busv1.EngagementRecord, to axpchatv1.EngagementStatus, reason axpchatv1.CloseReason, at time.Time) {
	e := rec.GetEngagement()
	because(rec, reason)
	e.EndTime = earlier(e.GetEndTime(), timestamppb.New(at))
	raise(rec, to)
}

// because keeps the first reason that says something: AXP's events do not say
// who ended a chat, so what the customer asked for is better knowledge.
func because(rec *busv1.EngagementRecord, reason axpchatv1.CloseReason) {
	if r := rec.GetEngagement().GetEndReason(); r == axpchatv1.CloseReason_CLOSE_REASON_UNSPECIFIED ||
		(r == axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN && reason != axpchatv1.CloseReason_CLOSE_REASON_UNSPECIFIED) {
		rec.Engagement.EndReason = reason
	}
}

func earlier(have, other *timestamppb.Timestamp) *timestamppb.Timestamp {
	if have == nil || other.AsTime().Before(have.AsTime()) {
		return other
	}
	return have
}

func later(have, other *timestamppb.Timestamp) *timestamppb.Timestamp {
	if have == nil || other.AsTime().After(have.AsTime()) {
		return other
	}
	return have
}
