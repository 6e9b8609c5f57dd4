// Package openapi holds the description of the REST API, made from the protos.
package openapi

import _ "embed" // for the description

//go:embed chat.swagger.yaml
var spec []byte

// Spec returns the description in OpenAPI v2, as YAML. It must not be changed.
func Spec() []byte { return spec }
