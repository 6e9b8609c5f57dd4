// Package config owns how a service reads its configuration: environment
// variables over a YAML file over defaults, into one struct.
//
// The struct is the single description of the configuration. Its tags name the
// environment variable, the default, whether a value is required and what it
// means; [Load] fills it, [Print] shows the effective result with secrets
// masked and [Doc] writes the reference for people.
//
//	type Config struct {
//		Listen  string        `env:"LISTEN_ADDR" default:":8080" doc:"Address to listen on."`
//		Key     config.Secret `env:"SIGNING_KEY" required:"true" doc:"Signs tickets."`
//		Tenants []Tenant      `yaml:"tenants" doc:"One entry a tenant."`
//	}
//
// Invariants: all mistakes are reported at once and each names its key; a key
// of the file that nobody knows is a mistake; the value of a [Secret] appears in
// no error and in no output.
//
// A field with the tag reload:"true" may change while the service runs:
// [Watcher] notices that a file has changed, checks all of it, and has the
// service put it into force.
//
// The package never reads a variable that no tag names, never writes to the
// environment, and keeps no state. It is called by the mains, through
// lifecycle.Env, and by tests that assemble a service.
package config
