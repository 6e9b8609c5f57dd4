// Package idle owns what becomes of a customer who does nothing: the chat is
// warned of, then disconnected with USER_INACTIVE, and in the end the session is
// deleted. The server does it, whatever the app does; a customer who has killed
// the app does not hold an agent.
//
// What counts as an act of the customer: a message, a new chat, joining one, new
// session parameters, a keep-alive. An open stream does not, for the phone that
// lies on the table has one too; but a session that a client follows is not
// deleted. An agent who writes gives the customer the whole idle time again, until
// he is warned: from then on only the customer himself can keep the chat.
//
// The clock is a timer in NATS, one for each session: it survives restarts, and
// one replica gets it. It is lazy: an act of the customer only notes its time in
// the record, and the timer, when it comes due, asks the record whether it was
// right and is set anew where it was not. What is done is decided by
// compare-and-set on the record, so a timer that comes twice, or while the
// customer does something, does no harm. Package reaper sets timers that a crash
// has lost.
//
// The rules themselves are package state's.
package idle
