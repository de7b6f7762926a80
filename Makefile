# Portolan's commands. `make help` lists them. Nothing but git, gcc, make, a Rust toolchain and network is assumed:
# what else a target needs it installs itself (system packages by apt, as root or through sudo).

SHELL := /bin/bash
CARGO ?= cargo
JOBS ?= 2
CONFIG ?= conf/quickstart.yaml
RECORDINGS := $(if $(PORTOLAN_RECORDINGS),$(PORTOLAN_RECORDINGS),$(wildcard $(CURDIR)/../shared/recordings))
export PORTOLAN_RECORDINGS := $(RECORDINGS)

TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
RELEASE := $(TARGET_DIR)/release/portolan

.PHONY: help run build release test unit gateway faults secrets kill9 upgrade soak service sdk-test replay lint authz bench loadtest simulate races deny sbom unused reproducible fuzz system python node clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  \1\t/' | expand -t 16

run: release ## build the release binary and serve conf/quickstart.yaml (CONFIG=... for another file)
	$(RELEASE) run --config $(CONFIG)

release: system ## build the release binary
	$(CARGO) build --release --locked -j$(JOBS)

build: system ## build the debug binary
	$(CARGO) build --locked -j$(JOBS)

test: system lint unit gateway faults authz replay sdk-test ## everything: set-up, lint, unit, integration, faults, replay, SDKs

lint: system ## formatting and clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --locked -j$(JOBS) --all-targets -- -D warnings

unit: system ## unit, golden and property tests, the floors, the allocation counter
	$(CARGO) test --locked -j$(JOBS) --lib --bins --test floors --test alloc --test laws
	$(CARGO) test --locked -j$(JOBS) --doc

gateway: system ## the real binary against scripted providers
	$(CARGO) test --locked -j$(JOBS) --test gateway -- --skip faults:: --skip authz::

faults: system ## what providers and callers do wrong, case by case (PORTOLAN_FAULTS=5: five times as often)
	@mkdir -p $(TARGET_DIR)
	@\
	$(CARGO) test --locked -j$(JOBS) --test gateway -- faults:: --show-output --test-threads=6 2>&1 \
	  | tee $(TARGET_DIR)/faults.log | grep -E '^(test .*FAILED|error|thread .* panicked)' -A 5 || true; \
	grep -E '^[A-Z]-?[0-9]+: ' $(TARGET_DIR)/faults.log | sort -t : -k 1,1V -s; grep -E '^secrets: ' $(TARGET_DIR)/faults.log; \
	awk '/^test faults::/ { bad = !/ ok$$/; if (/::failover::/) part[bad]++; sum[bad]++ } \
	  END { printf "failover: %d passed, %d failed\nfaults: %d passed, %d failed\n", part[0], part[1], sum[0], sum[1]; \
	    exit sum[1] > 0 || sum[0] == 0 }' $(TARGET_DIR)/faults.log

secrets: system ## all that is said and kept, at trace level, searched for secrets of every kind; with panics (make faults has it without)
	@mkdir -p $(TARGET_DIR)
	@$(CARGO) test --locked -j$(JOBS) --features failpoints --test gateway -- faults::secrets:: --show-output >$(TARGET_DIR)/secrets.log 2>&1 \
	  || { cat $(TARGET_DIR)/secrets.log; exit 1; }
	@grep -E '^secrets: ' $(TARGET_DIR)/secrets.log

kill9: system ## gateways on one ledger killed under load (KILLS=n for fewer), against their provider's own journal
	@mkdir -p $(TARGET_DIR)
	@set -o pipefail; KILLS=$(or $(KILLS),100) $(CARGO) test --locked -j$(JOBS) --features failpoints --test gateway -- kill9:: --nocapture --test-threads=1 2>&1 \
	  | tee $(TARGET_DIR)/kill9.log | grep -E '^(test .*FAILED|error|thread .* panicked)' -A 5 || true; \
	grep -oE 'kill9: .* fail points.*' $(TARGET_DIR)/kill9.log; grep -oE 'kill9: [0-9]+ kills.*' $(TARGET_DIR)/kill9.log && \
	grep -q '^test result: ok' $(TARGET_DIR)/kill9.log

upgrade: system ## 50 reloads and 5 binary upgrades under 100 loops, streams among them (UPGRADE_RELOADS=, UPGRADE_UPGRADES=, UPGRADE_LOOPS=, UPGRADE_STREAM= seconds)
	@mkdir -p $(TARGET_DIR)
	@set -o pipefail; UPGRADE_RELOADS=$(or $(UPGRADE_RELOADS),50) UPGRADE_UPGRADES=$(or $(UPGRADE_UPGRADES),5) UPGRADE_LOOPS=$(or $(UPGRADE_LOOPS),100) \
	  UPGRADE_STREAM=$(or $(UPGRADE_STREAM),60) $(CARGO) test --locked -j$(JOBS) --test gateway -- upgrade:: --nocapture --test-threads=1 2>&1 \
	  | tee $(TARGET_DIR)/upgrade.log | grep -E '^(test .*FAILED|error|thread .* panicked)' -A 5 || true; \
	grep -E '^upgrade: [0-9]+ reloads' $(TARGET_DIR)/upgrade.log && grep -q '^test result: ok' $(TARGET_DIR)/upgrade.log

soak: release ## a million requests, half of them streamed: growth and slope of memory (SOAK_REQUESTS=100000)
	@mkdir -p $(TARGET_DIR)
	@set -o pipefail; SOAK_REQUESTS=$(or $(SOAK_REQUESTS),1000000) SOAK_BINARY=$(RELEASE) $(CARGO) test --locked -j$(JOBS) --test gateway -- soak:: --nocapture 2>&1 \
	  | tee $(TARGET_DIR)/soak.log | grep -E '^(test .*FAILED|error|thread .* panicked)' -A 5 || true; \
	grep -E '^soak: [0-9]+ requests' $(TARGET_DIR)/soak.log && grep -q '^test result: ok' $(TARGET_DIR)/soak.log

service: ## the sandbox of systemd/portolan.service (needs systemd-analyze): exposure 1.5 at most
	@told=$$(systemd-analyze security --offline=true --threshold=15 systemd/portolan.service); bad=$$?; \
	echo "service: $$(echo "$$told" | sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/exposure \1 of 1.5/p')"; exit $$bad

authz: build tests/authz/.venv/installed ## who may do what on the admin port: every route, role and tenant; then schemathesis (AUTHZ_EXAMPLES=n each)
	@mkdir -p $(TARGET_DIR)
	set -o pipefail; $(CARGO) test --locked -j$(JOBS) --test gateway -- authz:: --nocapture | tee $(TARGET_DIR)/authz.log
	tests/authz/run $(TARGET_DIR)/debug/portolan
	@grep -E '^authz: ' $(TARGET_DIR)/authz.log | tail -n 1

tests/authz/.venv/installed: tests/authz/requirements.txt
	@if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi; \
	  $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv python3-pip; \
	fi
	python3 -m venv tests/authz/.venv
	tests/authz/.venv/bin/pip install -q --disable-pip-version-check -r tests/authz/requirements.txt
	touch $@

replay: system ## recorded provider traffic through the dialects and the binary (PORTOLAN_RECORDINGS names the folder)
	@mkdir -p $(TARGET_DIR)
	set -o pipefail; $(CARGO) test --locked -j$(JOBS) --test replay -- --nocapture | tee $(TARGET_DIR)/replay.log
	@grep -E '^replay: ([0-9]+ tried|skipped, P)' $(TARGET_DIR)/replay.log | tail -n 1
	@grep -E '^prices: ' $(TARGET_DIR)/replay.log || true

sdk-test: build python node ## the official SDKs, unchanged, against the real binary
	tests/sdk/run $(TARGET_DIR)/debug/portolan

bench: system ## criterion benches: scan, splice, SSE, transcode, choice of targets
	$(CARGO) bench --locked -j$(JOBS)

loadtest: release ## cost, delay and memory beside a bare Pingora proxy, bounded in time and count
	$(CARGO) build --release --locked -j$(JOBS) --example bare --example loadtest
	$(TARGET_DIR)/release/examples/loadtest --portolan $(RELEASE) --bare $(TARGET_DIR)/release/examples/bare

simulate: system ## a day over ten made-up providers in virtual time: each strategy against chance and an oracle
	$(CARGO) run --release --locked -j$(JOBS) --example simulate

races: system ## many callers at once against limits and budgets: rate, places kept, nothing leaked (RACES_SECONDS=60, RACES_EXITS=10000)
	set -o pipefail; PORTOLAN_RACES_SECONDS=$(or $(RACES_SECONDS),60) PORTOLAN_RACES_EXITS=$(or $(RACES_EXITS),10000) \
	  $(CARGO) test --locked -j$(JOBS) --features failpoints --test gateway -- races:: --show-output --test-threads=1 \
	  | grep -E '^(limits|budgets|test .*FAILED|test result|thread .* panicked)'

deny: ## licences, advisories and bans (installs cargo-deny)
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check

sbom: ## what the binary is made of, as CycloneDX (installs cargo-cyclonedx): target/portolan.cdx.json
	command -v cargo-cyclonedx >/dev/null || $(CARGO) install --locked cargo-cyclonedx
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(CARGO) cyclonedx --format json --spec-version 1.5 --no-build-deps --override-filename portolan.cdx
	@mkdir -p $(TARGET_DIR) && mv portolan.cdx.json $(TARGET_DIR)/ && \
	echo "sbom: $$(grep -c '"purl"' $(TARGET_DIR)/portolan.cdx.json) components in $(TARGET_DIR)/portolan.cdx.json"

unused: ## dependencies that nothing uses (installs cargo-machete)
	command -v cargo-machete >/dev/null || $(CARGO) install --locked cargo-machete
	$(CARGO) machete --skip-target-dir

reproducible: system ## two release builds in two places: the same bytes
	JOBS=$(JOBS) .ci/reproducible

system: ## system packages the build needs
	@if ! command -v cmake >/dev/null; then \
	  if ! command -v apt-get >/dev/null; then echo "Portolan's build needs cmake (zlib-ng, through Pingora): install it with your package manager, then run make again."; exit 1; fi; \
	  if [ "$$(id -u)" = 0 ]; then SUDO=; elif command -v sudo >/dev/null; then SUDO=sudo; \
	  else echo "Portolan's build needs cmake: run 'apt-get install cmake' as root, then run make again."; exit 1; fi; \
	  $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends cmake; \
	fi

python: tests/sdk/.venv/installed ## the Python environment of the SDK tests

tests/sdk/.venv/installed: tests/sdk/requirements.txt
	@if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi; \
	  $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv python3-pip; \
	fi
	python3 -m venv tests/sdk/.venv
	tests/sdk/.venv/bin/pip install -q --disable-pip-version-check -r tests/sdk/requirements.txt
	touch $@

node: tests/sdk/node_modules/installed ## the npm packages of the SDK tests

tests/sdk/node_modules/installed: tests/sdk/package-lock.json
	@if ! command -v npm >/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi; \
	  $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm; \
	fi
	cd tests/sdk && npm ci --no-audit --no-fund --loglevel=error
	touch $@

fuzz: ## fuzz each framing and each dialect's decoders for FUZZ_SECONDS (needs a nightly toolchain and cargo-fuzz)
	for target in scan patch sse lines eventstream; do \
	  $(CARGO) +nightly fuzz run -s none --fuzz-dir tests/fuzz $$target -- -max_total_time=$(or $(FUZZ_SECONDS),30) || exit 1; \
	done
	for target in $(notdir $(patsubst %/cases,%,$(wildcard src/dialect/*/cases))); do \
	  mkdir -p tests/fuzz/corpus/$$target; \
	  $(CARGO) +nightly fuzz run -s none --fuzz-dir tests/fuzz $$target tests/fuzz/corpus/$$target $$(find src/dialect/$$target -name cases) \
	    -- -max_total_time=$(or $(FUZZ_SECONDS),30) || exit 1; \
	done

clean: ## remove what the builds and tests made
	$(CARGO) clean
	rm -rf tests/sdk/.venv tests/sdk/node_modules tests/authz/.venv
