package chart

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// policy is a NetworkPolicy.
type policy struct {
	PodSelector selector `yaml:"podSelector"`
	PolicyTypes []string `yaml:"policyTypes"`
	Ingress     []rule
	Egress      []rule
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type rule struct {
	Ports    []struct{ Port, Protocol string }
	From, To []peer
}

type peer struct {
	PodSelector       *selector `yaml:"podSelector"`
	NamespaceSelector *selector `yaml:"namespaceSelector"`
	IPBlock           *block    `yaml:"ipBlock"`
}

type block struct {
	CIDR string `yaml:"cidr"`
}

// matches tells whether the pods of a component of the release are meant.
func (p peer) matches(component string) bool {
	if p.NamespaceSelector != nil || p.IPBlock != nil || p.PodSelector == nil {
		return false
	}
	return maps.Equal(p.PodSelector.MatchLabels, labelsOf(component))
}

func labelsOf(component string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": "axp-chat-connector", "app.kubernetes.io/instance": release, "app.kubernetes.io/component": component}
}

// policies are those of a component; without one anything would be allowed.
func policyOf(t *testing.T, objects []object, component string) policy {
	t.Helper()
	var p policy
	find(t, objects, "NetworkPolicy", prefix+component).decode(t, &p)
	if !maps.Equal(p.PodSelector.MatchLabels, labelsOf(component)) || !slices.Contains(p.PolicyTypes, "Ingress") || !slices.Contains(p.PolicyTypes, "Egress") {
		t.Errorf("the policy of %s is of other pods, or only one way: %+v", component, p)
	}
	return p
}

// allows tells whether the rules let pods of a component through to a port.
func allows(rules []rule, peers func(rule) []peer, component string, ports ...string) bool {
	return slices.ContainsFunc(rules, func(r rule) bool {
		open := len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p struct{ Port, Protocol string }) bool { return slices.Contains(ports, p.Port) })
		all := peers(r)
		return open && (len(all) == 0 || slices.ContainsFunc(all, func(p peer) bool { return p.matches(component) }))
	})
}

// TestPodsReachOnlyWhomTheyMust goes through every pair of pods and every port.
func TestPodsReachOnlyWhomTheyMust(t *testing.T) {
	objects := render(t, setFile("everything"))
	components := []string{svcGateway, svcOrchestrator, svcIngest, svcProvisioner, svcNATS}
	// The name of a container's port, and its number.
	ports := map[string][][2]string{
		svcGateway: {{"grpc", "8080"}, {"http", "8081"}, {"admin", "9080"}}, svcOrchestrator: {{"grpc", "8083"}, {"admin", "9083"}, {"operator", "9084"}},
		svcIngest: {{"http", "8082"}, {"admin", "9082"}}, svcNATS: {{"nats", "4222"}, {"routes", "6222"}, {"monitoring", "8222"}},
	}
	must := map[string]bool{
		"gateway>session-orchestrator:grpc": true, "nats>nats:routes": true,
		"gateway>nats:nats": true, "session-orchestrator>nats:nats": true, "webhook-ingest>nats:nats": true, "provisioner>nats:nats": true,
	}
	for _, from := range components {
		out := policyOf(t, objects, from)
		for _, to := range components {
			in := policyOf(t, objects, to)
			for _, port := range ports[to] {
				way := from + ">" + to + ":" + port[0]
				incoming := allows(in.Ingress, func(r rule) []peer { return r.From }, from, port[0], port[1])
				outgoing := allows(out.Egress, func(r rule) []peer { return r.To }, to, port[1])
				if incoming != must[way] {
					t.Errorf("%s: %s takes it: %t", way, to, incoming)
				}
				if must[way] && !outgoing {
					t.Errorf("%s: %s may not call", way, from)
				}
				if outgoing && !must[way] {
					t.Errorf("%s: %s may call", way, from)
				}
			}
		}
	}
	for _, component := range components {
		for _, r := range policyOf(t, objects, component).Egress {
			if len(r.To) == 0 || len(r.Ports) == 0 {
				t.Errorf("%s may call anybody at %+v, or %+v at any port", component, r.Ports, r.To)
			}
		}
	}
	for component, world := range map[string]bool{svcGateway: true, svcOrchestrator: true, svcIngest: false, svcProvisioner: false, svcNATS: false} {
		out := policyOf(t, objects, component)
		if got := slices.ContainsFunc(out.Egress, func(r rule) bool {
			return slices.ContainsFunc(r.To, func(p peer) bool { return p.IPBlock != nil && p.IPBlock.CIDR == "0.0.0.0/0" })
		}); got != world {
			t.Errorf("%s reaches the internet: %t", component, got)
		}
	}
}

// TestOperatorsPortsAreNobodysBusiness: what is served for operators is in no
// Service and no policy; metrics are for Prometheus, once it is asked for.
func TestOperatorsPortsAreNobodysBusiness(t *testing.T) {
	for _, values := range []string{"secrets", "everything"} {
		objects := render(t, setFile(values))
		for _, o := range objects {
			var spec struct {
				Ports []struct {
					TargetPort string `yaml:"targetPort"`
				}
			}
			if o.Kind != "Service" {
				continue
			}
			o.decode(t, &spec)
			for _, p := range spec.Ports {
				own := strings.HasSuffix(o.Metadata.Name, "-admin")
				if p.TargetPort == "operator" || p.TargetPort == "monitoring" || p.TargetPort == "admin" != own || own && values != "everything" {
					t.Errorf("%s: Service %s serves %s", values, o.Metadata.Name, p.TargetPort)
				}
			}
		}
		for _, component := range []string{svcGateway, svcOrchestrator, svcIngest, svcNATS} {
			for _, r := range policyOf(t, objects, component).Ingress {
				for _, p := range r.Ports {
					prometheus := len(r.From) == 1 && r.From[0].PodSelector != nil && r.From[0].PodSelector.MatchLabels["app.kubernetes.io/name"] == "prometheus"
					if p.Port == "monitoring" || p.Port == "operator" || p.Port == "admin" && (values != "everything" || !prometheus) {
						t.Errorf("%s: %s is open to %+v at %s", component, values, r.From, p.Port)
					}
				}
			}
		}
	}
}

// TestOnlyCallbacksComeInByTheWebhooksWay: every Ingress and route, with its paths.
func TestOnlyCallbacksComeInByTheWebhooksWay(t *testing.T) {
	want := map[string]string{
		"Ingress gateway": "/", "Ingress gateway-grpc": "/axpchat.v1.ChatService/", "Ingress webhook-ingest": "/webhooks/axp/",
		"HTTPRoute gateway": "/", "GRPCRoute gateway-grpc": "axpchat.v1.ChatService", "HTTPRoute webhook-ingest": "/webhooks/axp",
	}
	for _, o := range render(t, setFile("everything")) {
		var spec struct {
			Rules []struct {
				HTTP    struct{ Paths []struct{ Path string } }
				Matches []struct {
					Path   struct{ Value string }
					Method struct{ Service string }
				}
			}
		}
		if o.Kind != "Ingress" && !strings.HasSuffix(o.Kind, "Route") {
			continue
		}
		o.decode(t, &spec)
		var got []string
		for _, r := range spec.Rules {
			for _, p := range r.HTTP.Paths {
				got = append(got, p.Path)
			}
			for _, m := range r.Matches {
				got = append(got, m.Path.Value+m.Method.Service)
			}
		}
		key := o.Kind + " " + strings.TrimPrefix(o.Metadata.Name, prefix)
		if !slices.Equal(got, []string{want[key]}) {
			t.Errorf("%s lets through %v, want %q", key, got, want[key])
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("not there: %v", want)
	}
}
