# Fuzzing. selftests/fuzz/fuzz_<name>.c has LLVMFuzzerTestOneInput() and may call whatever our
# libraries and programs have (their main.c excepted); selftests/fuzz/corpus/<name>/ has its seeds.
# What a run finds is added to build/fuzz/corpus, a crash is left in build/fuzz/crash-*.
#
#   make fuzz              every fuzzer for FUZZ_S seconds
#   make fuzz T=config     those whose name matches

FUZZ_S    ?= 20
FUZZ_DIR  := $(O)/fuzz
FUZZ_SRC  := $(wildcard selftests/fuzz/fuzz_*.c)
FUZZ_NAMES := $(foreach n,$(FUZZ_SRC:selftests/fuzz/fuzz_%.c=%),$(if $(findstring $(T),$(n)),$(n)))
FUZZ_SAN  := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined

# An archive gives only the members that are called, so that one list serves all.
FUZZ_AREAS := $(foreach a,$(PROGRAMS) $(LIBRARIES),$(if $(call srcs,$(a)),$(a)))
FUZZ_LIBS  := $(foreach a,$(FUZZ_AREAS),$(O)/lib/lib$(a).a)
FUZZ_SYS   := $(sort $(foreach a,$(FUZZ_AREAS),$(SYS_$(a))))

$(O)/bin/fuzz_%: $(O)/obj/selftests/fuzz/fuzz_%.o $(FUZZ_LIBS)
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< -Wl,--start-group $(FUZZ_LIBS) -Wl,--end-group $(FUZZ_SYS)

.PHONY: fuzz fuzz-build
fuzz-build: $(FUZZ_NAMES:%=$(O)/bin/fuzz_%)

fuzz: ## fuzz every parser for FUZZ_S seconds each (T=name selects)
	$(Q)$(MAKE) O=$(FUZZ_DIR) CC=$(CLANG) SANITIZE=0 WARNINGS=-w HARDEN=-fPIE OPT='-O1 -g $(FUZZ_SAN)' \
		LDSAN='$(FUZZ_SAN)' fuzz-build
	$(Q)for n in $(FUZZ_NAMES); do \
		mkdir -p $(FUZZ_DIR)/corpus/$$n; \
		seeds=; if [ -d selftests/fuzz/corpus/$$n ]; then seeds=selftests/fuzz/corpus/$$n; fi; \
		if ! $(FUZZ_DIR)/bin/fuzz_$$n -max_total_time=$(FUZZ_S) -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=$(FUZZ_DIR)/ $(FUZZ_ARGS) \
			$(FUZZ_DIR)/corpus/$$n $$seeds >$(FUZZ_DIR)/$$n.log 2>&1; then \
			tail -n 40 $(FUZZ_DIR)/$$n.log; echo "fuzz: $$n: FAILED, log in $(FUZZ_DIR)/$$n.log"; exit 1; \
		fi; \
		runs=$$(sed -n 's/^stat::number_of_executed_units: *//p' $(FUZZ_DIR)/$$n.log); \
		echo "fuzz: $$n: $${runs:-0} inputs, no fault"; \
	done
