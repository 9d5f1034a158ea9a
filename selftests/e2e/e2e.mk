# e2e tests: real daemons in own network namespaces. `make e2e T=channel` runs the files that match.

E2E_JOBS ?= 2

.PHONY: e2e
e2e: all ## run the e2e tests (T=pattern selects files)
	$(Q)HOLDFAST_BIN=$(abspath $(O)/bin) /usr/bin/python3 selftests/e2e/run.py --jobs $(E2E_JOBS) $(T)
