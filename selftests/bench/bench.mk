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

# A plain WebSocket client to measure beside, pinned by its lock file. Without node, npm or a registry
# its rows are missing, and it is said why.
$(O)/bench/node/.installed: selftests/bench/package.json selftests/bench/package-lock.json selftests/bench/wsclient.js
	$(call msg,NPM,$@)
	$(Q)mkdir -p $(@D) && cp $^ $(@D)/
	$(Q)if (cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1); then touch $@; \
		else echo "bench: npm's ws is not here (see $(@D)/npm.log): its rows are left out"; fi

# What ours are compared with; a machine without the network measures ours alone, and says so.
.PHONY: bench bench-build bench-deps
bench-deps:
	$(Q)packaging/install-deps bench || echo "bench: going on without what is missing" >&2

bench-build: $(BENCH_BIN) $(O)/bench/node/.installed

bench: all bench-build bench-deps $(O)/test/holdfast-agent ## measure: build/bench/*.json and one table (T=name selects)
	$(Q)HOLDFAST_BUILD=$(abspath $(O)) /usr/bin/python3 -B selftests/bench/run.py $(T)
