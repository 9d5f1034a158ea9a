# Tests. A unit test is selftests/unit/<area>/test_<name>.c and links the library of its area
# (base, net, proto, or a program's objects without main.c) and what that links.

-include selftests/e2e/e2e.mk selftests/bpf/bpf.mk selftests/fuzz/fuzz.mk

UNIT_SRC := $(wildcard selftests/unit/*/test_*.c)
UNIT_BIN := $(UNIT_SRC:selftests/unit/%.c=$(O)/test/unit/%)

LIBS_base  :=
LIBS_net   := base
LIBS_proto := base

define UNIT_TEST
$(O)/test/unit/$(1): $(O)/obj/selftests/unit/$(1).o $(O)/lib/lib$(2).a $(foreach l,$(LIBS_$(2)),$(O)/lib/lib$(l).a)
	$$(call msg,LINK,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$(filter %.o %.a,$$^) -lcmocka $(SYS_$(2)) $(foreach l,$(LIBS_$(2)),$(SYS_$(l)))
endef
$(foreach t,$(UNIT_BIN:$(O)/test/unit/%=%),$(eval $(call UNIT_TEST,$(t),$(firstword $(subst /, ,$(t))))))

$(O)/obj/selftests/%.o: CFLAGS += -Werror=unused-function

-include selftests/vm/vm.mk

.PHONY: unit
unit: $(UNIT_BIN) ## run the unit tests
	$(Q)r=0; for t in $(UNIT_BIN); do echo "== $${t#$(O)/test/}"; $$t || r=1; done; exit $$r
