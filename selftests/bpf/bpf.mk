# Tests of the BPF programs on the running kernel. Each selftests/bpf/test_<name>.c is a program of
# its own that needs nothing of the source tree, so that it also runs inside a virtual machine.
#
#   make bpftest           all of them, as root
#   make bpftest T=conn    those whose name matches

BEHAVE_OBJ   := $(patsubst %.c,$(O)/obj/%.o,$(filter-out %/main.c,$(wildcard selftests/behave/*.c)))
BPF_TEST_OBJ := $(O)/obj/selftests/bpf/harness.o $(BEHAVE_OBJ) \
		$(patsubst %.c,$(O)/obj/%.o,$(wildcard watchdog/kernel_*.c)) \
		$(O)/obj/userspace/agent/ring.o $(O)/obj/userspace/agent/kernel_decode.o \
		$(O)/obj/userspace/agent/kernel_info.o $(O)/obj/gen/bus.pb-c.o
BPF_TEST_SRC := $(wildcard selftests/bpf/test_*.c)
BPF_TEST_BIN := $(BPF_TEST_SRC:selftests/bpf/%.c=$(O)/test/bpf/%)
BPF_TEST_SYS := -lbpf -lelf -lz -lprotobuf-c -lcmocka -pthread

$(O)/test/bpf/%: $(O)/obj/selftests/bpf/%.o $(BPF_TEST_OBJ) $(O)/lib/libbase.a
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(BPF_TEST_SYS)

# Its rows are part of `make bench` (selftests/bench/bench_kernel.py).
bench-build: $(O)/bench/bin/bench_kernel
$(O)/bench/bin/bench_kernel: $(O)/obj/selftests/bpf/bench_kernel.o $(BPF_TEST_OBJ) $(O)/lib/libbase.a
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(BPF_TEST_SYS)

# The behaviours by hand.
$(O)/test/behave: $(O)/obj/selftests/behave/main.o $(BEHAVE_OBJ)
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -pthread

# 77 is a skip of the whole program, with its reason printed.
.PHONY: bpftest
bpftest: $(BPF_TEST_BIN) $(O)/test/behave ## run the BPF tests on the running kernel, as root
	$(Q)r=0; for t in $(foreach t,$(BPF_TEST_BIN),$(if $(or $(if $(T),,all),$(findstring $(T),$(notdir $(t)))),$(t))); do \
		echo "== $${t#$(O)/test/}"; timeout -k 5 120 $$t || { c=$$?; [ $$c = 77 ] || r=1; }; done; exit $$r
