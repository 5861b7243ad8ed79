# `make run` and `make test` set up everything they need. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO = $(if $(filter 0,$(shell id -u)),,$(or $(shell command -v sudo),$(error this needs root: run it as root, or install sudo)))

OBJECT := src/cni_collector/kernel/cni.bpf.o
BPF := $(wildcard bpf/*.h bpf/*.c)
NAIVE := $(wildcard bench/naive/*.h bench/naive/*.c)
CLANG ?= clang-14
LLVM_OBJCOPY ?= llvm-objcopy-14
CLANG_FORMAT ?= clang-format-14

AS_ROOT := $(addprefix tests/,kernel runtimes destinations torture docs deploy typing)
CPUS = $(shell nproc)
# Tests wait more than they work: one more at a time than there are CPUs.
WORKERS ?= $(shell echo $$(($(CPUS) + 1)))

IMAGE ?= cni-collector
CONTAINERS = $(or $(shell command -v podman || command -v docker),$(error this needs podman or docker))

.PHONY: run show torture test test-kernels test-unit fuzz lint bpf bpf-check bench bench-sizing bench-bystanders image setup help clean

run: setup ## show live events (needs root, uses sudo)
	$(SUDO) $(BIN)/cni-collector watch

test: test-unit packages-test ## run all tests (the kernel's need root, by sudo)
	$(SUDO) $(BIN)/python -m pytest -p no:cacheprovider -n $(WORKERS) -m "not alone" $(AS_ROOT)
	$(SUDO) $(BIN)/python -m pytest -p no:cacheprovider -m alone $(AS_ROOT)

test-kernels: $(VENV)/.dev packages-machines ## run the kernel tests in every tier on emulated machines; KERNELS="6.18 7" adds some
	$(SUDO) $(BIN)/python -m tests.machines suite 6.1 6.12 $(KERNELS)

torture: $(VENV)/.dev packages-machines ## stop, starve, kill and lie to the collector, and print what happened, arrived and was lost
	$(SUDO) $(BIN)/python -m tests.torture

show: $(VENV)/.dev packages-test ## run three nodes that send to NATS, OTLP and Prometheus, and print who holds which events
	$(SUDO) $(BIN)/python -m tests.destinations

test-unit: $(VENV)/.dev ## run the tests that need neither root nor BPF
	$(BIN)/python -m pytest -n $(CPUS) tests/unit tests/fuzz

fuzz: $(VENV)/.dev ## feed the parsers millions of inputs, guided by coverage
	$(BIN)/python -m tests.fuzz

lint: $(VENV)/.dev packages-bpf ## check types, style and format, of Python and C
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(CLANG_FORMAT) --dry-run -Werror $(BPF) $(NAIVE)

bpf: packages-bpf ## rebuild the BPF object
	cd bpf && $(CLANG) -O2 -g -target bpf -mcpu=v3 -Wall -Werror -I/usr/include/$(shell uname -m)-linux-gnu \
		-ffile-prefix-map=$(CURDIR)/bpf=. -c cni.bpf.c -o ../$(OBJECT)
	$(LLVM_OBJCOPY) --strip-debug --remove-section=.llvm_addrsig --remove-section=.rel.BTF.ext \
		--remove-section=.rel.BTF $(OBJECT)

bpf-check: ## rebuild the BPF object elsewhere, and compare it with the committed one
	rm -rf build && mkdir -p build/elsewhere/src/cni_collector/kernel
	cp -r Makefile bpf tools build/elsewhere
	$(MAKE) -C build/elsewhere bpf
	cmp $(OBJECT) build/elsewhere/$(OBJECT)
	rm -rf build

bench: $(VENV)/.dev packages-bench ## print what speed, size and rightness are on this machine, beside bpftrace and a naive program
	$(SUDO) $(BIN)/python -m bench

bench-sizing: $(VENV)/.dev packages-test ## print what each destination takes of CPU and memory, by events a second
	$(SUDO) $(BIN)/python -m bench.sizing

bench-bystanders: $(VENV)/.dev packages-machines packages-bpf ## print what other programs pay, in instructions of emulated machines
	$(SUDO) $(BIN)/python -m bench.instructions 6.1 6.12

image: ## build the container image, with podman or docker; IMAGE= is its name, BASE= a Debian to build it on
	$(CONTAINERS) build --file deploy/Containerfile --tag $(IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) $(IMAGE_OPTIONS) .

setup: $(VENV)/.run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/packages python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	tools/packages libbpf1
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.PHONY: packages-test packages-bench packages-bpf packages-machines
packages-test:
	tools/packages iproute2 util-linux busybox-static gcc libc6-dev iptables \
		runc containerd containernetworking-plugins podman netavark conmon prometheus nats-server debootstrap

packages-machines: packages-test
	tools/packages qemu-system-x86 qemu-system-arm kmod

packages-bench: packages-bpf packages-test
	tools/packages bpftrace

packages-bpf:
	tools/packages clang-14 llvm-14 clang-format-14 libbpf-dev linux-libc-dev

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

clean: ## remove what was set up
	rm -rf $(VENV) build dist
