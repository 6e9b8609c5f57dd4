# Everything that people and CI do goes through these targets; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Tools are pinned by the go.mod files below .tools, apart from the product's.
BIN := .bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
PACKAGES := ./gen/... ./services/...
# Two at a time suits small machines; the tests are real servers and sockets.
TEST_FLAGS ?= -race -shuffle=on -timeout=15m
BASE ?= origin/main
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/axpchat/connector/services/internal/kit/lifecycle.version=$(VERSION)
HELM_VERSION = $(shell sed -n 's|.*helm.sh/helm/v3 v||p' .tools/helm/go.mod | cut -d' ' -f1)
KUBERNETES_MINOR = $(shell sed -n 's|.*k8s.io/kubernetes v1\.\([0-9]*\)\..*|\1|p' .tools/kubeconform/modules.txt)
# Without them helm takes Kubernetes for 1.20.
HELM_LDFLAGS = -s -w -X helm.sh/helm/v3/internal/version.version=v$(HELM_VERSION) \
  -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$(KUBERNETES_MINOR) \
  -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=$(KUBERNETES_MINOR)
COMMANDS := gateway session-orchestrator webhook-ingest connector

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: run
run: ## Run the whole suite with the AXP sandbox and an automatic agent on this machine
	go run ./services/connector/cmd/connector-dev

.PHONY: test
test: ## Run every test, with the race detector, in random order
	@./.tools/test.sh $(TEST_FLAGS) $(PACKAGES)

.PHONY: test-short
test-short: ## Run the tests that need no separate processes and no browser
	@./.tools/test.sh -short $(TEST_FLAGS) $(PACKAGES)

.PHONY: storms
storms: ## Send many short chats through failures and failovers, and compare with what AXP has (SEQUENCES=..., SEED=...)
	SEQUENCES=$(or $(SEQUENCES),2000) SEED=$(SEED) go test -count=1 -timeout=20m -run TestManyChatsInStorms -v ./services/session-orchestrator | grep -v level=

.PHONY: failover
failover: ## Measure how long a partition of the outbox stands still when its worker dies, and whether others notice
	go test -run=NONE -bench=Failover -benchtime=3x ./services/session-orchestrator/internal/outbox

.PHONY: bench
bench: ## Measure the delivery path beside the thinnest possible one (BENCH_FLAGS, such as '-profile DIR')
	go run ./services/e2e/cmd/bench $(BENCH_FLAGS)

.PHONY: badinput
badinput: ## Measure a good chat without and beside a flood of bad input (BADINPUT_FLAGS, such as '-flood 5000')
	go run ./services/e2e/cmd/badinput $(BADINPUT_FLAGS)

.PHONY: chaos
chaos: ## Run the suite as separate processes under faults and count every word (SEED=..., CHAOS_FLAGS=...)
	rm -rf artifacts/chaos
	go run ./services/e2e/cmd/chaos -seed $(or $(SEED),0) -artifacts artifacts/chaos $(CHAOS_FLAGS)

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 1m) each, one after the other
	@./.tools/fuzz.sh $(or $(FUZZTIME),1m)

.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/buf third_party/proto ## Check style of Go, protos and shell scripts
	golangci-lint run $(PACKAGES)
	buf lint
	for f in .ci/run .tools/*.sh; do bash -n "$$f"; done

.PHONY: breaking
breaking: $(BIN)/buf third_party/proto ## Check that the protos stay compatible with BASE (default origin/main)
	./.tools/breaking.sh $(BASE)

.PHONY: fmt
fmt: $(BIN)/golangci-lint $(BIN)/buf third_party/proto ## Format Go and protos
	golangci-lint fmt $(PACKAGES)
	buf format -w proto

.PHONY: generate
generate: $(BIN)/buf $(BIN)/protoc-gen-go third_party/proto ## Make gen/ and the generated documents anew
	rm -rf gen/axpchat gen/openapi/*.yaml
	buf generate
	./.tools/docs.sh

.PHONY: checkgenerate
checkgenerate: generate ## Fail where generated files are stale
	@test -z "$$(git status --porcelain gen deploy/docs deploy/helm)" || { git status --porcelain gen deploy/docs deploy/helm; git --no-pager diff --stat gen deploy/docs deploy/helm; echo 'generated files are stale: run make generate'; exit 1; }

.PHONY: audit
audit: $(BIN)/golangci-lint $(BIN)/cyclonedx-gomod $(BIN)/govulncheck checklicences ## Look for unsafe code, known vulnerabilities and wrong licences; write SBOMs to artifacts/audit
	golangci-lint run --enable-only gosec,staticcheck,govet $(PACKAGES)
	./.tools/audit.sh artifacts/audit

.PHONY: licences
licences: $(BIN)/go-licenses ## List the licences of what the commands are made of anew
	./.tools/licences.sh $(CURDIR)/deploy/docs/licences.md

.PHONY: checklicences
checklicences: $(BIN)/go-licenses ## Fail where a licence does not suit, or deploy/docs/licences.md is stale
	@f=$$(mktemp) && trap 'rm -f $$f' EXIT && ./.tools/licences.sh $$f && diff -u deploy/docs/licences.md $$f || { echo 'run make licences'; exit 1; }

.PHONY: build
build: ## Build every command into dist/
	mkdir -p dist
	for c in $(COMMANDS); do CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o "dist/$$c" "./services/$${c}/cmd/$$c"; done
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/connector-dev ./services/connector/cmd/connector-dev
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/axp-sandbox ./services/axp-sandbox/cmd/axp-sandbox

.PHONY: build-modules
build-modules: ## Build each module on its own, without the workspace
	cd gen && GOWORK=off go build ./...
	cd services && GOWORK=off go build ./...

.PHONY: images
images: ## Build an image of every command (needs docker or buildah)
	./.tools/images.sh $(VERSION)

.PHONY: chart
chart: $(BIN)/helm $(BIN)/kubeconform ## Check the Helm chart: lint, render, compare with Kubernetes' schemas, and run what it renders
	./.tools/chart.sh

.PHONY: tools
tools: $(BIN)/buf $(BIN)/golangci-lint $(BIN)/protoc-gen-go ## Build the pinned tools into .bin/

.PHONY: clean
clean: ## Remove what was built; data/ stays
	rm -rf $(BIN) dist third_party artifacts

$(BIN)/buf: .tools/buf/go.mod
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/buf build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/golangci-lint: .tools/lint/go.mod
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/lint build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/go-licenses: .tools/licences/go.mod
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/licences build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/cyclonedx-gomod: .tools/sbom/go.mod
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/sbom build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/govulncheck: .tools/vulnerabilities/go.mod
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/vulnerabilities build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/helm: .tools/helm/go.mod
	@mkdir -p $(BIN)
	GOWORK=off CGO_ENABLED=0 go -C .tools/helm build -trimpath -ldflags '$(HELM_LDFLAGS)' -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/kubeconform: .tools/kubeconform/go.mod .tools/kubeconform/main.go
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/kubeconform build -o $(CURDIR)/$(BIN)/ tool
	GOWORK=off go -C .tools/kubeconform build -o $(CURDIR)/$(BIN)/kubeschemas .
	@touch $@

$(BIN)/grpcurl: .tools/grpcurl/go.mod
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/grpcurl build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

$(BIN)/protoc-gen-go: .tools/protoc/go.mod .tools/protoc/main.go
	@mkdir -p $(BIN)
	GOWORK=off go -C .tools/protoc build -o $(CURDIR)/$(BIN)/ tool
	GOWORK=off go -C .tools/protoc build -o $(CURDIR)/$(BIN)/protodeps .
	@touch $@

third_party/proto: $(BIN)/protoc-gen-go
	rm -rf third_party
	protodeps third_party/proto
	@touch $@
