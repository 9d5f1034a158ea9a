# The virtual machines: `make vm KERNELS="6.1 sid"`. Names are in selftests/vm/kernels.

KERNELS      ?= 5.10 6.1 6.12 sid
VM_SMALL     ?= 5.10 sid
# Everything the BPF tests build, found when the recipe runs. Their own fragment sets BPF_TEST_BIN.
VM_TESTS      = $(shell find $(O)/test/bpf -maxdepth 1 -type f -perm -u+x 2>/dev/null | sort)
VM_PREPARE    = $(if $(BPF_TEST_BIN),$(Q)$(MAKE) $(BPF_TEST_BIN))
VM_MATRIX    := selftests/vm/vm-matrix --quiet

.PHONY: vm vm-small vm-probe
vm: all ## run the BPF tests and some of the e2e tests on each kernel of the matrix, in virtual machines
	$(VM_PREPARE)
	$(Q)$(VM_MATRIX) --out $(O)/vm --limit 900 $(foreach t,$(VM_TESTS),--test $(t)) --e2e $(O)/bin $(KERNELS)

# The part of it that `make test` runs. 77 is a skip, with its reason printed.
vm-small: ## the same on one old and one new kernel
	$(VM_PREPARE)
	$(Q)$(VM_MATRIX) --out $(O)/vm-small $(foreach t,$(VM_TESTS),--test $(t)) $(VM_SMALL) || \
		{ r=$$?; [ $$r = 77 ] || exit $$r; }

vm-probe: $(O)/test/vm/probe ## what each kernel of the matrix allows to BPF programs, as a table
	$(Q)$(VM_MATRIX) --facts --out $(O)/vm-probe --test $< $(KERNELS)

VM_BPF_CFLAGS := -g -O2 -Wall -Wextra -Wno-unused-parameter -Werror -target bpf -mcpu=v3 \
		 -D__TARGET_ARCH_x86 -I/usr/include/$(shell $(CC) -print-multiarch 2>/dev/null)

$(O)/test/vm/probe.bpf.o: selftests/vm/probe/probe.bpf.c
	$(call msg,BPF,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(VM_BPF_CFLAGS) -c -o $@ $<

$(O)/test/vm/probe.skel.h: $(O)/test/vm/probe.bpf.o
	$(call msg,SKEL,$<)
	$(Q)$(BPFTOOL) gen skeleton $< name probe > $@

$(O)/test/vm/probe: selftests/vm/probe/probe.c selftests/vm/probe/probe.h $(O)/test/vm/probe.skel.h
	$(call msg,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -I$(O)/test/vm $(LDFLAGS) -o $@ $< -lbpf

# ---- the packages on Debian 12 with systemd ----------------------------------------------------
# The upgrade is to the same sources under the next version.
NEXT_VERSION     = $(shell echo $(VERSION) | awk -F. '{ print $$1 "." $$2 "." $$3 + 1 }')
SYSTEMD_KERNELS ?= 6.1 5.10 6.12 sid
VM_SYSTEMD      := selftests/vm/systemd/vm-systemd

.PHONY: vm-systemd
vm-systemd: $(O)/test/testagent ## install the .debs on Debian 12 with systemd, on each kernel, and break things
	$(Q)$(MAKE) deps GROUPS="vm"
	$(Q)$(MAKE) deb
	$(Q)$(MAKE) deb VERSION=$(NEXT_VERSION) DEB_DIR=$(O)/deb-next
	$(Q)mkdir -p $(O)/vm-systemd/debs && cp $(O)/deb/*.deb $(O)/deb-next/holdfast_$(NEXT_VERSION)_amd64.deb $(O)/vm-systemd/debs/
	$(Q)$(VM_SYSTEMD) --out $(O)/vm-systemd --debs $(O)/vm-systemd/debs --version $(VERSION) \
		--next $(NEXT_VERSION) --testagent $(O)/test/testagent $(if $(T),--only '$(T)') $(SYSTEMD_KERNELS)
