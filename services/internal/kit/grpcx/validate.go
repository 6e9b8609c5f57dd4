package grpcx

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Validator checks messages against the rules in their protos. It is safe for
// concurrent use.
//
// AXP counts the length of a text in UTF-16 units, protovalidate in code points:
// an emoji is two for the one and one for the other. So every rule
// string.max_len, also of list items, map keys and map values, is checked a
// second time in UTF-16 units.
type Validator struct {
	rules   protovalidate.Validator
	first   protovalidate.Validator // ends with the first violation
	lengths *lengths
}

// manyBytes is the size from which a message that breaks rules is told of the first
// one alone: looking for all costs some 3 µs a violation, which two bytes can make.
const manyBytes = 4 << 10

// NewValidator returns a validator. Rules are compiled when the first message of
// a type comes.
func NewValidator() (*Validator, error) {
	rules, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	first, err := protovalidate.New(protovalidate.WithFailFast())
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	return &Validator{rules: rules, first: first, lengths: &lengths{}}, nil
}

// Validate returns nil, or an *errs.Error: INVALID_ARGUMENT with a violation for
// each broken rule, up to errs.MaxViolations, of a message of 4 KiB or more for the
// first one; or INTERNAL when a rule itself is broken. It does not change the
// message. A nil message is valid.
func (v *Validator) Validate(m proto.Message) error {
	if m == nil {
		return nil
	}
	out := errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "")
	rules := v.rules
	if proto.Size(m) >= manyBytes {
		rules = v.first
	}
	if err := rules.Validate(m); err != nil {
		if _, ok := errors.AsType[*protovalidate.ValidationError](err); !ok {
			return errs.From(fmt.Errorf("rules of %s: %w", m.ProtoReflect().Descriptor().FullName(), err))
		}
		out = errs.From(err)
	}
	out.Violations = v.lengths.check(out.Violations, nil, m.ProtoReflect())
	if len(out.Violations) == 0 {
		return nil
	}
	return out
}
