# Every target sets up what it needs first. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help setup test test-32 test-pico test-wasm test-lowest attack tls-table story lint format mpy bench soak fuzz demo wheel clean

# Passed on to the set-up and to the tests; see tools/setup/setup.sh.
export PYTHON MICROPYTHON

BIN := .venv/bin
ARGS ?=
# One board can't serve two workers, and runs nothing but tests/unit.
TARGET ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup:  ## install what is missing: .venv, MicroPython, umqtt.simple, mosquitto, nginx, RabbitMQ, Chromium
	@tools/setup/setup.sh

test: setup  ## every test; ARGS="-k cbor" picks, TARGET=/dev/ttyACM0 runs the device's own on a board
	@$(BIN)/python -m pytest $(if $(TARGET),-n 0 --target=$(TARGET) tests/unit,-n 6 --dist loadscope --no-loadscope-reorder) $(ARGS)

test-32: setup  ## the device's tests on a MicroPython 1.25 with 32-bit words, from Debian's i386 packages
	@tools/setup/micropython32.sh; case $$? in \
	0) MICROPYTHON=$(CURDIR)/build/mp32/micropython $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --target=built tests/unit $(ARGS) ;; \
	3) ;; \
	*) exit 1 ;; esac

test-pico: setup  ## the whole agent on an emulated Pico W; FIRMWARE=file.uf2 names MicroPython's RPI_PICO_W build
	@FIRMWARE=$(FIRMWARE) PICO_PYTHON=$(PICO_PYTHON) tools/setup/pico.sh $(ARGS)

test-wasm: setup  ## the pure modules' tests on MicroPython 1.23 and 1.29 for WebAssembly, from npm; WASM="1.24.1 1.27.0" names others
	@tools/setup/wasm.sh

test-lowest: setup  ## the host's tests with the lowest versions that pyproject.toml admits, in an environment of their own
	@tools/setup/lowest.sh $(ARGS)

tls-table: setup  ## a device against some 80 TLS servers, good and bad; writes docs/tls-servers.md
	@PYTHONPATH=tools:tests:tests/e2e $(BIN)/python -W ignore tests/e2e/tls_table.py

attack: setup  ## every attack against a real broker and authority, and what honest devices notice; ARGS="flood guess" picks
	@PYTHONPATH=tools:tests:tests/host:tests/e2e $(BIN)/python -m attack.run $(ARGS)

story: setup  ## an owner's story with DEVICES=50 simulated devices, by the tool from its wheel
	@PYTHONPATH=tools:tests:tests/host:tests/e2e $(BIN)/python tests/e2e/story.py $(or $(DEVICES),50) --wheel

lint: setup  ## style, formatting and types
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --quiet --output-format concise .
	@$(BIN)/mypy tools examples/demo examples/application examples/gateway
	@$(BIN)/mypy --config-file tools/setup/mypy_device.ini lib
	@if [ -d build/web/node_modules ]; then build/web/node_modules/.bin/tsc --project tools/setup/web; else echo "scripts unchecked: npm is missing"; fi

format: setup  ## let ruff rewrite the sources, and write package.json anew
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/python tools/make_package.py

mpy: setup  ## compile the device package for every architecture, print flash sizes
	@PYTHONPATH=tools $(BIN)/python -m warden_build

bench: setup  ## measure against the numbers of the design: docs/benchmarks.md; ARGS="wire cli" picks, PEERS=dir adds peers
	@PEERS=$(PEERS) $(BIN)/python tests/bench/run.py $(ARGS)

soak: setup  ## count what of a device's telemetry a bad network loses; SOAK_S=900 seconds, ARGS=seed
	@$(BIN)/python tests/soak/soak.py $(ARGS)

fuzz: setup  ## search parsers for inputs that break them, manifests judged in two ways, the dearest message; FUZZ_S=60 seconds each
	@tests/fuzz/run.sh

wheel: setup  ## build/wheel: the tool with the device's files and umqtt.simple, for `pip install`
	@$(BIN)/python -m hatchling build --target wheel --directory build/wheel

demo: setup  ## the whole story on one machine
	@PYTHONPATH=examples $(BIN)/python -m demo

clean:  ## remove everything that was made here
	@rm -rf build .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
