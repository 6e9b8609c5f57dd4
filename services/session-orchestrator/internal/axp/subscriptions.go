package axp

import (
	"context"
	"net/url"
)

// subscriptionBody is what of a Subscription may be sent: subscriptionId is
// read-only, although a published sample sends it.
type subscriptionBody struct {
	ChannelProviderID string      `json:"channelProviderId"`
	CallbackURL       string      `json:"callbackUrl"`
	EventTypes        []EventType `json:"eventTypes"`
}

func (c *Client) subscriptionBody(s Subscription) subscriptionBody {
	if s.ChannelProviderID == "" {
		s.ChannelProviderID = c.account.ChannelProviderID
	}
	return subscriptionBody{s.ChannelProviderID, s.CallbackURL, s.EventTypes}
}

// CreateSubscription subscribes a callback URL. What AXP does with a second
// one that is the same is not documented: list first, also after an Unknown
// outcome.
func (c *Client) CreateSubscription(ctx context.Context, s Subscription) (*Subscription, error) {
	return c.subscription(ctx, OpCreateSubscription, input{body: c.subscriptionBody(s)})
}

// ListSubscriptions lists subscriptions, of all channel providers if
// channelProviderID is empty.
func (c *Client) ListSubscriptions(ctx context.Context, channelProviderID string) ([]Subscription, error) {
	var query url.Values
	if channelProviderID != "" {
		query = url.Values{"channelProviderId": {channelProviderID}}
	}
	var out []Subscription
	err := c.do(ctx, OpListSubscriptions, input{query: query, out: &out})
	return out, err
}

// GetSubscription reads a subscription.
func (c *Client) GetSubscription(ctx context.Context, subscriptionID string) (*Subscription, error) {
	return c.subscription(ctx, OpGetSubscription, input{ids: []string{subscriptionID}})
}

// UpdateSubscription replaces the subscription with the id in s; callback URL
// and event types may change. AXP's account of it may be empty.
func (c *Client) UpdateSubscription(ctx context.Context, s Subscription) (*Subscription, error) {
	return c.subscription(ctx, OpUpdateSubscription, input{
		ids:  []string{s.SubscriptionID},
		body: c.subscriptionBody(s),
	})
}

// DeleteSubscription removes a subscription; one that is gone counts as
// removed.
func (c *Client) DeleteSubscription(ctx context.Context, subscriptionID string) error {
	return c.do(ctx, OpDeleteSubscription, input{ids: []string{subscriptionID}})
}

func (c *Client) subscription(ctx context.Context, name string, in input) (*Subscription, error) {
	out := new(Subscription)
	in.out = out
	if err := c.do(ctx, name, in); err != nil {
		return nil, err
	}
	return out, nil
}
