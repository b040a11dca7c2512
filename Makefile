# One command each. Everything goes into .venv; nothing is installed on the machine except, by `make test` as root, the Debian
# packages that the tests name.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find feedhandler/core -name '*.hpp' -o -name '*.cpp') CMakeLists.txt pyproject.toml
APT_TEST := clang clang-format clang-tidy ethtool iproute2 libclang-rt-dev libdpdk-dev pkg-config systemd tshark valgrind

# The DPDK plugin is built when libdpdk is here: a build without it is out of date once it is.
DPDK := $(VENV)/.dpdk-$(shell pkg-config --modversion libdpdk 2>/dev/null || echo none)

.PHONY: help demo build test lint format stubs docs bench fuzz soak clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.built  ## exchange, daemon and two consumers on loopback; ends by itself with a verdict
	@$(BIN)/feedhandler demo

build: $(VENV)/.built  ## compile the core and install into .venv

test: apt-test  ## every test; as root with the packages they need
	@$(MAKE) --no-print-directory $(VENV)/.tested-with  # read anew: what is installed now decides what is built
	$(BIN)/python -m pytest

lint: $(VENV)/.linted-with apt-test  ## ruff, mypy, clang-format, clang-tidy
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v clang-format >/dev/null; then \
	    git ls-files '*.hpp' '*.cpp' | xargs clang-format --dry-run -Werror; \
	else echo "clang-format is not installed: C++ format not checked" >&2; fi
	@if command -v clang-tidy >/dev/null; then \
	    $(BIN)/cmake -S . -B build/lint -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python >/dev/null && \
	    { ls feedhandler/core/bind/*.cpp; sed -n 's/.*"file": "\(.*plugin.cpp\)".*/\1/p' build/lint/compile_commands.json; } \
	        | xargs -P 2 -n 1 clang-tidy -p build/lint --quiet 2>/dev/null; \
	else echo "clang-tidy is not installed: C++ not analysed" >&2; fi

format: $(VENV)/.linted-with  ## ruff format, clang-format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	git ls-files '*.hpp' '*.cpp' | xargs clang-format -i

stubs: $(VENV)/.built  ## feedhandler/_core.pyi from the compiled module
	$(BIN)/python -m nanobind.stubgen -m feedhandler._core -o feedhandler/_core.pyi

docs: $(VENV)/.tested-with  ## docs/fault-matrix.md from its rows; then: is every key, command and counter documented?
	$(BIN)/python -m tests.faults.document
	$(BIN)/python -m pytest -q tests/docs

bench: $(VENV)/.benched-with  ## all benchmarks, interleaved with their peers; results in benchmarks/results
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/.built  ## every fuzz target for FUZZ_SECONDS (60)
	tests/fuzz/run $(or $(FUZZ_SECONDS),60)

soak: $(VENV)/.tested-with  ## seeded fault schedules for MINUTES (10), every book compared after every message
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10)

clean:  ## remove what the build made
	rm -rf $(VENV) build feedhandler/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip

$(DPDK): $(VENV)/bin/python
	@rm -f $(VENV)/.dpdk-* && touch $@

$(VENV)/.built: $(VENV)/bin/python $(DPDK) $(SOURCES)
	@echo "building the core (a minute or two the first time)" >&2
	$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/.tested-with: $(VENV)/.built
	$(BIN)/pip install -q --group test
	@touch $@

$(VENV)/.linted-with: $(VENV)/.tested-with
	$(BIN)/pip install -q --group lint
	@touch $@

$(VENV)/.benched-with: $(VENV)/.built
	$(BIN)/pip install -q --group bench
	@touch $@

.PHONY: apt-test
apt-test:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    missing=$$(dpkg-query -W -f '$${db:Status-Abbrev}$${Package}\n' $(APT_TEST) 2>/dev/null | sed -n 's/^ii *//p' \
	        | sort | comm -13 - <(printf '%s\n' $(APT_TEST) | sort)); \
	    if [ -n "$$missing" ]; then echo "installing $$missing" >&2; \
	        apt-get update -qq; \
	        for package in $$missing; do apt-cache show $$package >/dev/null 2>&1 && present="$$present $$package"; done; \
	        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$present >/dev/null; fi; \
	fi
