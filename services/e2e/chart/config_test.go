package chart

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write the services' settings into values.schema.json")

// world is what a pod's container finds: files below a folder of the test's, in
// place of its root.
type world struct {
	dir     string
	env     map[string]string
	replace *strings.Replacer
}

// materialise makes the files that a container has mounted. Secrets get the content
// that the test gives them; every key of theirs that is not mounted is not there.
func materialise(t *testing.T, objects []object, p pod, c container, secrets func(name string) map[string][]byte, changes ...string) world {
	t.Helper()
	w := world{dir: t.TempDir(), env: map[string]string{}}
	w.replace = strings.NewReplacer(append([]string{"/etc/", w.dir + "/etc/", "/var/run/", w.dir + "/run/"}, changes...)...)
	for _, m := range c.VolumeMounts {
		if m.SubPath != "" {
			t.Errorf("%s is mounted by subPath: it would never change", m.MountPath)
		}
		i := slices.IndexFunc(p.Volumes, func(v volume) bool { return v.Name == m.Name })
		if i < 0 {
			continue // of a volumeClaimTemplate
		}
		dir := w.replace.Replace(m.MountPath)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range contentOf(t, objects, p.Volumes[i], secrets) {
			if p.Volumes[i].ConfigMap != nil {
				content = []byte(w.replace.Replace(string(content)))
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, v := range c.Env {
		switch {
		case v.ValueFrom == nil:
			w.env[v.Name] = w.replace.Replace(v.Value)
		case v.ValueFrom["secretKeyRef"] != nil:
			ref := v.ValueFrom["secretKeyRef"]
			w.env[v.Name] = string(secrets(ref["name"])[ref["key"]])
		}
	}
	return w
}

func contentOf(t *testing.T, objects []object, v volume, secrets func(name string) map[string][]byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	switch {
	case v.ConfigMap != nil:
		for name, content := range find(t, objects, "ConfigMap", v.ConfigMap.Name).Data {
			out[name] = []byte(content)
		}
	case v.Secret != nil && len(v.Secret.Items) == 0:
		return secrets(v.Secret.SecretName)
	case v.Secret != nil:
		for _, item := range v.Secret.Items {
			content, ok := secrets(v.Secret.SecretName)[item.Key]
			if !ok {
				t.Fatalf("Secret %s has no key %s: the pod would not start", v.Secret.SecretName, item.Key)
			}
			out[item.Path] = content
		}
	}
	return out
}

// someSecrets have every key that the sets of values name.
func someSecrets(string) map[string][]byte {
	out := map[string][]byte{}
	for _, key := range []string{
		"tls.crt", "tls.key", "ca.crt", "nats.creds", "secret", "secret-previous", "signature-secret", "hs256-secret", "token", "headers", "key",
		"ABCDEF.client-secret", "ABCDEF.app-key", "GHIJKL.client-secret", "GHIJKL.app-key",
	} {
		out[key] = []byte("k0123456789-0123456789-0123456789-0123456789")
	}
	return out
}

// TestServicesTakeTheirRenderedConfiguration has each service check what the chart
// would give it: unknown settings and missing ones are errors of its own.
func TestServicesTakeTheirRenderedConfiguration(t *testing.T) {
	for _, values := range sets(t) {
		objects := render(t, values)
		for component, p := range pods(t, objects) {
			service := strings.Fields(component)[0]
			if service == svcNATS {
				continue
			}
			t.Run(filepath.Base(values)+"/"+component, func(t *testing.T) {
				c := p.Containers[0]
				w := materialise(t, objects, p, c, someSecrets)
				binary, args, code := service, []string{"config", "check"}, 0
				if service == svcProvisioner {
					// It can't be asked. When its configuration is right (else 78), it goes
					// on to the certificates, which are none.
					binary, args, code = svcOrchestrator, c.Args, 1
				}
				cmd := exec.CommandContext(t.Context(), command(t, binary), args...)
				for k, v := range w.env {
					cmd.Env = append(cmd.Env, k+"="+v)
				}
				out, _ := cmd.CombinedOutput()
				if cmd.ProcessState.ExitCode() != code {
					t.Errorf("exit code %d, want %d\n%s", cmd.ProcessState.ExitCode(), code, out)
				}
				known := []string{"CONFIG_FILE", "GOMEMLIMIT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}
				for name := range w.env {
					if !slices.Contains(known, name) {
						t.Errorf("%s is no setting of %s", name, service)
					}
				}
				filesAreThere(t, w)
			})
		}
	}
}

// filesAreThere looks for what the configuration names.
func filesAreThere(t *testing.T, w world) {
	t.Helper()
	content, err := os.ReadFile(w.env["CONFIG_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(content, &all); err != nil {
		t.Fatal(err)
	}
	named := 0
	var walk func(key string, v any)
	walk = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				walk(k, inner)
			}
		case []any:
			for _, inner := range v {
				walk(key, inner)
			}
		case string:
			if strings.HasSuffix(key, "_file") {
				named++
				if _, err := os.Stat(v); err != nil {
					t.Errorf("%s: %v", key, err)
				}
			}
		}
	}
	walk("", all)
	if named == 0 {
		t.Error("it names no file: the test looks at the wrong thing")
	}
}

// ownedByTheChart are settings that no value may replace, since the chart has made
// addresses, files and policies of them.
func ownedByTheChart(name string) bool {
	switch name {
	case "config_file", "admin_addr", "internal_tls", "shutdown_grace", "shutdown_delay", "orchestrator_addr", "orchestrator_allowed_clients",
		"gateway_grpc_addr", "gateway_http_addr", "orchestrator_grpc_addr", "webhook_addr", "operator_addr", "webhook_public_url",
		"webhook_signature_header", "auth_jwks_url", "auth_issuer", "auth_audience", "tenants", "accounts", "idle_rules",
		"axp_base_url", "axp_account_id", "axp_client_id", "axp_channel_provider_id", "axp_channel_id", "axp_media_hosts":
		return true
	}
	return strings.HasPrefix(name, "nats_") || strings.HasSuffix(name, "_file") && !strings.HasPrefix(name, "webhook_max")
}

// shared are the settings that the services must have alike, and the provisioner has.
func shared(name string) bool {
	return strings.HasPrefix(name, "events_") || strings.HasPrefix(name, "log_") ||
		slices.Contains([]string{"state_retention", "outbox_partitions", "outbox_duplicate_window", "outbox_retention"}, name)
}

// schemaOf is what values.schema.json says of a setting's value.
func schemaOf(kind string) map[string]any {
	switch kind {
	case "boolean":
		return map[string]any{"type": "boolean"}
	case "whole number":
		return map[string]any{"type": "integer"}
	case "number":
		return map[string]any{"type": "number"}
	case "duration":
		return map[string]any{"type": "string", "pattern": `^-?([0-9.]+(ns|us|ms|s|m|h))+$`}
	case "size":
		return map[string]any{"type": []any{"string", "integer"}, "pattern": `^[0-9]+ ?([KMGT]i?B|kB|B)?$`}
	case "list":
		return map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	default:
		return map[string]any{"type": "string"}
	}
}

// wantedDefs are the parts of the schema that follow from the services' settings.
func wantedDefs(t *testing.T) map[string]any {
	t.Helper()
	closed := func() map[string]any {
		return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
	}
	put := func(def map[string]any, s setting) {
		properties, _ := def["properties"].(map[string]any)
		properties[s.name] = schemaOf(s.kind)
		if s.name == "account_id" {
			properties[s.name] = map[string]any{"type": "string", "pattern": "^[A-Za-z]{6}$"}
			def["required"] = []any{"account_id"}
		}
	}
	out := map[string]any{"sharedSettings": closed(), "accountSettings": closed(), "idleRuleSettings": closed(), "tenantSettings": closed()}
	lists := map[string]string{"accounts": "accountSettings", "idle_rules": "idleRuleSettings", "tenants": "tenantSettings"}
	for service, key := range services() {
		def := closed()
		for _, s := range settings(t, service) {
			isShared, _ := out["sharedSettings"].(map[string]any)
			switch {
			case strings.HasPrefix(s.kind, "secret"): // files of Secrets
			case s.list != "":
				if inner, ok := out[lists[s.list]].(map[string]any); ok {
					put(inner, s)
				}
			case ownedByTheChart(s.name):
			case shared(s.name):
				put(isShared, s)
			default:
				put(def, s)
			}
		}
		out[key+"Settings"] = def
	}
	account, _ := out["accountSettings"].(map[string]any)
	account["required"] = []any{"account_id", "client_id", "channel_provider_id"}
	return out
}

// TestTheSchemaKnowsTheServicesSettings compares values.schema.json with what the
// services say of themselves, so that a wrong name fails when the chart is rendered.
// -update, which make generate gives, writes it anew.
func TestTheSchemaKnowsTheServicesSettings(t *testing.T) {
	file := filepath.Join(chartDir(), "values.schema.json")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	defs, _ := schema["$defs"].(map[string]any)
	want := wantedDefs(t)
	if *update {
		maps.Copy(defs, want)
		written, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(written, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, w := range want {
		if diff := cmp.Diff(w, defs[name]); diff != "" {
			t.Errorf("%s is stale: run make generate\n%s", name, diff)
		}
	}
}

// TestWhatIsReloadedNeedsNoRollout compares the chart's list with the services', and
// changes something of it: no pod may be replaced for it, and for anything else all.
func TestWhatIsReloadedNeedsNoRollout(t *testing.T) {
	helm(t)
	reloaded := map[string]bool{}
	for service := range services() {
		for _, s := range settings(t, service) {
			if s.list == "" && !strings.HasPrefix(s.kind, "secret") && s.name != "config_file" && strings.Contains(s.doc, "*Reloaded.*") {
				reloaded[s.name] = true
			}
		}
	}
	helpers, err := os.ReadFile(filepath.Join(chartDir(), "templates", "_config.tpl"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(helpers), `{{- define "axpchat.reloaded" -}}`)
	list, _, _ = strings.Cut(list, "{{- end")
	var have []string
	for line := range strings.SplitSeq(strings.TrimSpace(list), "\n") {
		name := strings.TrimPrefix(line, "- ")
		have = append(have, name)
		if !reloaded[name] {
			t.Errorf("%s is not taken over while running", name)
		}
	}
	for name := range reloaded {
		if !slices.Contains(have, name) && !ownedByTheChart(name) {
			t.Errorf("%s is taken over while running, and the chart does not know", name)
		}
	}
	checksums := func(args ...string) map[string]string {
		out := map[string]string{}
		for _, o := range render(t, setFile("secrets"), args...) {
			if o.Kind == "Deployment" {
				var spec struct {
					Template struct {
						Metadata struct{ Annotations map[string]string }
					}
				}
				o.decode(t, &spec)
				out[o.Metadata.Name] = spec.Template.Metadata.Annotations["checksum/config"]
			}
		}
		return out
	}
	before := checksums()
	if diff := cmp.Diff(before, checksums("--set", "axp.accounts[1].concurrency_max=7,gateway.tenants[0].allowed_origins={https://a.example}", "--set", "axp.idleRules[0].idle_timeout=1h")); diff != "" {
		t.Errorf("accounts, tenants and idle rules replace pods:\n%s", diff)
	}
	for name, sum := range checksums("--set", "config.events_retention=200h") {
		if sum == before[name] {
			t.Errorf("%s would not learn of another retention", name)
		}
	}
}

// TestTheREADMEsValuesAreRendered takes the values that people paste, and looks for
// the Secrets that its commands make.
func TestTheREADMEsValuesAreRendered(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for i, part := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		file := filepath.Join(t.TempDir(), strconv.Itoa(i)+".yaml")
		if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) != 2 {
		t.Fatalf("%d blocks of values", len(files))
	}
	objects := render(t, files[0], "-f", files[1])
	certs := newCertificates(t, objects)
	for component, p := range pods(t, objects) {
		var named []string
		for _, v := range p.Volumes {
			if v.Secret != nil {
				named = append(named, v.Secret.SecretName)
			}
		}
		for _, c := range p.Containers {
			for _, v := range c.Env {
				if ref := v.ValueFrom["secretKeyRef"]; ref != nil {
					named = append(named, ref["name"])
				}
			}
		}
		for _, secret := range named {
			if certs.secrets[secret] == nil && !strings.Contains(string(text), "create secret generic "+secret+" ") {
				t.Errorf("%s needs Secret %s, which nobody makes", component, secret)
			}
		}
	}
	for secret, c := range certs.wanted {
		for _, name := range c.DNSNames {
			shown := strings.NewReplacer(release+"-axp-chat-connector", "RELEASE", namespace, "NAMESPACE").Replace(name)
			if !strings.Contains(string(text), "`"+shown+"`") {
				t.Errorf("the README does not say that the certificate of %s is made out to %s", secret, shown)
			}
		}
	}
}
