# Every target sets up what it needs; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help packages dev fmt lint type test test-root demo clean-demo helper fuzz analyse bench-helper bench-credentials install-helper deb-helper package docs clean

# Debian's own Python: another one may lie where the demo's and the tests' other accounts cannot read it.
PYTHON := /usr/bin/python3
VENV := build/venv
BIN := $(VENV)/bin
PREFIX ?= /usr
DESTDIR ?=
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
MYPY_TARGETS := -p pilotage -p pilotage_server -p pilotage_pilot -p pilotage_helper

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

packages: ## install the Debian packages that are missing (needs root, and only then)
	@deploy/install-packages test

dev: $(BIN)/.ready ## make build/venv with everything a contributor needs

# Editable, without isolation, so that stubs and the cffi module are built in place with the same tools.
$(BIN)/.ready: pyproject.toml setup.py deploy/requirements $(wildcard protos/pilotage/v1/*.proto) \
		$(wildcard helper_c/include/pilotage/*.h helper_c/src/base/*.c helper_c/src/verify/* helper_c/src/cache/* helper_c/src/map/* helper_c/python/*.py)
	@deploy/install-packages test
	@umask 022 && deploy/requirements $(VENV)
	@umask 022 && PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -q --no-build-isolation --no-deps -e .
	@touch $@

fmt: dev ## format Python
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix -q .

lint: dev ## format, lint, spelling, import rules, proto rules: check only
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/codespell
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf lint

type: dev ## mypy, strict, on everything
	@$(BIN)/mypy $(MYPY_TARGETS)
	@$(BIN)/mypy tests deploy/demo
	@$(BIN)/mypy bench
	@$(BIN)/mypy helper_c/src/glexec

helper: packages ## build the C programs and their tests, plain and with sanitizers
	@cmake -S . -B build/c -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
	@cmake --build build/c --parallel 2 >build/c.log 2>&1 || { tail -n 40 build/c.log; exit 1; }
	@cmake -S . -B build/c-sanitized -DCMAKE_BUILD_TYPE=Debug -DPILOTAGE_SANITIZE=ON >/dev/null
	@cmake --build build/c-sanitized --parallel 2 >build/c-sanitized.log 2>&1 || { tail -n 40 build/c-sanitized.log; exit 1; }

fuzz: ## fuzz each parser of the helper for FUZZ_SECONDS (60) with clang, and say executions and findings
	@deploy/install-packages proof
	@cmake -S . -B build/fuzz -DCMAKE_C_COMPILER=clang -DPILOTAGE_FUZZ=ON -DBUILD_TESTING=OFF >/dev/null
	@cmake --build build/fuzz --parallel 2 --target fuzzers >build/fuzz.log || { tail -n 40 build/fuzz.log; exit 1; }
	@helper_c/fuzz/run build/fuzz "$(FUZZ_SECONDS)"

analyse: ## static analysis of the C: cppcheck, gcc -fanalyzer, clang-tidy
	@deploy/install-packages proof
	@helper_c/analyse build/analyse

test: dev helper ## set up and run the whole suite: C tests plain and sanitized, then pytest
	@ctest --test-dir build/c/helper_c --output-on-failure --no-tests=error
	@ctest --test-dir build/c-sanitized/helper_c --output-on-failure --no-tests=error
	@[ "$$(id -u)" -eq 0 ] || echo "Not root: tests that need accounts or the setuid helper are skipped, each with its reason."
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-root: dev helper ## only the tests that need root: accounts and the installed setuid helper
	@[ "$$(id -u)" -eq 0 ] || { echo "make test-root needs root: it makes accounts and installs a setuid program" >&2; exit 1; }
	@$(BIN)/python -m pytest -m root $(PYTEST_ARGS)

demo: ## run the main job end to end on this machine (root; KEEP=1 leaves it running)
	@[ "$$(id -u)" -eq 0 ] || { echo "make demo needs root: it makes accounts and installs a setuid program under /opt/pilotage-demo" >&2; exit 1; }
	@deploy/demo/run

clean-demo: ## end the demo and remove exactly what it made
	@[ "$$(id -u)" -eq 0 ] || { echo "make clean-demo needs root: it removes accounts and /opt/pilotage-demo" >&2; exit 1; }
	@$(PYTHON) -B deploy/demo/demo.py clean

bench-helper: dev ## measure the helper against sudo, bwrap and LCMAPS (root); see bench/README.md
	@[ "$$(id -u)" -eq 0 ] || { echo "make bench-helper needs root: it makes accounts and installs a setuid program" >&2; exit 1; }
	@bench/helper $(BENCH_ARGS)

bench-credentials: dev ## measure the credential service against myproxy-server (root); see bench/README.md
	@[ "$$(id -u)" -eq 0 ] || { echo "make bench-credentials needs root: myproxy-server wants its host key to be root's" >&2; exit 1; }
	@bench/credentials $(BENCH_ARGS)

install-helper: ## install the setuid helper below DESTDIR and PREFIX (root)
	@deploy/install-packages
	@deploy/install-helper --prefix "$(PREFIX)" --destdir "$(DESTDIR)"

deb-helper: ## build a Debian package of the helper alone into dist/
	@deploy/install-packages
	@cmake -S . -B build/deb -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_INSTALL_PREFIX=/usr -DBUILD_TESTING=OFF -DPILOTAGE_DEB=ON >/dev/null
	@cmake --build build/deb --parallel 2 >build/deb.log || { tail -n 40 build/deb.log; exit 1; }
	@mkdir -p dist && cd dist && umask 022 && cpack --config ../build/deb/CPackConfig.cmake >../build/deb.log 2>&1 || { tail -n 40 ../build/deb.log; exit 1; }
	@rm -rf dist/_CPack_Packages && ls dist/pilotage-helper_*.deb

package: dev ## build sdist and wheel into dist/
	@$(BIN)/python -m build --outdir dist

docs: dev ## write what is generated in docs/ from the code's own tables
	@$(BIN)/python docs/generate.py

clean: ## remove everything that was built here (not the demo: make clean-demo)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find sdk server pilot helper_c tests deploy \( -name __pycache__ -o -name '*.so' -o -name '*_pb2*.py*' -o -name '*_native.c' \) -prune -exec rm -rf {} +
