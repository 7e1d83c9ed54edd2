# OrderGrid. `make` explains itself; every target works from a fresh clone.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

NODES ?= 3
SEEDS ?= 200
MINUTES ?= 480
ROUNDS ?= 20
SEED ?= 1
TROUBLE ?=
CARGO := .ci/cargo
CACHE := $(or $(ORDERGRID_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ordergrid)
BIN    = $(or $(CARGO_TARGET_DIR),target)/release/ordergrid
FAST   = $(or $(CARGO_TARGET_DIR),target)/fast/ordergrid
SIM    = $(or $(CARGO_TARGET_DIR),target)/sim/ordergrid-sim

export PATH := $(PATH):$(CACHE)/tools/bin
# What the tests run. They look at the built program from outside.
export ORDERGRID_BIN = $(abspath $(BIN))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test verify fix bench bench-long micro sim sim-nightly sim-mutants sim-build torture setup setup-checks build fast fmt-check clippy docs deny advisories

help: ## Show this list.
	@echo "OrderGrid: make <target>"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

demo: build ## Place, pay and ship 15,829 real orders on NODES=3 (or 1) nodes, then prove the laws of stock on the result.
	tests/demo.sh "$(ORDERGRID_BIN)" $(NODES)

test: build ## Run every test, against the release build of the program.
	if cargo nextest --version > /dev/null 2>&1; then $(CARGO) nextest run --locked --workspace --no-fail-fast; else $(CARGO) test --locked --workspace --all-targets --no-fail-fast; fi
	$(CARGO) test --locked --workspace --doc --quiet

verify: setup-checks fmt-check clippy docs deny test sim ## Say "done": format, lints, docs, dependencies, tests, simulation. Changes no file.

fix: setup-checks ## Format, and apply what the linter can mend.
	cargo fmt --all
	$(CARGO) clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

fast: setup ## The program for production, optimised across crates: target/fast/ordergrid. Twice as long to build, up to a fifth faster.
	$(CARGO) build --locked --profile fast --package ordergrid-node

bench: fast ## Every workload on 1 and on 3 nodes, closed loop and open, in 10 minutes: target/bench/report.html.
	tests/bench.sh "$(FAST)" target/bench standard

bench-long: fast ## Ten-minute latency runs, the curves, a day of 20 million orders: target/bench-long/report.html. Two hours.
	tests/bench.sh "$(FAST)" target/bench-long long

micro: setup-checks ## What one order costs the machine: time, allocations and instructions of apply, codec, hold and checkpoint.
	$(CARGO) bench --locked -p ordergrid-domain --bench machine
	tests/instructions.sh

sim: sim-build ## Whole clusters in one process: SEEDS=200 histories judged, some of them twice, every scenario, and the domain alone.
	"$(SIM)" domain --count 300
	"$(SIM)" run --profile quick --count $(SEEDS)
	"$(SIM)" meta --profile quick --count 20
	"$(SIM)" scenarios

sim-nightly: sim-build ## The same for MINUTES=480, all profiles in turn, unattended; target/sim/ledger.jsonl keeps what was done.
	mkdir -p target/sim
	"$(SIM)" nightly --ledger target/sim/ledger.jsonl --commit "$$(git rev-parse HEAD)" --minutes $(MINUTES)

sim-mutants: sim-build ## Plant every known bug in a copy of the tree, and see that a judge catches it (hours).
	"$(SIM)" mutants

torture: build ## ROUNDS=20 rounds from SEED=1 of real clusters under load, hurt in every way this machine allows (root: more), and judged.
	$(CARGO) build --locked --package ordergrid-tests --bin torture
	"$(or $(CARGO_TARGET_DIR),target)/debug/torture" --rounds $(ROUNDS) --seed $(SEED) $(TROUBLE)

sim-build: setup
	$(CARGO) build --locked --profile sim --package ordergrid-sim

setup: ## Install what is missing to build (Debian, Ubuntu: g++ and libclang, through apt).
	.ci/setup

setup-checks:
	.ci/setup checks

build: setup
	$(CARGO) build --locked --release --package ordergrid-node

fmt-check:
	cargo fmt --all --check

clippy: setup
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

deny: setup-checks
	cargo deny --locked check --hide-inclusion-graph bans licenses sources

advisories: setup-checks ## Look the dependencies up in the advisory database (needs a network).
	cargo deny --locked check advisories
