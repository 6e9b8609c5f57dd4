package rotation

import (
	"slices"
	"testing"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

func TestJudge(t *testing.T) {
	old, during, after, step1 := secrets{"A", ""}, secrets{"B", "A"}, secrets{"B", ""}, secrets{"A", "B"}
	inForce := func(current string, superseded ...string) *busv1.SecretAgreement {
		return &busv1.SecretAgreement{Current: current, Superseded: superseded}
	}
	for _, tc := range []struct {
		name      string
		own       secrets
		agreed    *busv1.SecretAgreement
		receivers []secrets
		makers    []secrets
		choice    Choice
		reason    reason
	}{
		{"nothing changes", old, inForce("A"), []secrets{old}, []secrets{old}, Current, stay},
		{"a new secret waits for the last receiver", during, inForce("A"), []secrets{during, old}, []secrets{old, during}, Previous, stay},
		{"a new secret waits for receivers to be heard at all", during, inForce("A"), nil, []secrets{old, during}, Previous, stay},
		{"all receivers honour it", during, inForce("A"), []secrets{during, during}, []secrets{old, during}, Previous, newer},
		{"honouring it as the one before is enough", during, inForce("A"), []secrets{step1}, []secrets{old, during}, Previous, newer},
		{"a new one without the old one waits as well", after, inForce("A"), []secrets{old}, []secrets{after}, Neither, stay},
		{"and is put into force like any other", after, inForce("A"), []secrets{after}, []secrets{after}, Neither, newer},
		{"an old replica leaves the new one alone", old, inForce("B", "A"), []secrets{during}, []secrets{old, during}, Neither, stay},
		{"an old replica that has the new one uses it", step1, inForce("B", "A"), []secrets{during}, []secrets{step1, during}, Previous, stay},
		{"old replicas are left alone: a rollback", old, inForce("B", "A"), []secrets{old}, []secrets{old}, Neither, alone},
		{"a rollback waits for receivers too", old, inForce("B", "A"), []secrets{old, after}, []secrets{old}, Neither, stay},
		{"nobody is left to ask", after, inForce("A"), nil, []secrets{after}, Neither, alone},
	} {
		choice, why := judge(tc.own, tc.agreed, view{tc.receivers, tc.makers})
		if choice != tc.choice || why != tc.reason {
			t.Errorf("%s: got %v and %d, want %v and %d", tc.name, choice, why, tc.choice, tc.reason)
		}
	}
}

func TestAnAgreementRemembersWhatWasInForce(t *testing.T) {
	a := &busv1.SecretAgreement{Current: "a"}
	for _, f := range []string{"b", "c", "b", "d", "e", "f", "g", "h", "i", "j"} {
		a = next(secrets{current: f}, a)
	}
	want := []string{"b", "d", "e", "f", "g", "h", "i"}
	if got := a.GetSuperseded(); len(got) != remembered || !slices.Equal(got[1:], want) || a.GetCurrent() != "j" {
		t.Errorf("got %v in force, before %v", a.GetCurrent(), got)
	}
}
