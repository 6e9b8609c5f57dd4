package axp

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// DefaultChannelID is the channel of Custom Chat as the published samples
// spell it. AXP compares it without regard to case.
const DefaultChannelID = "Chat"

// Account says which AXP account (tenant) a Client serves, and as whom.
type Account struct {
	// AccountID is AXP's id of the tenant, six letters.
	AccountID string `yaml:"account_id" required:"true" doc:"AXP account (tenant) id, six letters." example:"ABCDEF"`
	// ClientID is the OAuth client that administration has issued.
	ClientID string `yaml:"client_id" required:"true" doc:"OAuth client id of the connector in AXP."`
	// ClientSecret belongs to ClientID.
	ClientSecret config.Secret `yaml:"client_secret" required:"true" doc:"OAuth client secret of the connector in AXP."`
	// AppKey is the application key that goes with every call.
	AppKey config.Secret `yaml:"app_key" required:"true" doc:"AXP application key, sent with every call."`
	// ChannelProviderID is the id of the Chat connector element in AXP's
	// administration, 3 to 256 characters.
	ChannelProviderID string `yaml:"channel_provider_id" required:"true" doc:"Id of the Chat connector element in AXP."`
	// ChannelID is the channel of new engagements.
	ChannelID string `yaml:"channel_id" default:"Chat" doc:"Channel of new engagements."`
	// BaseURL is the origin of AXP's API: scheme, host and port, no path.
	BaseURL string `yaml:"base_url" doc:"Origin of AXP's API (scheme, host, port)." example:"https://eu.api.avayacloud.com"`
	// MediaHosts are further hosts that signed media addresses may point to,
	// beside the one of BaseURL: exact names, or suffixes with a leading dot.
	MediaHosts []string `yaml:"media_hosts" doc:"Hosts, beside that of base_url, that signed media addresses may point to; a leading dot means any subdomain."`
	// ConcurrencyMax bounds the account's calls under way; 0: as Config says.
	ConcurrencyMax int `yaml:"concurrency_max" doc:"Most calls that the account may have under way at once, in one replica, instead of AXP_CONCURRENCY_MAX; 0: the same."`
}

// credentials are what may change while a Client lives.
type credentials struct {
	clientID             string
	clientSecret, appKey config.Secret
}

func (a *Account) credentials() *credentials {
	return &credentials{clientID: a.ClientID, clientSecret: a.ClientSecret, appKey: a.AppKey}
}

// SameBut tells whether two accounts differ in nothing but their credentials:
// client id, client secret and application key.
func (a Account) SameBut(other Account) bool {
	for _, side := range []*Account{&a, &other} {
		side.ClientID, side.ClientSecret, side.AppKey = "", "", ""
		side.MediaHosts = append([]string{}, side.MediaHosts...) // none and an empty list mean the same
		side.fill()
	}
	return reflect.DeepEqual(a, other)
}

func (a *Account) fill() {
	if a.ChannelID == "" {
		a.ChannelID = DefaultChannelID
	}
}

// Validate reports everything that is wrong with the account, as one joined
// error whose parts name the field as in the YAML file.
func (a Account) Validate() error {
	var problems []error
	fault := func(field, text string) {
		problems = append(problems, fmt.Errorf("%s: %s", field, text))
	}
	if !validAccountID(a.AccountID) {
		fault("account_id", "must be exactly 6 letters")
	}
	if a.ClientID == "" {
		fault("client_id", "is missing")
	}
	if a.ClientSecret.Reveal() == "" {
		fault("client_secret", "is missing")
	}
	if a.AppKey.Reveal() == "" {
		fault("app_key", "is missing")
	}
	if strings.ContainsAny(a.AppKey.Reveal(), "\r\n") {
		fault("app_key", "must not contain line breaks")
	}
	if n := utf16Length(a.ChannelProviderID); n < 3 || n > 256 {
		fault("channel_provider_id", "must have 3 to 256 characters")
	}
	if n := utf16Length(a.ChannelID); a.ChannelID != "" && (n < 3 || n > 50) {
		fault("channel_id", "must have 3 to 50 characters")
	}
	if a.ConcurrencyMax < 0 {
		fault("concurrency_max", "must not be negative")
	}
	if _, err := parseOrigin(a.BaseURL); err != nil {
		fault("base_url", err.Error())
	}
	return errors.Join(problems...)
}

var accountIDForm = regexp.MustCompile(`^[a-zA-Z]{6}$`)

func validAccountID(id string) bool { return accountIDForm.MatchString(id) }

// parseOrigin accepts scheme, host and port and nothing else: a path there
// would silently be dropped or doubled, and user information would be sent in
// clear to whoever answers.
func parseOrigin(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("is missing")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must start with https:// (or http:// for a stand-in)")
	case u.Host == "" || u.Hostname() == "":
		return nil, errors.New("must name a host")
	case u.User != nil:
		return nil, errors.New("must not hold a user name or password")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must be an origin only, without path, query or fragment")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// utf16Length counts as AXP's limits are counted here; the unit is not
// documented, and UTF-16 gives the largest count of the candidates.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}
