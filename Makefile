# Every target says what it does: `make help` prints the lines behind ##.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The race detector needs a C compiler; without one the tests run without it,
# and say so.
CC_FOUND := $(shell command -v $$(go env CC) 2>/dev/null)
RACE := $(if $(CC_FOUND),-race,)
LINT := go tool -modfile=.ci/go.mod golangci-lint

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo: ## The main job on a private Postgres: 29 tenants, 11 databases, their reports (ARGS="--once -o json")
	@go build -o bin/demo ./cmd/demo && exec bin/demo $(ARGS)

.PHONY: test
test: ## All tests on a private Postgres, nothing else needed (ARGS="-run TestOneJob")
	@$(if $(RACE),,echo "no C compiler found: testing without the race detector";) \
	go run ./cmd/headgate dev --bare -- go test $(RACE) -timeout 40m -parallel 4 $(ARGS) ./... && go test $(ARGS) ./orchestrator/calendar

.PHONY: test-postgres
test-postgres: ## All tests on Postgres 14 to 18 in turn, fetched where missing (PG=17, ARGS="-run TestOneJob")
	@.ci/postgres "$(PG)" $(ARGS)

.PHONY: test-pgbouncer
test-pgbouncer: ## All tests, with central and tenants' connections through a PgBouncer in transaction mode
	@.ci/pgbouncer $(ARGS)

.PHONY: bench
bench: ## Headgate beside River alone: one table, and bench.json (ARGS="--pairs 3 --seconds 2")
	@go build -o bin/bench ./cmd/bench && env -u DATABASE_URL -u DATABASE_URL_FILE bin/bench all --save bench.json $(ARGS)

.PHONY: faults
faults: ## Tests that kill, cut, freeze, black-hole and fill up, at full size; as root (ARGS=-short)
	@.ci/faults $(ARGS)

.PHONY: soak
soak: ## The same for hours, at the product's own times (HEADGATE_SOAK=2h)
	@HEADGATE_SOAK=$${HEADGATE_SOAK:-2h} .ci/faults -timeout 24h $(ARGS)

.PHONY: mutants
mutants: ## Small faults in the guarded code, one at a time: which test notices each (ARGS="sql claim T07", ARGS=-check)
	@CGO_ENABLED=0 go build -o bin/headgate ./cmd/headgate && cd .ci && go run ./mutants $(ARGS)

.PHONY: build
build: ## The binary, as bin/headgate
	CGO_ENABLED=0 go build -trimpath -o bin/headgate ./cmd/headgate

.PHONY: check
check: ## Formatting, vet, lint, module files, and the doors between rooms
	@test -z "$$(gofmt -l .)" || { echo "not formatted, run gofmt -w:"; gofmt -l .; exit 1; }
	go vet ./...
	go vet -tags faults ./...
	$(LINT) run --allow-parallel-runners --build-tags faults ./...
	go mod tidy -diff
	go test ./cmd/headgate -run 'TestRooms|TestTables' -count=1

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf bin reports bench.json
