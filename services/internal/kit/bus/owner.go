package bus

import busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"

// OwnedBy tells whether a session is a customer's. The subject of an anonymous one is
// often of his own choice: it opens no session of one who has signed in under it.
func OwnedBy(rec *busv1.SessionRecord, subject string, anonymous bool) bool {
	return subject != "" && rec.GetSubject() == subject && (!anonymous || rec.GetSession().GetAnonymous())
}
