# Each target installs the programs that it needs and no others: `make build` protoc and a C compiler, `make demo`
# Docker, etcd and HAProxy as well, `make test` everything. On systems other than Debian and Ubuntu they print the list instead.

binary = $(or $(CARGO_TARGET_DIR),target)/release/docker-register

# rustup's directory, for a shell that was started before rustup was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

# A live test spends most of its time waiting, so more of them run at a time than there are processors.
export RUST_TEST_THREADS ?= 4

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

build: ## compile the optimised program
	bash tests/setup.sh --for build cargo build --release

test: ## run every test, against a real Docker and a real etcd
	bash tests/setup.sh cargo test

chaos: ## run the chaos tests for SECONDS, with the schedule that SEED generates
	CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) bash tests/setup.sh cargo test --test chaos -- --nocapture

fuzz: ## try CASES random containers and policy results, generated from SEED
	FUZZ_CASES=$(CASES) FUZZ_SEED=$(SEED) cargo test --lib fuzz -- --nocapture

demo: ## show how the containers of two hosts are registered and reached, from start to end
	bash tests/setup.sh --for demo bash examples/demo.sh

soak: ## start and stop simulated containers for SECONDS, and check that memory, descriptors and leases do not grow
	SOAK_SECONDS=$(SECONDS) bash tests/setup.sh cargo test --release --test soak -- --nocapture

bench: ## compare with a bare client that makes the same calls; one PART: latency, speed, redis, discover, whole, checks, scale, churn, fleet or micro
	bash tests/setup.sh bash -c 'cargo build --release --bin docker-register --examples && cargo bench --bench bench -- $(PART)'

lint: ## check format and lints
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

deny: ## check licences, sources, versions and advisories of the dependencies
	@cargo deny --version >/dev/null 2>&1 || { echo "error: cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check $(CHECKS)

# Lua is compiled in by a crate that is not in the program itself. Nothing is fetched: the crates are there after a build.
licences: ## print the licence of everything in the program
	@{ echo "Lua 5.4: MIT"; cargo tree --locked --offline --edges normal --prefix none --format '{p}: {l}' | \
	  sed -e 's/ (\*)$$//' -e 's/ ([^:]*):/:/'; } | sort -u

image: build ## build the image docker-register:latest, without pulling
	bash tests/image.sh register $(binary)

deb: build ## build the Debian package, beside the program
	bash packaging/deb.sh $(binary) $(dir $(binary))

SECONDS = 600
CASES = 1000000

.PHONY: help build test chaos fuzz soak bench demo lint deny licences image deb
