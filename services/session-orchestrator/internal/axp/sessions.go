package axp

import (
	"context"
	"fmt"
	"net/url"
)

// CreateSession opens a session for a customer's client. With an Unknown
// outcome a second call may leave a spare session behind in AXP, which is
// harmless.
func (c *Client) CreateSession(ctx context.Context, r CreateSession) (*Session, error) {
	r.AccountID = c.account.AccountID
	if r.ChannelProviderID == "" {
		r.ChannelProviderID = c.account.ChannelProviderID
	}
	return c.session(ctx, OpCreateSession, input{body: r})
}

// GetSession reads a session.
func (c *Client) GetSession(ctx context.Context, sessionID string) (*Session, error) {
	return c.session(ctx, OpGetSession, input{ids: []string{sessionID}})
}

// AppendIdentifiers adds customer identifiers; values of a name that exists
// are appended. A second call after an Unknown outcome may double them. AXP's
// account of the session may be empty.
func (c *Client) AppendIdentifiers(ctx context.Context, sessionID string, identifiers CustomerIdentifiers) (*Session, error) {
	return c.session(ctx, OpAppendIdentifiers, input{ids: []string{sessionID}, body: identifiers})
}

// UpdateSessionParameters sets parameters key by key; others stay. AXP holds
// at most 20. AXP's account of the session may be empty.
func (c *Client) UpdateSessionParameters(ctx context.Context, sessionID string, parameters map[string]string) (*Session, error) {
	return c.session(ctx, OpUpdateSessionParameters, input{ids: []string{sessionID}, body: parameters})
}

// DeleteSession ends a session; one that is gone counts as ended. Whether AXP
// then ends its dialogs is not documented: disconnect them before. An empty
// reason is sent as USER_CLOSED.
func (c *Client) DeleteSession(ctx context.Context, sessionID string, reason Reason) error {
	if reason == "" {
		reason = ReasonUserClosed
	}
	return c.do(ctx, OpDeleteSession, input{
		ids:   []string{sessionID},
		query: url.Values{"reason": {string(reason)}},
	})
}

func (c *Client) session(ctx context.Context, name string, in input) (*Session, error) {
	out := new(Session)
	in.out = out
	if err := c.do(ctx, name, in); err != nil {
		return nil, err
	}
	if op := c.operations[name]; out.SessionID == "" && !op.BodyOptional {
		return nil, unusable(op, "sessionId")
	}
	return out, nil
}

// unusable is the error of a success whose answer lacks what the caller needs
// to go on.
func unusable(op Operation, field string) *Error {
	return &Error{Operation: op.Name, Status: 200, Outcome: Unknown, Attempts: 1,
		Cause: fmt.Errorf("the answer holds no %s", field)}
}
