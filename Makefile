# `make run` and `make test` do everything, from a bare clone. `make help` lists the rest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# Any Python from 3.11 to 3.14 will do; name one with `make run PYTHON=python3.13`.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUITABLE)' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
ENV := .venv/.made-from-lock
HELM := build/go/bin/helm
# What checks and fuzzes, in an environment of its own: who only runs the broker or its tests need not wait for it.
TOOLS := build/tools
TOOLS_ENV := $(TOOLS)/.made-from-lock

PROTOS := $(wildcard proto/tokenbroker/v1/*.proto)
STUBS := clients/python
RELEASED_API := proto/released.binpb
LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(ENV) ## Start a broker with everything it needs, and install one app. ARGS="--once --json" for programs
	@$(BIN)/token-broker sandbox run $(ARGS)

.PHONY: test
test: $(ENV) ## Run every test. ARGS="-k name" for some of them
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: test-pgbouncer
test-pgbouncer: $(ENV) ## The tests of the whole broker and of the store, behind a PgBouncer in transaction mode (needs pgbouncer)
	$(BIN)/pytest tests/integration tests/contract --behind-pgbouncer --no-cov $(ARGS)

.PHONY: check
check: $(ENV) $(TOOLS_ENV) $(HELM) ## Everything that can be judged without running it: format, types, imports, API, drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TOOLS)/bin/bandit --quiet --configfile pyproject.toml --recursive broker
	$(TOOLS)/bin/hadolint Dockerfile
	$(TOOLS)/bin/zizmor --quiet --offline --no-progress --persona=auditor .github
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against $(RELEASED_API)
	$(BIN)/python -m docs.generate --check
	$(TOOLS)/bin/python -m deploy.check
	@$(MAKE) --no-print-directory check-stubs check-lock check-alerts check-docs site

.PHONY: check-alerts
check-alerts: # The alerts' rules and their tests, by promtool (Debian: in the package prometheus)
	@command -v promtool >/dev/null || { echo "needs promtool; on Debian it is in the package prometheus" >&2; exit 1; }
	promtool check rules deploy/prometheus/alerts.yaml
	promtool test rules deploy/prometheus/alerts_test.yaml

.PHONY: check-docs
check-docs: $(ENV) # The links of the repository's Markdown
	@$(BIN)/python -m docs.check_links

.PHONY: check-stubs
check-stubs: $(ENV) # The committed stubs are what the protos make
	@rm -rf build/stubs && mkdir -p build/stubs
	@$(MAKE) --no-print-directory proto STUBS=build/stubs
	@for made in $$(cd build/stubs && find . -type f); do \
		cmp "build/stubs/$$made" "clients/python/$$made" || { echo "the stubs drifted: run \`make proto\`"; exit 1; }; done
	@echo "stubs: as the protos make them"

.PHONY: check-lock
check-lock: # Locks hold names, versions and hashes, and nobody's address
	@! grep -nE 'https?://|--(extra-)?index-url' requirements*.lock || { echo "an address in a lock"; exit 1; }
	@! git grep -nE '"resolved": "(git\+)?(https?|ssh)' -- '*package-lock.json' || { echo "an address in a lock"; exit 1; }
	@echo "locks: no address"

.PHONY: proto
proto: $(ENV) ## Make the Python stubs from the protos
	@$(BIN)/python -m grpc_tools.protoc -I proto \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
		--python_out=$(STUBS) --mypy_out=quiet:$(STUBS) $(PROTOS)
	@$(BIN)/python -m grpc_tools.protoc -I proto --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
		--grpc_python_out=$(STUBS) --mypy_grpc_out=quiet:$(STUBS) $(filter-out %/error_reason.proto,$(PROTOS))

.PHONY: stubs-smoke
stubs-smoke: $(ENV) ## Make stubs in each language whose toolchain is here, and read a token. ARGS="rust go" for some
	@$(BIN)/python -m clients.stubs $(ARGS)

# The clients: each is a package of its ecosystem. Beside Python they need Go, Node with npm, and a JDK with Maven.
NPM := npm --prefix clients/typescript
MVN := mvn -B -f clients/java/pom.xml
PACKAGES := $(CURDIR)/build/packages

.PHONY: clients
clients: $(ENV) ## Build the clients' packages, as they would be published, into build/packages
	@mkdir -p $(PACKAGES)
	cd clients/python && ../../$(BIN)/python -m hatchling build -t wheel -d $(PACKAGES)
	go -C clients/go build ./... && go -C clients/go mod verify
	$(NPM) ci --no-fund --no-audit && $(NPM) run build && cd clients/typescript && npm pack --pack-destination $(PACKAGES)
	$(MVN) -q package -DskipTests && cp clients/java/target/*.jar $(PACKAGES)
	@ls $(PACKAGES)

.PHONY: test-clients
test-clients: clients ## The clients' own tests (Python's are among `make test`)
	go -C clients/go test -race ./...
	$(NPM) test
	$(MVN) verify

.PHONY: check-clients
check-clients: $(ENV) # The clients' form and types, and the Go stubs as the protos make them
	@test -z "$$(gofmt -l clients/go examples/go)" || { gofmt -l clients/go examples/go; exit 1; }
	go -C clients/go vet ./...
	go -C clients/go mod tidy -diff && go -C clients/go/tools mod tidy -diff
	go -C examples/go vet ./... && go -C examples/go mod tidy -diff
	@rm -rf build/stubs-go && $(MAKE) --no-print-directory proto-go OUT=../../build/stubs-go
	@diff -r build/stubs-go/tokenbrokerpb clients/go/tokenbrokerpb || { echo "run \`make proto-go\`"; exit 1; }
	$(NPM) ci --no-fund --no-audit && $(NPM) run check
	$(MVN) -q spotless:check

.PHONY: proto-go
proto-go: $(ENV) # The Go client's stubs
	@cd clients/go && ../../$(BIN)/buf generate ../../proto $(if $(OUT),-o $(OUT))

.PHONY: bench-clients
bench-clients: $(ENV) ## Measure what a token costs in each language, and what watching costs
	@GRPC_VERBOSITY=NONE GRPC_ENABLE_FORK_SUPPORT=0 $(BIN)/python -m bench.clients $(ARGS)

EXAMPLES := example-python example-go example-typescript example-java
.PHONY: $(EXAMPLES) examples
$(EXAMPLES): example-%: $(ENV)
	@$(BIN)/python -m examples.run $* $(ARGS)
examples: $(ENV) ## Each example once. `make example-go` (-python, -typescript, -java) runs one until Ctrl-C
	@for language in python go typescript java; do $(BIN)/python -m examples.run $$language --once || exit 1; done

.PHONY: conformance
conformance: $(ENV) ## Play the table of what a client is with every client. ARGS="--client go" for one
	@GRPC_VERBOSITY=NONE GRPC_ENABLE_FORK_SUPPORT=0 $(BIN)/python -m clients.conformance $(ARGS)

.PHONY: release-api
release-api: $(ENV) ## At a release: from now on the API as it stands must not break
	$(BIN)/buf build -o $(RELEASED_API)

.PHONY: bench
bench: $(ENV) ## Measure, side by side with the floor, and write build/bench.json
	@$(BIN)/python -m bench $(ARGS)

.PHONY: model
model: $(ENV) ## Check the model of the refresh protocol exhaustively (needs spin and gcc)
	@$(BIN)/python -m docs.model.check

.PHONY: simulate
SEEDS ?= 500
simulate: $(ENV) ## Run the broker in a simulated world, SEEDS times, each with other faults; a failing seed prints its history
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

.PHONY: fuzz
SECONDS ?= 600
fuzz: $(TOOLS_ENV) ## Fuzz what reads from outside, for SECONDS in all. ARGS="wire webhooks" for some targets
	@$(TOOLS)/bin/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

.PHONY: sbom
sbom: $(TOOLS_ENV) ## Write build/sbom.json: the packages a broker is made of, as CycloneDX, from the lock alone
	@version=$$($(TOOLS)/bin/python -c 'import broker; print(broker.__version__)') && \
		sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > build/sbom-of.toml
	@# The lock is a plain list, without who needs whom: the warning says no more.
	@PYTHONWARNINGS=ignore $(TOOLS)/bin/cyclonedx-py requirements requirements.lock --pyproject build/sbom-of.toml \
		--output-reproducible --output-file build/sbom.json
	@echo "build/sbom.json: $$(grep -c '"bom-ref": "requirements-' build/sbom.json) packages"

.PHONY: docs
docs: $(ENV) ## Write the generated parts of docs/
	@$(BIN)/python -m docs.generate

.PHONY: site
site: $(ENV) $(TOOLS_ENV) ## Build the documentation's site into build/site, strictly, and look for dead links
	@$(BIN)/python -m docs.site build/site-source
	@NO_COLOR=1 $(TOOLS)/bin/zensical build --clean --strict
	@$(BIN)/python -m docs.check_links --site build/site

.PHONY: format
format: $(ENV) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

.PHONY: lock
lock: ## Pin the newest versions that fit (needs uv)
	$(LOCK) -o requirements.lock --upgrade
	$(LOCK) -o requirements-dev.lock --upgrade -c requirements.lock --group dev
	$(LOCK) -o requirements-tools.lock --upgrade -c requirements-dev.lock --group tools
	$(firstword $(LOCK)) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --group build \
		-o requirements-build.lock --upgrade -c requirements-dev.lock

COMMA := ,
.PHONY: image
image: ## Build the container image with buildah or docker. BASE=… PIP_CONF=… REGISTRY_CA=…: docs/image.md
	@version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' broker/__init__.py) && \
	revision=$$(git describe --match=NONE --always --abbrev=40 --dirty) && made=$$(git log -1 --format=%ct) && \
	set -- --build-arg VERSION=$$version --build-arg REVISION=$$revision \
		$(if $(BASE),--build-arg BASE=$(BASE)) \
		$(if $(PIP_CONF),--secret id=pip.conf$(COMMA)src=$(PIP_CONF)) \
		$(if $(REGISTRY_CA),--secret id=registry-ca$(COMMA)src=$(REGISTRY_CA)) \
		-t envoy-token-broker -t envoy-token-broker:$$version . && \
	if command -v docker >/dev/null && docker info >/dev/null 2>&1; then SOURCE_DATE_EPOCH=$$made docker build "$$@"; \
	else buildah build --format docker --identity-label=false --timestamp $$made "$$@"; fi

.PHONY: clean
clean: ## Remove what was made
	rm -rf $(addprefix clients/typescript/,node_modules dist out src/gen) clients/java/target $(addprefix examples/*/,node_modules dist target)
	rm -rf .venv build dist .cache .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The environment: exactly the locked packages, each by its hash, and this checkout. The lock is whole; without --no-deps
# pip would ask the index anew for packages with extras, and refuse a lock that is older than their newest release.
$(ENV): requirements-dev.lock
	@test -n "$(PYTHON)" || { echo "needs a Python from 3.11 to 3.14; name one with PYTHON=…" >&2; exit 1; }
	@echo "Making the environment in .venv, once (about half a minute) …" >&2
	@$(PYTHON) -m venv --clear .venv >&2 \
		|| { echo "$(PYTHON) can't make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@

$(TOOLS_ENV): requirements-tools.lock | $(ENV)
	@echo "Making the checkers' and the fuzzer's environment in $(TOOLS), once …" >&2
	@$(BIN)/python -m venv --clear $(TOOLS) >&2
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $< >&2
	@touch $@

# Helm, whose modules are pinned by hash in deploy/tools/go.sum.
$(HELM): deploy/tools/go.mod deploy/tools/go.sum
	@echo "Building Helm, once (some minutes) …" >&2
	@GOBIN=$(CURDIR)/build/go/bin go -C deploy/tools install -trimpath -ldflags='-s -w' helm.sh/helm/v3/cmd/helm && touch $@
