# Everything a contributor does. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build run test e2e race lint fmt fuzz bench alone sync check docs tools clean engines engines-down test-engines engine-tests torture

SERVICES := ingest router state-projector history-writer aggregator alerting log-consumer live
MODULES  := $(shell awk '/^\t\.\// {print $$1}' go.work)
BIN      := bin
LDFLAGS  := -s -w
FUZZTIME ?= 20s
# golangci-lint is built from tools/go.mod, so its version is pinned there.
LINT     := $(BIN)/golangci-lint
# A line for each package: its path, and what its tests import.
LIST_TESTS := go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}'

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build millrace and every worker into bin/
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./services/standalone/cmd/millrace
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s)) ./loadtest/cmd/millrace-load

run: $(BIN)/millrace-only ## build millrace and run it with a simulated house and plant
	$(BIN)/millrace run --demo

.PHONY: $(BIN)/millrace-only
$(BIN)/millrace-only:
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./services/standalone/cmd/millrace

test: ## every test, the end-to-end ones on real binaries too
	go test -shuffle=on -timeout 25m work

e2e: ## the end-to-end tests alone
	go test -count=1 -v -timeout 25m ./test/e2e/...

# ENGINES is the program that runs real engines for tests, ENGINES_DIR where they live.
ENGINES     := $(BIN)/engines
ENGINES_DIR ?= test/engines/.run
.PHONY: $(ENGINES)
$(ENGINES):
	go build -o $(ENGINES) ./test/engines/cmd/engines

engines: $(ENGINES) ## start Kafka, NATS, ClickHouse, Elasticsearch, PostgreSQL and S3 on loopback
	$(ENGINES) --dir $(ENGINES_DIR) up
	@$(ENGINES) --dir $(ENGINES_DIR) env

engines-down: $(ENGINES) ## end them, and remove what they kept
	$(ENGINES) --dir $(ENGINES_DIR) down

test-engines: $(ENGINES) ## the drivers' tests on the real engines; starts and ends these unless they run
	$(ENGINES) --dir $(ENGINES_DIR) with $(MAKE) --no-print-directory engine-tests

# Every package whose tests ask for an engine, then the end-to-end tests, then the tests that kill an engine and have it for themselves.
# One fault hides no other. ENGINE_TESTS_UNTIL (seconds since 1970) is when all should have ended: a part that may take longer (its minutes on a busy
# machine stand before it) does not begin, and that is said.
engine-tests:
	@set -eo pipefail; : "$${MILLRACE_ENGINES:?make test-engines sets it}"; \
	list() { $(LIST_TESTS) work | \
	  awk -v own="$$1" '/pkg\/enginetest/ && ($$1 ~ /test\/e2e/) == own {print $$1}' | sort -u; }; \
	drivers="$$(list 0)"; e2e="$$(list 1)"; failed=0; \
	part() { if [ "$$(($$(date +%s) + $$1 * 60))" -ge "$${ENGINE_TESTS_UNTIL:-9999999999}" ]; then echo "LEFT OUT for want of time: $$2"; return; fi; \
	  shift 2; (set -x; go test -count=1 "$$@") || failed=1; }; \
	part 9 'the drivers on the engines' -p 2 -timeout 20m -skip '^TestKill' $$drivers; \
	part 13 'end to end over the engines' -timeout 25m -run '^TestEngines' $$e2e; \
	part 8 'engines killed under the drivers' -p 1 -timeout 20m -run '^TestKill' $$drivers; \
	exit $$failed

# What breaks Millrace on purpose; docs/torture.md says how to read it. TORTURE has further flags.
SEED     ?= 1
SEEDS    ?= 1
MESSAGES ?= 100000
SET      ?= embedded
torture: ## break it while devices send: SEEDS=20 MESSAGES=1000000, SET=embedded|split|nats|kafka
	go run ./test/torture/cmd/torture --set $(SET) --seed $(SEED) --seeds $(SEEDS) --messages $(MESSAGES) $(TORTURE)

# RACE_WITHOUT leaves out the packages that it matches; as everywhere in make, a $$ is written twice.
# What uses testing/synctest runs its goroutines on one P: the timers of a bubble share one context of the race detector, which corrupts itself when
# two threads start timers that are due (go.dev/issue/78156). What happens before what is still checked.
RACE_WITHOUT ?= ^$$
race: ## every package's tests under the race detector
	@set -eo pipefail; failed=0; \
	packages="$$($(LIST_TESTS) $(addsuffix /...,$(filter-out ./test/e2e,$(MODULES))) | WITHOUT='$(RACE_WITHOUT)' awk '$$1 !~ ENVIRON["WITHOUT"]')"; \
	race() { [ -z "$$2" ] || (set -x; go test -race -shuffle=on -short -timeout 20m $$1 $$2) || failed=1; }; \
	race '' "$$(awk '!/ testing\/synctest/ {print $$1}' <<<"$$packages")"; \
	race -cpu=1 "$$(awk '/ testing\/synctest/ {print $$1}' <<<"$$packages")"; \
	exit $$failed

$(LINT): tools/go.mod
	GOWORK=off go -C tools build -o ../$(BIN)/ tool

tools: $(LINT) ## build the linters into bin/

lint: $(LINT) ## golangci-lint over every module
	$(LINT) run $(addsuffix /...,$(MODULES))

fmt: $(LINT) ## format everything
	$(LINT) fmt $(addsuffix /...,$(MODULES))

fuzz: ## each fuzz target for FUZZTIME (default 20s)
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' $(MODULES) | while read -r f; do \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
	    echo "== $$f $$t"; go test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f); done; done

bench: ## the benchmarks of the hot path
	go test -tags library -run '^$$' -bench . -benchtime 1s -benchmem $(addsuffix /...,$(filter-out ./test/e2e,$(MODULES)))

alone: ## each module on its own, as an image builds it
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && GOWORK=off go vet ./... && GOWORK=off go mod tidy -diff); done

sync: ## one version of everything in all modules
	go work sync
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy); done

docs: ## write the generated pages of docs/ again
	MILLRACE_UPDATE=1 go test ./services/standalone/... -run 'TestDocs' -count=1

check: lint alone test race ## all that CI asks for

clean: ## remove what was built
	rm -rf $(BIN)
