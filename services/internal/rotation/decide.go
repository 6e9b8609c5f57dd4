package rotation

import (
	"slices"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// Choice says which secret a replica works with.
type Choice int32

const (
	// Neither says that one is in force that this replica does not have. It leaves
	// the subscription alone.
	Neither Choice = iota
	// Current says that its WEBHOOK_SECRET is in force.
	Current
	// Previous says that its WEBHOOK_SECRET_PREVIOUS is.
	Previous
)

// String is the choice for logs and metrics.
func (c Choice) String() string {
	switch c {
	case Current:
		return "current"
	case Previous:
		return "previous"
	default:
		return "neither"
	}
}

// secrets are the fingerprints that a replica has.
type secrets struct{ current, previous string }

func (s secrets) honours(fingerprint string) bool {
	return fingerprint != "" && (s.current == fingerprint || s.previous == fingerprint)
}

// view is what a replica sees of the others.
type view struct {
	receivers []secrets // those that take callbacks
	makers    []secrets // those that make keys, itself among them
}

// accepted tells whether everybody who takes callbacks honours a secret.
func (v view) accepted(fingerprint string) bool {
	return len(v.receivers) > 0 && !slices.ContainsFunc(v.receivers, func(s secrets) bool { return !s.honours(fingerprint) })
}

// made tells whether somebody has a secret as its own, not only as the one before.
func (v view) made(fingerprint string) bool {
	return slices.ContainsFunc(v.makers, func(s secrets) bool { return s.current == fingerprint })
}

// reason is why a replica would put its own secret into force.
type reason int

const (
	stay reason = iota
	// newer: it has not been in force yet, and all receivers honour it.
	newer
	// alone: nobody is left who makes keys with the one that is in force.
	alone
)

// judge says what an agreement means to a replica. A reason beside the choice has
// to hold for a while before the replica's own secret is put into force: one look
// may miss somebody.
func judge(own secrets, agreed *busv1.SecretAgreement, v view) (Choice, reason) {
	choice := Neither
	switch agreed.GetCurrent() {
	case own.current:
		return Current, stay
	case own.previous:
		choice = Previous
	}
	superseded := slices.Contains(agreed.GetSuperseded(), own.current)
	left := !v.made(agreed.GetCurrent())
	switch accepted := v.accepted(own.current); {
	case accepted && !superseded:
		return choice, newer
	case accepted && left, len(v.receivers) == 0 && left:
		return choice, alone
	default:
		return choice, stay
	}
}

// remembered bounds how many secrets of before an agreement holds.
const remembered = 8

// next is the agreement after a replica's own secret has been put into force.
func next(own secrets, agreed *busv1.SecretAgreement) *busv1.SecretAgreement {
	before := slices.DeleteFunc(slices.Clone(agreed.GetSuperseded()), func(f string) bool { return f == own.current || f == agreed.GetCurrent() })
	before = append(before, agreed.GetCurrent())
	return &busv1.SecretAgreement{Current: own.current, Superseded: before[max(0, len(before)-remembered):]}
}
