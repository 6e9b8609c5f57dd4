package axp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// decode reads a JSON answer as far as it can be read. A field whose value has
// the wrong type is left at its zero value: the contract contradicts itself in
// places, and one odd field must not cost the answer to a call that AXP has
// carried out. Only text that is not JSON is an error.
func decode(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	if _, wrongType := errors.AsType[*json.UnmarshalTypeError](err); wrongType {
		return nil
	}
	if err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}

// Time is a point in time as AXP writes it. It is zero where AXP wrote none,
// or something that is not a time.
type Time struct{ time.Time }

// ParseTime reads ISO 8601 with a zone as "Z", "+hh:mm" or "+hhmm" and any
// number of fraction digits (more than nine are cut off). Without a zone, UTC
// is assumed.
func ParseTime(text string) (Time, bool) {
	text = strings.TrimSpace(text)
	for _, layout := range []string{
		"2006-01-02T15:04:05Z07:00",
		"2006-01-02T15:04:05Z0700",
		"2006-01-02T15:04:05Z07",
		"2006-01-02T15:04:05",
	} {
		if t, err := time.Parse(layout, text); err == nil {
			return Time{t.UTC()}, true
		}
	}
	return Time{}, false
}

// UnmarshalJSON never fails: what cannot be read leaves the zero time.
func (t *Time) UnmarshalJSON(data []byte) error {
	*t = Time{}
	var text string
	if json.Unmarshal(data, &text) == nil {
		if parsed, ok := ParseTime(text); ok {
			*t = parsed
		}
	}
	return nil
}

// MarshalJSON writes UTC with "Z", as the contract asks of requests, and null
// for the zero time.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return strconv.AppendQuote(nil, t.UTC().Format("2006-01-02T15:04:05.000Z")), nil
}

// Int is a whole number that may be absent. It is read from a number, also one
// written with a fraction of zero, and from a string that holds one.
type Int struct {
	// Value is meaningful if Known.
	Value int64
	// Known says that AXP sent a whole number.
	Known bool
}

// UnmarshalJSON never fails: what is no whole number leaves the value unknown.
func (n *Int) UnmarshalJSON(data []byte) error {
	*n = Int{}
	text := string(bytes.TrimSpace(data))
	var quoted string
	if json.Unmarshal(data, &quoted) == nil && text != "null" {
		text = strings.TrimSpace(quoted)
	}
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		*n = Int{Value: v, Known: true}
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	// Beyond 2^53 a float no longer names one whole number.
	if err == nil && f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		*n = Int{Value: int64(f), Known: true}
	}
	return nil
}

// MarshalJSON writes null for an unknown value.
func (n Int) MarshalJSON() ([]byte, error) {
	if !n.Known {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, n.Value, 10), nil
}

// UnmarshalJSON is tolerant, see Message, and reads the places where the
// published samples differ from the schema: files under "attachmentIds", rich
// content inside elementText or beside the body.
func (m *Message) UnmarshalJSON(data []byte) error {
	type plain Message // without this method
	var wire struct {
		plain
		AttachmentIDs    []Attachment      `json:"attachmentIds"`
		RichMediaPayload *RichMediaPayload `json:"richMediaPayload"`
	}
	if err := decode(data, &wire); err != nil {
		return err
	}
	*m = Message(wire.plain)
	if len(m.Attachments) == 0 {
		m.Attachments = wire.AttachmentIDs
	}
	if m.Body.RichMediaPayload == nil {
		m.Body.RichMediaPayload = wire.RichMediaPayload
	}
	m.Raw = bytes.Clone(data)
	return nil
}

// UnmarshalJSON accepts a payload that is not a string (it is documented as
// one, often of JSON) and rich content inside elementText.
func (b *MessageBody) UnmarshalJSON(data []byte) error {
	type plain MessageBody
	var wire struct {
		plain
		Payload     json.RawMessage `json:"payload"`
		ElementText *struct {
			ElementText
			RichMediaPayload *RichMediaPayload `json:"richMediaPayload"`
		} `json:"elementText"`
	}
	if err := decode(data, &wire); err != nil {
		return err
	}
	*b = MessageBody(wire.plain)
	b.Payload = textOf(wire.Payload)
	if wire.ElementText != nil {
		b.ElementText = &wire.ElementText.ElementText
		if b.RichMediaPayload == nil {
			b.RichMediaPayload = wire.ElementText.RichMediaPayload
		}
	}
	return nil
}

// UnmarshalJSON reads the id from "attachmentId", else from "id": the public
// document requires the one and declares the other.
func (a *Attachment) UnmarshalJSON(data []byte) error {
	type plain Attachment
	var wire struct {
		plain
		ID string `json:"id"`
	}
	if err := decode(data, &wire); err != nil {
		return err
	}
	*a = Attachment(wire.plain)
	if a.AttachmentID == "" {
		a.AttachmentID = wire.ID
	}
	return nil
}

// textOf gives the text of a JSON string, and the JSON itself of anything else
// but null.
func textOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}
