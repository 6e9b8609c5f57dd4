package connector_test

import (
	"testing"

	"github.com/axpchat/connector/services/connector"
	"github.com/axpchat/connector/services/internal/kit/config/configtest"
)

// FuzzConfiguration loads files into the configuration of all services at once,
// with what each of them checks of it.
func FuzzConfiguration(f *testing.F) {
	configtest.Fuzz(f, func() any { return &connector.Config{} })
}
