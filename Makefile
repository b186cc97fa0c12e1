# make          builds bin/sipnatd
# make install  installs it with its manuals, completion and systemd unit below PREFIX, in
#               DESTDIR; make uninstall takes them away
# make packages builds build/packages/*: .deb, .rpm, .apk, .ipk
# make test     everything that must pass, on a fresh Debian or Ubuntu with Go; as root
# make test-vm  kernel and end-to-end tests again, on Debian's stock kernels; as root
# make test-race  the end-to-end tests again, the daemon under the race detector; as root
# make soak     calls come and go for SOAK (30m), and nothing may grow; as root
# make fuzz-short  every fuzz target for FUZZTIME
# make bench    how fast it is
# make demo     a call through a firewall of namespaces, shown step by step; as root
#
# E2E_RUN=pattern chooses end-to-end tests, for "make test", "make test-vm" and
# "make test-race".

GO ?= go

# Pinned: a newer one may find new things to say.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0

# Pure code, tested with the race detector, needs neither root nor the kernel; or
# nothing of it but sockets on the loopback.
# Whatever is neither pure nor the lab's is tested against the kernel.
ALL    = $(shell $(GO) list ./...)
PURE   = $(filter sipnatd/sipmsg% sipnatd/nat% sipnatd/internal/config% sipnatd/contrib% sipnatd/internal/transport% sipnatd/internal/registrar%,$(ALL))
LAB    = $(filter sipnatd/internal/lab%,$(ALL))
KERNEL = $(filter-out $(PURE) $(LAB),$(ALL))

DAEMON = $(CURDIR)/bin/sipnatd

# The largest size of the daemon, in MiB.
MAX_SIZE = 8

# Stock kernels of "make test-vm".
VM_KERNELS ?= 6.1 6.12

# End-to-end tests wait more than they work.
E2E_PARALLEL ?= 4

# How long "make fuzz-short" runs each target.
FUZZTIME ?= 10s

# How long "make soak" takes. SIPNATD_SOAK_FAULTS=1 has the daemon killed now and then.
SOAK ?= 30m

VERSION := $(shell scripts/version)

PREFIX ?= /usr/local

.PHONY: build
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(DAEMON) ./cmd/sipnatd

.PHONY: test
test: test-needs lint test-size test-unit test-kernel test-e2e test-packages
	@echo "=== all passed"

.PHONY: test-needs
test-needs:
	@echo "=== what the tests need"
	@scripts/packages test

.PHONY: lint
lint:
	@echo "=== lint"
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change:" $$unformatted; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

.PHONY: test-size
test-size: build
	@echo "=== size"
	@scripts/checkbinary bin/sipnatd $(MAX_SIZE)

.PHONY: test-unit
test-unit:
	@echo "=== unit tests, with the race detector"
	$(GO) test -race -timeout 5m $(PURE)

# Without cgo, as the daemon is: dropping privileges works only so.
.PHONY: test-kernel
test-kernel:
	@echo "=== kernel tests, on Linux $$(uname -r)"
	CGO_ENABLED=0 $(GO) test -count=1 -timeout 5m $(KERNEL)

.PHONY: test-e2e
test-e2e: build
	@echo "=== end-to-end tests, on Linux $$(uname -r)"
	CGO_ENABLED=0 SIPNATD_BIN=$(DAEMON) $(GO) test -count=1 -timeout 15m \
		-parallel $(E2E_PARALLEL) $${E2E_RUN:+-run "$$E2E_RUN"} $(LAB)

# Installed in a small Debian that is fetched once, where systemd runs the daemon.
.PHONY: test-packages
test-packages:
	@echo "=== packages"
	@scripts/build-packages $(shell $(GO) env GOARCH)
	@scripts/inspect-packages
	@scripts/test-packages

# The kernel tests and the main end-to-end tests (E2E_RUN) again, on Debian's stock
# kernels under qemu: a quarter of an hour for each kernel, on two cores.
.PHONY: test-vm
test-vm: build
	@echo "=== kernel and end-to-end tests, on stock Linux $(VM_KERNELS)"
	@scripts/packages test vm
	@scripts/build-packages $(shell $(GO) env GOARCH)
	@scripts/debian-tree || [ $$? = 77 ]
	@rm -rf build/vm/tests && mkdir -p build/vm/tests
	CGO_ENABLED=0 $(GO) test -c -o build/vm/tests/ $(KERNEL) $(LAB)
	@for package in $(KERNEL) $(LAB); do \
		echo $(CURDIR)/$${package#sipnatd/} >build/vm/tests/$${package##*/}.dir; \
	done
	scripts/test-vm build/vm/tests $(DAEMON) $(VM_KERNELS)

.PHONY: packages
packages:
	@scripts/build-packages

.PHONY: install uninstall
install: build
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install $(DAEMON)
uninstall:
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install -remove

.PHONY: bench
bench:
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . $(PURE) $(KERNEL)

.PHONY: fuzz-short
fuzz-short:
	scripts/fuzz $(FUZZTIME)

# The samples, the logs and SIPp's statistics are in build/soak afterwards.
.PHONY: soak
soak: build
	CGO_ENABLED=0 SIPNATD_BIN=$(DAEMON) SIPNATD_SOAK=$(SOAK) SIPNATD_LAB_OUT=$(CURDIR)/build/soak \
		$(GO) test -count=1 -timeout 3h -v -run '^TestSoak$$' ./internal/lab/e2e

# With cgo, which the race detector needs: tests that drop privileges are left out, as
# that works without it only.
.PHONY: test-race
test-race:
	@echo "=== end-to-end tests, the daemon under the race detector"
	CGO_ENABLED=1 $(GO) build -race -o $(DAEMON)-race ./cmd/sipnatd
	CGO_ENABLED=0 SIPNATD_BIN=$(DAEMON)-race SIPNATD_LAB_SLOW=3 $(GO) test -count=1 -timeout 40m \
		-parallel $(E2E_PARALLEL) $${E2E_RUN:+-run "$$E2E_RUN"} ./internal/lab/e2e

.PHONY: demo
demo:
	@scripts/packages demo
	@$(MAKE) --no-print-directory -s build
	@SIPNATD_BIN=$(DAEMON) $(GO) run ./internal/lab/demo

.PHONY: clean
clean:
	rm -rf bin build
