# Benchmarks. selftests/bench/bench_<name>.py has rows(), which returns what benchlib.row() makes;
# selftests/bench/<name>.c is a program a bench compares with, built without any code of ours.
#
#   make bench             all of them: build/bench/<name>.json and one table
#   make bench T=channel   those whose name matches

BENCH_BIN := $(patsubst selftests/bench/%.c,$(O)/bench/bin/%,$(wildcard selftests/bench/*.c))

$(O)/bench/bin/%: $(O)/obj/selftests/bench/%.o
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -lssl -lcrypto

# What ours are compared with; a machine without the network measures ours alone, and says so.
.PHONY: bench bench-build bench-deps
bench-deps:
	$(Q)packaging/install-deps bench || echo "bench: going on without what is missing" >&2

bench-build: $(BENCH_BIN)

bench: all bench-build bench-deps ## measure: build/bench/*.json and one table (T=name selects)
	$(Q)HOLDFAST_BUILD=$(abspath $(O)) /usr/bin/python3 -B selftests/bench/run.py $(T)
