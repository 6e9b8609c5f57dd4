package chart

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"

	"github.com/axpchat/connector/services/internal/suitetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir := built(); dir != "" {
			_ = os.RemoveAll(dir) // the system clears it up, too
		}
		os.Exit(code) //nolint:forbidigo // what goleak does without it
	}))
}

const (
	release   = "chat"
	namespace = "customers"
	prefix    = release + "-axp-chat-connector-"
	patience  = 60 * time.Second

	svcGateway      = "gateway"
	svcOrchestrator = "session-orchestrator"
	svcIngest       = "webhook-ingest"
	svcNATS         = "nats"
	svcProvisioner  = "provisioner"
)

// services maps the services' names to their keys in values.
func services() map[string]string {
	return map[string]string{svcGateway: "gateway", svcOrchestrator: "sessionOrchestrator", svcIngest: "webhookIngest"}
}

func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

func chartDir() string { return filepath.Join(root(), "deploy", "helm", "axp-chat-connector") }

// helm is the one that make chart has built; without it the test is skipped,
// except there.
func helm(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CHART_HELM"); path != "" {
		return path
	}
	path := filepath.Join(root(), ".bin", "helm")
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs helm: make chart builds it and runs this test")
	}
	return path
}

// object is one of Kubernetes'.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	Data map[string]string
	Spec yaml.Node
}

// decode reads the spec into what the test wants to see of it.
func (o object) decode(t *testing.T, into any) {
	t.Helper()
	if err := o.Spec.Decode(into); err != nil {
		t.Fatalf("%s %s: %v", o.Kind, o.Metadata.Name, err)
	}
}

// sets are the sets of values that the chart is tried with.
func sets(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartDir(), "ci", "*-values.yaml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d sets of values, %v", len(files), err)
	}
	return files
}

func setFile(name string) string { return filepath.Join(chartDir(), "ci", name+"-values.yaml") }

// template renders the chart with a file of values and further arguments.
func template(t *testing.T, values string, args ...string) (objects []object, text string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), helm(t), append([]string{"template", release, chartDir(), "-n", namespace, "-f", values}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return nil, "", errors.New(errOut.String())
	}
	text = out.String()
	for d := yaml.NewDecoder(&out); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects, text, nil
		}
		if err != nil {
			t.Fatalf("%s: %v", values, err)
		}
		if o.Kind != "" {
			objects = append(objects, o)
		}
	}
}

func render(t *testing.T, values string, args ...string) []object {
	t.Helper()
	objects, _, err := template(t, values, args...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func find(t *testing.T, objects []object, kind, name string) object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return objects[i]
}

// pod is what the tests look at of a pod's description.
type pod struct {
	AutomountServiceAccountToken  *bool           `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool           `yaml:"enableServiceLinks"`
	ServiceAccountName            string          `yaml:"serviceAccountName"`
	TerminationGracePeriodSeconds int             `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               securityContext `yaml:"securityContext"`
	HostNetwork                   bool            `yaml:"hostNetwork"`
	HostPID                       bool            `yaml:"hostPID"`
	HostIPC                       bool            `yaml:"hostIPC"`
	InitContainers                []container     `yaml:"initContainers"`
	Containers                    []container
	Volumes                       []volume
}

type container struct {
	Name, Image string
	Args        []string
	Env         []variable
	EnvFrom     []any `yaml:"envFrom"`
	Ports       []struct {
		HostPort string `yaml:"hostPort"`
	}
	VolumeMounts    []mount         `yaml:"volumeMounts"`
	SecurityContext securityContext `yaml:"securityContext"`
	Resources       struct{ Limits, Requests map[string]string }
	StartupProbe    *probe `yaml:"startupProbe"`
	LivenessProbe   *probe `yaml:"livenessProbe"`
	ReadinessProbe  *probe `yaml:"readinessProbe"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

type variable struct {
	Name, Value string
	ValueFrom   map[string]map[string]string `yaml:"valueFrom"`
}

type mount struct {
	Name      string
	MountPath string `yaml:"mountPath"`
	SubPath   string `yaml:"subPath"`
}

type volume struct {
	Name      string
	ConfigMap *struct{ Name string } `yaml:"configMap"`
	Secret    *struct {
		SecretName  string `yaml:"secretName"`
		DefaultMode int    `yaml:"defaultMode"`
		Items       []struct{ Key, Path string }
	}
	EmptyDir map[string]any `yaml:"emptyDir"`
	HostPath any            `yaml:"hostPath"`
}

type securityContext struct {
	RunAsNonRoot             *bool                 `yaml:"runAsNonRoot"`
	RunAsUser                *int                  `yaml:"runAsUser"`
	Privileged               *bool                 `yaml:"privileged"`
	AllowPrivilegeEscalation *bool                 `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   *bool                 `yaml:"readOnlyRootFilesystem"`
	SeccompProfile           struct{ Type string } `yaml:"seccompProfile"`
	Capabilities             struct{ Add, Drop []string }
}

// pods are all of what was rendered, by component.
func pods(t *testing.T, objects []object) map[string]pod {
	t.Helper()
	out := map[string]pod{}
	for _, o := range objects {
		component := o.Metadata.Labels["app.kubernetes.io/component"]
		switch o.Kind {
		case "Deployment", "StatefulSet", "Job":
			var spec struct{ Template struct{ Spec pod } }
			o.decode(t, &spec)
			out[component] = spec.Template.Spec
		case "Pod":
			var spec pod
			o.decode(t, &spec)
			out[component+" "+o.Metadata.Annotations["helm.sh/hook"]] = spec
		}
	}
	if len(out) < 4 {
		t.Fatalf("%d pods: the test looks at the wrong thing", len(out))
	}
	return out
}

// binaries are the commands that tests run, built once for all of them.
var binaries struct {
	sync.Mutex
	dir string
	err error
}

func built() string {
	binaries.Lock()
	defer binaries.Unlock()
	return binaries.dir
}

func command(t *testing.T, name string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if binaries.dir == "" {
		binaries.dir, binaries.err = os.MkdirTemp("", "chart") //nolint:usetesting // it outlives the first test
		if binaries.err == nil {
			binaries.err = suitetest.Build(t.Context(), binaries.dir, "./gateway/cmd/gateway", "./session-orchestrator/cmd/session-orchestrator",
				"./webhook-ingest/cmd/webhook-ingest", "./axp-sandbox/cmd/axp-sandbox")
		}
	}
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return filepath.Join(binaries.dir, name)
}

// setting is a row of the configuration reference that a service prints.
type setting struct {
	name, kind, doc string
	list            string // that it belongs to; empty: none
}

// settings asks a service itself what it can be told.
func settings(t *testing.T, service string) []setting {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), command(t, service), "config", "doc").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []setting
	list := ""
	for line := range strings.SplitSeq(string(out), "\n") {
		if name, ok := strings.CutPrefix(line, "### List `"); ok {
			list = strings.TrimSuffix(name, "`")
			all = append(all, setting{name: list, kind: "list of entries"})
			continue
		}
		if list != "" && strings.Contains(line, "*Reloaded.*") {
			all[slices.IndexFunc(all, func(s setting) bool { return s.name == list })].doc += line
		}
		cells := strings.Split(strings.ReplaceAll(line, "| |", "|  |"), " | ") // the default may be empty
		if !strings.HasPrefix(line, "| `") || len(cells) < 4 {
			continue
		}
		all = append(all, setting{
			name: strings.ToLower(strings.Trim(cells[0], "| `")), kind: cells[1], doc: strings.Join(cells[3:], " | "), list: list,
		})
	}
	if len(all) < 20 {
		t.Fatalf("%s has %d settings: the test looks at the wrong thing", service, len(all))
	}
	return all
}
