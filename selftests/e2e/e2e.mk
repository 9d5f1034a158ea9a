# e2e tests: real daemons in own network namespaces. `make e2e T=channel` runs the files that match.

E2E_JOBS ?= 2

# A component that misbehaves on demand, with the agent's real client.
$(O)/test/testagent: $(O)/obj/selftests/e2e/testagent.o $(O)/obj/userspace/agent/supervise.o $(O)/lib/libproto.a $(O)/lib/libbase.a
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) -lsystemd $(SYS_proto) $(SYS_base)

# The agent with clocks that a test can move.
$(O)/test/holdfast-agent: $(O)/obj/selftests/e2e/shiftclock.o $(O)/obj/$(SRCDIR_agent)/main.o $(O)/lib/libagent.a $(foreach l,$(LIBS_agent),$(O)/lib/lib$(l).a)
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(SYS_agent) $(foreach l,$(LIBS_agent),$(SYS_$(l)))

# logind, as far as a client sees it.
$(O)/test/fakelogind: $(O)/obj/selftests/e2e/fakelogind.o
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lsystemd

.PHONY: e2e
e2e: all $(O)/test/testagent $(O)/test/holdfast-agent $(O)/test/fakelogind ## run the e2e tests (T=pattern selects files)
	$(Q)HOLDFAST_BIN=$(abspath $(O)/bin) /usr/bin/python3 selftests/e2e/run.py --jobs $(E2E_JOBS) $(T)
