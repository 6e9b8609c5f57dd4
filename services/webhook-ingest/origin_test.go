package ingest_test

import (
	"net/http"
	"testing"
)

func TestCallsAreTakenFromAllowedNetworksOnly(t *testing.T) {
	elsewhere := start(t, map[string]string{"WEBHOOK_ALLOWED_NETWORKS": "203.0.113.0/24"})
	if a := elsewhere.post(message(elsewhere.ours(), ""), "X-Forwarded-For", "203.0.113.7"); a.status != http.StatusNotFound {
		t.Errorf("a header of somebody who is no proxy of ours: %d", a.status)
	}
	elsewhere.nothingStored()
	if got := elsewhere.metrics(); !matches(got, `axpchat_webhook_events_total{.*result="wrong-address",type="NONE"} 1`) {
		t.Errorf("the call is not counted:\n%s", axpchatLines(got))
	}

	here := start(t, map[string]string{"WEBHOOK_ALLOWED_NETWORKS": "203.0.113.0/24,::1,127.0.0.1"})
	here.accepted(message(here.ours(), ""))

	behind := start(t, map[string]string{"WEBHOOK_ALLOWED_NETWORKS": "203.0.113.0/24,2001:db8::/32", "WEBHOOK_TRUSTED_PROXIES": "127.0.0.0/8,10.0.0.0/8"})
	for _, tt := range []struct {
		name, forwarded string
		want            int
	}{
		{"the proxy itself", "", 404},
		{"AXP through one proxy", "203.0.113.7", 200},
		{"AXP through two", "203.0.113.7, 10.1.2.3", 200},
		{"with ports", "203.0.113.7:1234, [::ffff:10.1.2.3]:80", 200},
		{"IPv6", "2001:db8::1", 200},
		{"somebody else", "198.51.100.1", 404},
		{"somebody else who claims to forward for AXP", "203.0.113.7, 198.51.100.1", 404},
		{"no address", "203.0.113.7, unknown", 404},
	} {
		if a := behind.post(message(behind.ours(), ""), "X-Forwarded-For", tt.forwarded); a.status != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, a.status, tt.want)
		}
	}
}
