# Tests. A unit test is selftests/unit/<area>/test_<name>.c and links the library of its area
# (base, net, proto, or a program's objects without main.c) and what that links.

-include selftests/e2e/e2e.mk selftests/bpf/bpf.mk selftests/fuzz/fuzz.mk selftests/check/check.mk selftests/bench/bench.mk selftests/interop/interop.mk

UNIT_SRC := $(wildcard selftests/unit/*/test_*.c)
UNIT_BIN := $(UNIT_SRC:selftests/unit/%.c=$(O)/test/unit/%)

LIBS_base  :=
LIBS_net   := base
LIBS_proto := base
LIBS_release := base

define UNIT_TEST
$(O)/test/unit/$(1): $(O)/obj/selftests/unit/$(1).o $(O)/lib/lib$(2).a $(foreach l,$(LIBS_$(2)),$(O)/lib/lib$(l).a)
	$$(call msg,LINK,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$(filter %.o %.a,$$^) -lcmocka $(SYS_$(2)) $(foreach l,$(LIBS_$(2)),$(SYS_$(l)))
endef
$(foreach t,$(UNIT_BIN:$(O)/test/unit/%=%),$(eval $(call UNIT_TEST,$(t),$(firstword $(subst /, ,$(t))))))

$(O)/obj/selftests/%.o: CFLAGS += -Werror=unused-function

-include selftests/vm/vm.mk

PARTS_PY := /usr/bin/python3 -B selftests/parts.py

.PHONY: unit unit-build
unit-build: $(UNIT_BIN)

unit: $(UNIT_BIN) ## run the unit tests
	$(Q)$(PARTS_PY) binaries $(UNIT_BIN)

# ---- all of it -------------------------------------------------------------------------------
# A part is a make target; whoever adds one prints `N passed, N failed, N skipped` at its end.
# Unit tests run under ASan and UBSan, the rest as it is shipped, because it measures time.
TEST_PARTS := build=SANITIZE=1,all,unit-build unit=SANITIZE=1,unit \
	      $(if $(wildcard selftests/bpf/bpf.mk),bpftest) \
	      $(if $(wildcard selftests/vm/vm.mk),vm-small) \
	      $(if $(wildcard selftests/e2e/e2e.mk),e2e)

GROUPS ?= build run test vm

.PHONY: deps test
deps: ## install missing packages (GROUPS="build run test check vm")
	$(Q)packaging/install-deps $(GROUPS)

test: deps ## install what is missing, build, run every test
	+$(Q)$(PARTS_PY) run $(TEST_PARTS)
