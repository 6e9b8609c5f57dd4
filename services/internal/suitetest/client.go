package suitetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// Await calls check every few milliseconds until it holds, fails, or ctx ends.
// It is for what only shows from outside; inside a process wait on a channel.
func Await(ctx context.Context, what string, check func(context.Context) (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := check(ctx)
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// CallJSON sends in as JSON and decodes the answer into out; either may be
// nil. A status above 299 is an error that holds the answer's text.
func CallJSON(ctx context.Context, method, url, bearer string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		return &StatusError{Method: method, URL: url, Status: resp.StatusCode, Body: string(data)}
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, out)
}

// StatusError is an answer with a status above 299.
type StatusError struct {
	Method, URL string
	Status      int
	Body        string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: status %d: %s", e.Method, e.URL, e.Status, e.Body)
}

// Token gets a customer's token from the sandbox's issuer.
func Token(ctx context.Context, sandboxURL, name, subject string) (string, error) {
	in := map[string]any{
		"name": name, "subject": subject,
		"identifiers": map[string][]string{"emailAddresses": {subject + "@example.net"}},
	}
	var out struct{ Token string }
	if err := CallJSON(ctx, http.MethodPost, sandboxURL+"/dev/token", "", in, &out); err != nil {
		return "", err
	}
	return out.Token, nil
}

// Desk is a contact-centre agent at the sandbox's desk.
type Desk struct {
	URL  string // of the sandbox
	Name string
}

// DeskChat is a chat as the desk shows it.
type DeskChat struct {
	DialogID             string            `json:"dialogId"`
	Status               string            `json:"status"`
	Waiting              bool              `json:"waiting"`
	Conversation         string            `json:"conversation"`
	SessionParameters    map[string]string `json:"sessionParameters"`
	EngagementParameters map[string]string `json:"engagementParameters"`
	Customer             struct {
		DisplayName string              `json:"displayName"`
		Identifiers map[string][]string `json:"identifiers"`
	} `json:"customer"`
	Participants []struct {
		ParticipantType string `json:"participantType"`
		DisplayName     string `json:"displayName"`
		Connected       bool   `json:"connected"`
	} `json:"participants"`
	Messages         []DeskMessage `json:"messages"`
	ProviderDialogID string        `json:"providerDialogId"`
}

// DeskMessage is a message as the desk shows it.
type DeskMessage struct {
	MessageID         string `json:"messageId"`
	ProviderMessageID string `json:"providerMessageId"`
	SenderType        string `json:"senderType"`
	Text              string `json:"text"`
	Index             int    `json:"index"`
}

// CustomerTexts are what the customer has written, in the dialog's order.
func (c DeskChat) CustomerTexts() []string {
	var texts []string
	for _, m := range c.Messages {
		if m.SenderType == "CUSTOMER" {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// Chats lists all chats.
func (d Desk) Chats(ctx context.Context) ([]DeskChat, error) {
	var out struct{ Chats []DeskChat }
	err := CallJSON(ctx, http.MethodGet, d.URL+"/desk/api/state", "", nil, &out)
	return out.Chats, err
}

// Find waits for a chat of the customer that ok likes.
func (d Desk) Find(ctx context.Context, customer string, ok func(DeskChat) bool) (DeskChat, error) {
	var found DeskChat
	err := Await(ctx, "a chat of "+customer+" at the desk", func(ctx context.Context) (bool, error) {
		chats, err := d.Chats(ctx)
		for _, c := range chats {
			if c.Customer.DisplayName == customer && ok(c) {
				found = c
				return true, nil
			}
		}
		return false, err
	})
	return found, err
}

// Accept takes a waiting chat.
func (d Desk) Accept(ctx context.Context, dialog string) error {
	return d.post(ctx, dialog, "accept", map[string]string{"agentName": d.Name})
}

// Say sends a text to the customer.
func (d Desk) Say(ctx context.Context, dialog, text string) error {
	return d.post(ctx, dialog, "messages", map[string]string{"text": text})
}

// Leave takes the agent out of the chat.
func (d Desk) Leave(ctx context.Context, dialog string) error {
	return d.post(ctx, dialog, "leave", nil)
}

// End ends the chat for everybody.
func (d Desk) End(ctx context.Context, dialog string) error { return d.post(ctx, dialog, "end", nil) }

func (d Desk) post(ctx context.Context, dialog, verb string, in any) error {
	if in == nil {
		in = struct{}{}
	}
	return CallJSON(ctx, http.MethodPost, d.URL+"/desk/api/chats/"+dialog+"/"+verb, "", in, nil)
}

// Page is what an address answers to whoever asks, such as an admin port.
func Page(ctx context.Context, t testing.TB, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, _, body = Answer(t, req)
	return status, body
}

// Answer is what a request is answered with, whatever its status.
func Answer(t testing.TB, req *http.Request) (status int, header http.Header, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req) //nolint:gosec // the test's own address
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}
