# Installing, and what is installed: `make install`, `make dist`, `make deb`, `make rpm`.

PREFIX     ?= /usr
SYSCONFDIR ?= /etc
LIBEXECDIR  = $(PREFIX)/libexec/holdfast
UNITDIR    ?= $(PREFIX)/lib/systemd/system

# The age of everything in a package: the newest commit's, or what `make dist` wrote for a tarball.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || cat .source-date 2>/dev/null)
PACKAGE_ENV = SOURCE_DATE_EPOCH="$(SOURCE_DATE_EPOCH)" LC_ALL=C TZ=UTC

MAN_WRITTEN   := $(wildcard packaging/man/*.[158])
MAN_GENERATED := $(O)/man/holdfast-config.yml.5 $(O)/man/holdfast-portal.yml.5
CONFFILES     := $(O)/config/config.yml $(O)/config/portal.yml
# holdfast-sign joins with its own package, once it is there.
INSTALLED     := $(foreach p,agent watchdog launch scan collect ctl portal,$(O)/bin/$(BIN_$(p)))

# ---- configuration files and their man pages, from the tables the programs read -----------------
$(O)/bin/config-doc: $(O)/obj/packaging/config/config-doc.o $(O)/lib/libproto.a $(O)/lib/libbase.a
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(SYS_proto) $(SYS_base)

$(O)/config/%.yml: packaging/config/%.head packaging/config/comment-out $(O)/bin/config-doc
	$(call msg,CONF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(O)/bin/config-doc $* yaml | packaging/config/comment-out | cat $< - > $@

$(O)/man/holdfast-%.yml.5: packaging/man/%.yml.head packaging/man/%.yml.tail $(O)/bin/config-doc
	$(call msg,MAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(O)/bin/config-doc $* man | cat packaging/man/$*.yml.head - packaging/man/$*.yml.tail > $@

# ---- install -----------------------------------------------------------------------------------
# A unit names the programs by path; sed is for a PREFIX that is not /usr.
install-unit = sed 's|/usr/libexec/holdfast|$(LIBEXECDIR)|' $(1) > $(DESTDIR)$(UNITDIR)/$(notdir $(1)) && \
	       chmod 644 $(DESTDIR)$(UNITDIR)/$(notdir $(1))

.PHONY: install
install: $(INSTALLED) $(CONFFILES) $(MAN_GENERATED) ## install below DESTDIR, PREFIX=/usr
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(LIBEXECDIR) \
		$(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/holdfast \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d \
		$(DESTDIR)$(PREFIX)/share/holdfast/prometheus $(DESTDIR)$(PREFIX)/share/holdfast/grafana \
		$(foreach s,1 5 8,$(DESTDIR)$(PREFIX)/share/man/man$(s))
	$(Q)install -m 755 $(O)/bin/holdfast $(O)/bin/holdfast-sign $(DESTDIR)$(PREFIX)/bin/
	$(Q)install -m 755 $(filter-out %/holdfast %/holdfast-sign,$(INSTALLED)) packaging/systemd/holdfast-stopped \
		packaging/systemd/holdfast-stopping \
		$(DESTDIR)$(LIBEXECDIR)/
	$(Q)ln -sfn ../libexec/holdfast/holdfast-portal $(DESTDIR)$(PREFIX)/sbin/holdfast-portal
	$(Q)$(call install-unit,packaging/systemd/holdfast.service)
	$(Q)$(call install-unit,packaging/systemd/holdfast-portal.service)
	$(Q)install -m 644 $(wildcard packaging/systemd/*.sysusers) $(DESTDIR)$(PREFIX)/lib/sysusers.d/
	$(Q)cd $(DESTDIR)$(PREFIX)/lib/sysusers.d && for f in *.sysusers; do mv $$f $${f%.sysusers}.conf; done
	$(Q)install -m 644 packaging/systemd/holdfast.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/holdfast.conf
	$(Q)install -m 644 $(CONFFILES) $(DESTDIR)$(SYSCONFDIR)/holdfast/
	$(Q)install -m 644 packaging/completions/holdfast.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/holdfast
	$(Q)install -m 644 packaging/completions/holdfast.zsh \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_holdfast
	$(Q)install -m 644 packaging/completions/holdfast.fish \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/holdfast.fish
	$(Q)install -m 644 packaging/prometheus/holdfast.rules.yml $(DESTDIR)$(PREFIX)/share/holdfast/prometheus/
	$(Q)install -m 644 packaging/grafana/holdfast.json $(DESTDIR)$(PREFIX)/share/holdfast/grafana/
	$(Q)for m in $(MAN_WRITTEN) $(MAN_GENERATED); do \
		install -m 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/; done

# ---- source tarball ----------------------------------------------------------------------------
DIST     := $(O)/dist/holdfast-$(VERSION).tar.gz
DEB_DIR   = $(O)/deb
RPM_DIR   = $(O)/rpm
MAKE_DIST = packaging/make-dist $(VERSION) "$(SOURCE_DATE_EPOCH)"

.PHONY: dist deb rpm check-packages check-reproducible
dist: ## the source tarball
	$(Q)$(PACKAGE_ENV) $(MAKE_DIST) $(DIST)
	@echo $(DIST)

deb: ## Debian packages in build/deb
	$(Q)$(MAKE) deps GROUPS="build package"
	$(Q)$(PACKAGE_ENV) $(MAKE_DIST) $(DIST)
	$(Q)$(PACKAGE_ENV) packaging/deb/build $(VERSION) $(DIST) $(DEB_DIR)

rpm: ## RPM packages in build/rpm
	$(Q)$(MAKE) deps GROUPS="build package"
	$(Q)$(PACKAGE_ENV) $(MAKE_DIST) $(DIST)
	$(Q)$(PACKAGE_ENV) packaging/rpm/build $(VERSION) $(DIST) $(RPM_DIR)

check-packages: deb rpm ## lintian and rpmlint on the packages, man on the man pages
	$(Q)packaging/check-packages $(DEB_DIR) $(RPM_DIR)

check-reproducible: ## build tarball, .deb and .rpm twice in different places; every byte must agree
	$(Q)$(MAKE) deps GROUPS="build package"
	$(Q)$(PACKAGE_ENV) packaging/check-reproducible $(VERSION) "$(SOURCE_DATE_EPOCH)" $(O)/reproducible
