package chart

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// TestEveryPodIsRestricted holds every pod against Kubernetes' pod security standard
// "restricted", and against more: no writable root, no token, no privileges.
func TestEveryPodIsRestricted(t *testing.T) {
	for _, values := range sets(t) {
		for component, p := range pods(t, render(t, values)) {
			t.Run(filepath.Base(values)+"/"+component, func(t *testing.T) {
				if is(p.AutomountServiceAccountToken, true) || p.ServiceAccountName == "" || p.ServiceAccountName == "default" {
					t.Error("it has a token of Kubernetes, or no account of its own")
				}
				if !is(p.EnableServiceLinks, false) {
					t.Error("variables of other Services would be taken for settings")
				}
				if p.HostNetwork || p.HostPID || p.HostIPC || len(p.InitContainers) > 0 {
					t.Error("it is on the host's network, or among its processes")
				}
				s := p.SecurityContext
				if !is(s.RunAsNonRoot, true) || s.RunAsUser == nil || *s.RunAsUser == 0 || s.SeccompProfile.Type != "RuntimeDefault" {
					t.Errorf("%+v", s)
				}
				for _, v := range p.Volumes {
					if v.HostPath != nil || v.ConfigMap == nil && v.Secret == nil && v.EmptyDir == nil {
						t.Errorf("volume %s is of a kind that is not allowed", v.Name)
					}
					if v.Secret != nil && v.Secret.DefaultMode&0o007 != 0 {
						t.Errorf("everybody in the container may read %s", v.Name)
					}
				}
				if len(p.Containers) == 0 {
					t.Fatal("it has no container: the test looks at the wrong thing")
				}
				for _, c := range p.Containers {
					restricted(t, c)
				}
			})
		}
	}
}

func restricted(t *testing.T, c container) {
	t.Helper()
	s := c.SecurityContext
	if !is(s.AllowPrivilegeEscalation, false) || !is(s.ReadOnlyRootFilesystem, true) || is(s.Privileged, true) || s.RunAsUser != nil ||
		!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("%s: %+v", c.Name, s)
	}
	if c.Resources.Limits["memory"] == "" || c.Resources.Requests["cpu"] == "" || c.Resources.Requests["memory"] == "" {
		t.Errorf("%s may take any memory", c.Name)
	}
	if strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image, ":") {
		t.Errorf("%s has an image of no version: %s", c.Name, c.Image)
	}
	for _, p := range c.Ports {
		if p.HostPort != "" {
			t.Errorf("%s has a port of the host", c.Name)
		}
	}
}

func is(b *bool, want bool) bool { return b != nil && *b == want }

// TestNothingSecretIsRendered looks through all that the chart makes: it has no
// Secret, no secret in the environment and none in a configuration.
func TestNothingSecretIsRendered(t *testing.T) {
	secret := map[string]bool{"NATS_STORE_KEY": true, "OTEL_EXPORTER_OTLP_HEADERS": true}
	helm(t)
	for service := range services() {
		for _, s := range settings(t, service) {
			if strings.HasPrefix(s.kind, "secret") {
				secret[strings.ToUpper(s.name)] = true
			}
		}
	}
	if len(secret) < 10 {
		t.Fatalf("%d secrets: the test looks at the wrong thing", len(secret))
	}
	for _, values := range sets(t) {
		objects := render(t, values)
		for _, o := range objects {
			if o.Kind == "Secret" {
				t.Errorf("%s: the chart makes Secret %s", values, o.Metadata.Name)
			}
			config, ok := o.Data["config.yaml"]
			if !ok {
				continue
			}
			var keys map[string]yaml.Node
			if err := yaml.Unmarshal([]byte(config), &keys); err != nil {
				t.Fatal(err)
			}
			for key := range keys {
				if secret[strings.ToUpper(key)] {
					t.Errorf("%s: %s is in a ConfigMap", values, key)
				}
			}
			if found := regexp.MustCompile(`"?(client_secret|app_key)"?:`).FindString(config); found != "" {
				t.Errorf("%s: %s of an account is in a ConfigMap", values, found)
			}
		}
		for component, p := range pods(t, objects) {
			for _, c := range p.Containers {
				for _, v := range c.Env {
					if secret[v.Name] && v.ValueFrom["secretKeyRef"] == nil {
						t.Errorf("%s: %s of %s stands in its pod", values, v.Name, component)
					}
				}
			}
		}
	}
}

// TestSecretsAreRefusedAsValues: whoever puts one where it would be rendered is told.
func TestSecretsAreRefusedAsValues(t *testing.T) {
	for _, set := range []string{
		"gateway.config.auth_hs256_secret=x", "sessionOrchestrator.config.operator_token=x", "webhookIngest.config.webhook_secret=x",
		"config.nats_password=x", "axp.accounts[0].client_secret=x", "axp.accounts[0].app_key=x", "webhook.secret=x",
		"extraEnv[0].name=AXP_APP_KEY,extraEnv[0].value=x", "gateway.extraEnv[0].name=OTEL_EXPORTER_OTLP_HEADERS,gateway.extraEnv[0].value=x",
	} {
		if _, _, err := template(t, setFile("secrets"), "--set", set); err == nil {
			t.Errorf("%s was rendered", set)
		} else if !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// TestEachPodHasItsOwnSecretsAlone: a stolen gateway must not have AXP's
// credentials, and nobody but NATS the key of what is stored.
func TestEachPodHasItsOwnSecretsAlone(t *testing.T) {
	want := map[string][]string{
		svcGateway:      {"gateway", "gateway-public", "nats-gateway", "token-secret"},
		svcOrchestrator: {"axp-credentials", "nats-session-orchestrator", "operator-token", "session-orchestrator", "webhook-secret"},
		svcIngest:       {"nats-webhook-ingest", "webhook-public", "webhook-secret"},
		svcProvisioner:  {"nats-provisioner"},
		svcNATS:         {"nats-routes", "nats-server", "nats-store-key"},
	}
	all := pods(t, render(t, setFile("secrets")))
	for component, secrets := range want {
		p := all[component]
		var got []string
		for _, v := range p.Volumes {
			if v.Secret != nil {
				got = append(got, v.Secret.SecretName)
			}
		}
		for _, c := range p.Containers {
			if len(c.EnvFrom) > 0 {
				t.Errorf("%s takes an environment as a whole", component)
			}
			for _, v := range c.Env {
				if ref := v.ValueFrom["secretKeyRef"]; ref != nil && ref["name"] != "otel" {
					got = append(got, ref["name"])
				}
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, secrets) {
			t.Errorf("%s has %v, want %v", component, got, secrets)
		}
	}
	for _, c := range all[svcNATS].Containers {
		for _, v := range c.Env {
			if c.Name != svcNATS && v.Name == "NATS_STORE_KEY" {
				t.Errorf("%s has the key of what is stored", c.Name)
			}
		}
	}
}

// TestARolloutNeverGoesBelow: pods are replaced when their successors are ready, get
// the time that they need to leave, and are probed at the port that tells.
func TestARolloutNeverGoesBelow(t *testing.T) {
	for _, values := range sets(t) {
		objects := render(t, values)
		for service := range services() {
			name := prefix + service
			if strings.HasPrefix(filepath.Base(values), "external") {
				name = "chat-" + service
			}
			o := find(t, objects, "Deployment", name)
			var spec struct {
				Replicas int
				Strategy struct {
					RollingUpdate struct {
						MaxUnavailable *int `yaml:"maxUnavailable"`
						MaxSurge       int  `yaml:"maxSurge"`
					} `yaml:"rollingUpdate"`
				}
				Template struct{ Spec pod }
			}
			o.decode(t, &spec)
			if u := spec.Strategy.RollingUpdate; u.MaxUnavailable == nil || *u.MaxUnavailable != 0 || u.MaxSurge < 1 {
				t.Errorf("%s: %+v", name, u)
			}
			var cfg struct {
				Grace time.Duration `yaml:"shutdown_grace"`
				Delay time.Duration `yaml:"shutdown_delay"`
			}
			if err := yaml.Unmarshal([]byte(find(t, objects, "ConfigMap", name).Data["config.yaml"]), &cfg); err != nil {
				t.Fatal(err)
			}
			// Flushing telemetry takes up to five seconds more.
			p := spec.Template.Spec
			if grace := time.Duration(p.TerminationGracePeriodSeconds) * time.Second; cfg.Grace == 0 || grace < cfg.Grace+10*time.Second || cfg.Delay >= cfg.Grace {
				t.Errorf("%s is killed after %s and wants %s, with a delay of %s", name, grace, cfg.Grace, cfg.Delay)
			}
			c := p.Containers[0]
			for path, probe := range map[string]*probe{"startup": c.StartupProbe, "live": c.LivenessProbe, "ready": c.ReadinessProbe} {
				if probe == nil || probe.HTTPGet.Path != "/healthz/"+path || probe.HTTPGet.Port != "admin" {
					t.Errorf("%s: %s: %+v", name, path, probe)
				}
			}
			var budget struct {
				MaxUnavailable int `yaml:"maxUnavailable"`
			}
			find(t, objects, "PodDisruptionBudget", name).decode(t, &budget)
			if budget.MaxUnavailable != 1 {
				t.Errorf("%s: a drained node may take %d", name, budget.MaxUnavailable)
			}
			memoryIsBounded(t, c)
		}
	}
}

// memoryIsBounded compares Go's limit with the container's.
func memoryIsBounded(t *testing.T, c container) {
	t.Helper()
	mib, err := strconv.Atoi(strings.TrimSuffix(c.Resources.Limits["memory"], "Mi"))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c.Env, func(v variable) bool { return v.Name == "GOMEMLIMIT" })
	if i < 0 {
		t.Fatalf("%s has no GOMEMLIMIT", c.Name)
	}
	limit, err := strconv.Atoi(strings.TrimSuffix(c.Env[i].Value, "B"))
	if err != nil || limit < mib<<20*85/100 || limit > mib<<20*95/100 {
		t.Errorf("%s: GOMEMLIMIT %d of %d MiB, %v", c.Name, limit, mib, err)
	}
}

// TestWhatIsMissingIsToldAtOnce renders without what only the user can know.
func TestWhatIsMissingIsToldAtOnce(t *testing.T) {
	_, _, err := template(t, filepath.Join(chartDir(), "values.yaml"))
	if err == nil {
		t.Fatal("it was rendered without anything")
	}
	for _, want := range []string{
		"axp.accounts", "axp.existingSecret", "webhook.publicUrl", "webhook.existingSecret", "auth:", "nats.storeKey.existingSecret",
		"openssl rand", "certificates.existingSecrets.natsServer", "certificates.existingSecrets.natsRoutes", "certificates.existingSecrets.gateway",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named:\n%v", want, err)
		}
	}
	for set, want := range map[string]string{
		"gateway.shutdownDelaySeconds=40":            "shutdownDelaySeconds",
		"sessionOrchestrator.replicaCount=33":        "partitions",
		"webhookIngest.resources.limits.memory=64Mi": "256Mi",
		"auth.jwksUrl=https://login.example.com/k":   "either jwksUrl or existingSecret",
		"nats.persistence.size=lots":                 "lots",
		"nats.enabled=false":                         "nats.external.url",
		"nats.replicaCount=2":                        "schema",
		"gateway.confg.web_chat=true":                "schema",
		"gateway.config.web_chta=true":               "schema",
		"config.events_retention=7 days":             "schema",
		"webhook.publicUrl=http://a.example":         "schema",
		"gateway.ingress.enabled=true":               "schema",
	} {
		if _, _, err := template(t, setFile("secrets"), "--set", set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
}
