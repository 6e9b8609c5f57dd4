package provisioning

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// DefaultEventTypes are the types that the connector needs. MESSAGES covers
// what CUSTOMER_MESSAGES, CC_MESSAGES and ALL bring as well: naming one of
// those beside it might double events.
func DefaultEventTypes() []axp.EventType {
	return []axp.EventType{
		axp.EventMessages,
		axp.EventParticipantAdded,
		axp.EventParticipantDisconnected,
		axp.EventEngagementCreated,
		axp.EventEngagementError,
	}
}

// target is what the account's subscription should be.
type target struct {
	channelProviderID string
	callbackURL       string
	// previousURL is the callback URL with the key before the last rotation,
	// empty if there is none. The receiver still accepts it.
	previousURL string
	// prefix is the callback URL without its key.
	prefix     string
	eventTypes []axp.EventType
}

func newTarget(channelProviderID, callbackURL, previousURL string, eventTypes []axp.EventType) (target, error) {
	u, err := url.Parse(callbackURL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || u.Fragment != "" {
		return target{}, errors.New("the callback URL is not an absolute http(s) address") // the reason would quote the key
	}
	cut := strings.LastIndexByte(callbackURL, '/') + 1
	if len(strings.Trim(u.Path, "/")) == 0 || cut == len(callbackURL) {
		return target{}, errors.New("the callback URL does not end in a key")
	}
	prefix := callbackURL[:cut]
	if previousURL != "" && !strings.HasPrefix(previousURL, prefix) {
		return target{}, errors.New("the previous callback URL differs in more than its key")
	}
	if previousURL == callbackURL {
		previousURL = ""
	}
	if len(eventTypes) == 0 || len(eventTypes) > 6 {
		return target{}, fmt.Errorf("%d event types: AXP takes 1 to 6", len(eventTypes))
	}
	return target{
		channelProviderID: channelProviderID,
		callbackURL:       callbackURL,
		previousURL:       previousURL,
		prefix:            prefix,
		eventTypes:        slices.Clone(eventTypes),
	}, nil
}

// plan is what to do about the subscriptions that AXP lists. At most one of
// create and update is set. remove comes after it, and only if it succeeded.
type plan struct {
	// keep is the subscription that serves us, empty if it is yet to be made.
	keep   string
	create bool
	update *axp.Subscription
	// moved says that the update changes nothing but the key.
	moved  bool
	remove []axp.Subscription
}

// settled says that nothing needs to be done.
func (p plan) settled() bool { return !p.create && p.update == nil && len(p.remove) == 0 }

// planFor compares what is listed with what is wanted.
//
//   - The subscription with our callback URL is kept, and replaced if its types
//     differ. If there are several, all replicas agree on the one with the right
//     types and the smallest id; the others are surplus.
//   - Without one, that with the previous key is moved to the current URL: every
//     receiver accepts both, or the current key would not be in force, so no event
//     is lost and none comes twice.
//   - Without either, one is created.
//   - Those of ours whose key is neither current nor previous are stale.
func (t target) planFor(listed []axp.Subscription) plan {
	var current, previous, stale []axp.Subscription
	for _, s := range listed {
		// The filter of the list is optional in AXP, so it may be ignored.
		if s.ChannelProviderID != t.channelProviderID {
			continue
		}
		switch {
		case s.CallbackURL == t.callbackURL:
			current = append(current, s)
		case s.SubscriptionID == "":
			// Without an id it can be neither changed nor deleted.
		case t.previousURL != "" && s.CallbackURL == t.previousURL:
			previous = append(previous, s)
		case t.ours(s.CallbackURL):
			stale = append(stale, s)
		}
	}
	slices.SortFunc(current, t.better)
	slices.SortFunc(previous, t.better)

	p := plan{remove: stale}
	var chosen axp.Subscription
	switch {
	case len(current) > 0:
		chosen, p.remove = current[0], append(p.remove, withID(current[1:])...)
		if !t.sameTypes(chosen.EventTypes) && chosen.SubscriptionID != "" {
			p.update = t.wanted(chosen.SubscriptionID)
		}
	case len(previous) > 0:
		chosen, p.remove = previous[0], append(p.remove, previous[1:]...)
		p.update, p.moved = t.wanted(chosen.SubscriptionID), t.sameTypes(chosen.EventTypes)
	default:
		p.create = true
	}
	p.keep = chosen.SubscriptionID
	return p
}

// wanted is the subscription as it should be.
func (t target) wanted(id string) *axp.Subscription {
	return &axp.Subscription{
		SubscriptionID:    id,
		ChannelProviderID: t.channelProviderID,
		CallbackURL:       t.callbackURL,
		EventTypes:        t.eventTypes,
	}
}

// swapped is the target of a replica whose previous key is in force.
func (t target) swapped() target {
	if t.previousURL != "" {
		t.callbackURL, t.previousURL = t.previousURL, t.callbackURL
	}
	return t
}

// anyOfOurs finds a subscription that serves us, whatever its key is.
func (t target) anyOfOurs(listed []axp.Subscription) (axp.Subscription, bool) {
	found := slices.DeleteFunc(slices.Clone(listed), func(s axp.Subscription) bool {
		return s.ChannelProviderID != t.channelProviderID || !t.ours(s.CallbackURL) || !t.sameTypes(s.EventTypes)
	})
	if len(found) == 0 {
		return axp.Subscription{}, false
	}
	return slices.MinFunc(found, t.better), true
}

// ours says that a URL is our prefix and one path segment.
func (t target) ours(callbackURL string) bool {
	key, ok := strings.CutPrefix(callbackURL, t.prefix)
	return ok && key != "" && !strings.ContainsAny(key, "/?#")
}

func (t target) sameTypes(types []axp.EventType) bool {
	normal := func(types []axp.EventType) []string {
		var out []string
		for _, e := range types {
			out = append(out, strings.ToUpper(string(e)))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(normal(types), normal(t.eventTypes))
}

// better orders subscriptions for keeping.
func (t target) better(a, b axp.Subscription) int {
	rank := func(s axp.Subscription) int {
		switch {
		case s.SubscriptionID == "":
			return 2
		case !t.sameTypes(s.EventTypes):
			return 1
		default:
			return 0
		}
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a.SubscriptionID, b.SubscriptionID)
}

func withID(subscriptions []axp.Subscription) []axp.Subscription {
	return slices.DeleteFunc(slices.Clone(subscriptions), func(s axp.Subscription) bool { return s.SubscriptionID == "" })
}

// maskKey hides the last path segment of a callback URL for logs.
func maskKey(callbackURL string) string {
	return callbackURL[:strings.LastIndexByte(callbackURL, '/')+1] + "***"
}
