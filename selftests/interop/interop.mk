# Interop with other people's OpAMP: needs a Go toolchain and, the first time, the module proxy. Not a
# part of `make test`; what it lacks it says. Autobahn's test suite is not run: it needs CPython 2.7
# (the frame rules are covered by selftests/unit/net, the fuzzers and test_portal_bad_input.py).

GO ?= go
INTEROP_PEER := $(O)/interop/peer

.PHONY: interop
interop: all ## run against OpenTelemetry's opamp-go, client and server (needs Go)
	$(Q)mkdir -p $(O)/interop
	$(Q)if ! command -v $(GO) >/dev/null; then \
		echo "SKIP: there is no Go toolchain"; echo "interop: 0 passed, 0 failed, 1 skipped"; \
	elif ! (cd selftests/interop && GOFLAGS=-mod=readonly GOTOOLCHAIN=local $(GO) build -o $(abspath $(INTEROP_PEER)) .) >$(O)/interop/build.log 2>&1; then \
		echo "SKIP: opamp-go cannot be built here: $$(tail -n 1 $(O)/interop/build.log)"; echo "interop: 0 passed, 0 failed, 1 skipped"; \
	else \
		HOLDFAST_BIN=$(abspath $(O)/bin) HOLDFAST_INTEROP_PEER=$(abspath $(INTEROP_PEER)) /usr/bin/python3 selftests/interop/test_opamp_go.py $(T); \
	fi
	$(Q)echo "SKIP: Autobahn: its test suite needs CPython 2.7"
