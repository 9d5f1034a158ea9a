# e2e tests: real daemons in own network namespaces. `make e2e T=channel` runs the files that match.

E2E_JOBS ?= 2

# A component that misbehaves on demand, with the agent's real client.
$(O)/test/testagent: $(O)/obj/selftests/e2e/testagent.o $(O)/obj/userspace/agent/supervise.o $(O)/lib/libproto.a $(O)/lib/libbase.a
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) -lsystemd $(SYS_proto) $(SYS_base)

.PHONY: e2e
e2e: all $(O)/test/testagent ## run the e2e tests (T=pattern selects files)
	$(Q)HOLDFAST_BIN=$(abspath $(O)/bin) /usr/bin/python3 selftests/e2e/run.py --jobs $(E2E_JOBS) $(T)
