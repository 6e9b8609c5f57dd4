// Package privacy holds the suite to what it promises about personal data and
// secrets: a full story is told to separate processes, with every failure that
// could make one of them talkative, and all that they wrote for operators is
// searched for what only the customer, the company or AXP should know. And a
// session that is erased must be gone, whatever is under way meanwhile. Tests
// only.
package privacy
