package grpcx

import (
	"fmt"
	"strconv"
	"sync"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/axpchat/connector/services/internal/kit/errs"
)

// ruleMaxLen is protovalidate's id of the rule that is counted again.
const ruleMaxLen = "string.max_len"

// lengths finds texts that are within string.max_len in code points but not in
// UTF-16 units. What is to be looked at is worked out once for each type.
type lengths struct {
	plans sync.Map // protoreflect.FullName -> plan
}

// plan lists the fields of a type that hold a limited text or a message.
type plan []limited

type limited struct {
	field protoreflect.FieldDescriptor
	// values and keys are the limits of the text itself, of the items of a list
	// or of the values and the keys of a map; 0: none.
	values, keys int
}

func (l *lengths) planOf(d protoreflect.MessageDescriptor) plan {
	if p, ok := l.plans.Load(d.FullName()); ok {
		return p.(plan) //nolint:forcetypeassert // nothing else is stored
	}
	var p plan
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		rules, _ := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
		if rules.GetIgnore() == validate.Ignore_IGNORE_ALWAYS {
			rules = nil
		}
		entry := limited{field: f}
		inner := f
		switch {
		case f.IsMap():
			inner = f.MapValue()
			entry.keys = maxLen(rules.GetMap().GetKeys())
			entry.values = maxLen(rules.GetMap().GetValues())
		case f.IsList():
			entry.values = maxLen(rules.GetRepeated().GetItems())
		default:
			entry.values = maxLen(rules)
		}
		if entry.values > 0 || entry.keys > 0 || inner.Message() != nil {
			p = append(p, entry)
		}
	}
	l.plans.Store(d.FullName(), p)
	return p
}

func maxLen(rules *validate.FieldRules) int {
	return int(min(rules.GetString().GetMaxLen(), 1<<31-1))
}

// place is where in a message something is. Its path is written only for what is
// wrong: a key may be as long as the message, and stands before each of the values.
type place struct {
	up    *place
	field protoreflect.FieldDescriptor
	key   protoreflect.MapKey // of a map's entry
	index int                 // of a list's item; -1: neither map nor list
}

func (p *place) String() string {
	var path string
	if p.up != nil {
		path = p.up.String() + "."
	}
	path += p.field.JSONName()
	switch {
	case p.key.IsValid():
		path += "[" + keyText(p.key, p.field.MapKey()) + "]"
	case p.index >= 0:
		path += "[" + strconv.Itoa(p.index) + "]"
	}
	return path
}

// check appends a violation for each text of the message that is too long, as long
// as callers are told of more.
func (l *lengths) check(out []errs.Violation, up *place, m protoreflect.Message) []errs.Violation {
	for _, entry := range l.planOf(m.Descriptor()) {
		f := entry.field
		if !m.Has(f) {
			continue
		}
		switch {
		case f.IsMap():
			m.Get(f).Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				at := &place{up: up, field: f, key: key, index: -1}
				if entry.keys > 0 {
					out = checkText(out, at, "key: ", key.String(), entry.keys)
				}
				out = l.checkValue(out, at, value, entry, f.MapValue())
				return len(out) < errs.MaxViolations
			})
		case f.IsList():
			list := m.Get(f).List()
			for i := 0; i < list.Len() && len(out) < errs.MaxViolations; i++ {
				out = l.checkValue(out, &place{up: up, field: f, index: i}, list.Get(i), entry, f)
			}
		default:
			out = l.checkValue(out, &place{up: up, field: f, index: -1}, m.Get(f), entry, f)
		}
	}
	return out
}

// checkValue looks at one text or message, of the kind that f describes.
func (l *lengths) checkValue(out []errs.Violation, at *place, v protoreflect.Value, entry limited, f protoreflect.FieldDescriptor) []errs.Violation {
	switch {
	case f.Message() != nil:
		return l.check(out, at, v.Message())
	case entry.values > 0 && f.Kind() == protoreflect.StringKind:
		return checkText(out, at, "", v.String(), entry.values)
	}
	return out
}

// checkText leaves out what is too long in code points too: that violation is
// known already.
func checkText(out []errs.Violation, at *place, about, text string, limit int) []errs.Violation {
	// A UTF-16 unit takes at least one byte of UTF-8.
	if len(out) >= errs.MaxViolations || len(text) <= limit || UTF16Len(text) <= limit || utf8.RuneCountInString(text) > limit {
		return out
	}
	return append(out, errs.Violation{
		Field:   at.String(),
		Message: fmt.Sprintf("%smust be at most %d characters, counted in UTF-16 units", about, limit),
		Code:    ruleMaxLen,
	})
}

func keyText(key protoreflect.MapKey, f protoreflect.FieldDescriptor) string {
	if f.Kind() == protoreflect.StringKind {
		return strconv.Quote(key.String())
	}
	return key.String()
}

// UTF16Len returns the length of a text in UTF-16 units, the way AXP counts.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}
