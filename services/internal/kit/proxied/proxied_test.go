package proxied_test

import (
	"net"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/proxied"
)

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	c := proxied.Config{Networks: []string{"10.0.0.0/8", "balancer.example.com"}}
	var keys []string
	for _, m := range c.Validate() {
		keys = append(keys, m.Key)
	}
	if len(keys) != 2 || keys[0] != "PROXY_PROTOCOL_NETWORKS" || keys[1] != "PROXY_PROTOCOL_TIMEOUT" {
		t.Errorf("mistakes of %v", keys)
	}
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	if _, err := c.Listen(lis); err == nil {
		t.Error("networks that are none were taken")
	}
	off := proxied.Config{Timeout: time.Second}
	if got, err := off.Listen(lis); got != lis || err != nil {
		t.Errorf("without networks: %v, %v", got, err)
	}
}
