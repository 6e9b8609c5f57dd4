package axp

import (
	"context"
	"net/url"
)

// CreateEngagement starts a chat. If the customer has an engagement already,
// AXP adds a dialog to it: find ours with Engagement.DialogByProviderID. After
// an Unknown outcome look for it in ListEngagements before calling again.
func (c *Client) CreateEngagement(ctx context.Context, r CreateEngagement) (*Engagement, error) {
	if r.ChannelID == "" {
		r.ChannelID = c.account.ChannelID
	}
	if r.SessionID == "" {
		return nil, invalidRequest(c.operations[OpCreateEngagement], "sessionId is missing")
	}
	return c.engagement(ctx, OpCreateEngagement, input{body: r})
}

// ListEngagements lists the engagements of a session.
func (c *Client) ListEngagements(ctx context.Context, sessionID string) ([]Engagement, error) {
	op := c.operations[OpListEngagements]
	if sessionID == "" {
		return nil, invalidRequest(op, "sessionId is missing")
	}
	var out []Engagement
	err := c.do(ctx, op.Name, input{query: url.Values{"sessionId": {sessionID}}, out: &out})
	return out, err
}

// GetEngagement reads an engagement.
func (c *Client) GetEngagement(ctx context.Context, engagementID string) (*Engagement, error) {
	return c.engagement(ctx, OpGetEngagement, input{ids: []string{engagementID}})
}

// JoinEngagement takes another session of the customer into an active dialog.
func (c *Client) JoinEngagement(ctx context.Context, engagementID string, r JoinEngagement) (*Engagement, error) {
	if r.SessionID == "" || r.DialogID == "" {
		return nil, invalidRequest(c.operations[OpJoinEngagement], "sessionId or dialogId is missing")
	}
	return c.engagement(ctx, OpJoinEngagement, input{ids: []string{engagementID}, body: r})
}

// DisconnectEngagement takes the customer out of a dialog; one that is gone
// counts as disconnected. There is no way back into it.
func (c *Client) DisconnectEngagement(ctx context.Context, engagementID string, r DisconnectEngagement) error {
	if r.Reason == "" {
		r.Reason = ReasonUserClosed
	}
	if r.SessionID == "" || r.DialogID == "" {
		return invalidRequest(c.operations[OpDisconnectEngagement], "sessionId or dialogId is missing")
	}
	return c.do(ctx, OpDisconnectEngagement, input{ids: []string{engagementID}, body: r})
}

func (c *Client) engagement(ctx context.Context, name string, in input) (*Engagement, error) {
	out := new(Engagement)
	in.out = out
	if err := c.do(ctx, name, in); err != nil {
		return nil, err
	}
	if out.EngagementID == "" {
		return nil, unusable(c.operations[name], "engagementId")
	}
	return out, nil
}
