# make check: form, boundaries, static analysis. Each file's analysis is done again only when it or
# a header of it changed.

CHECK_C    = $(shell git -c safe.directory='*' ls-files -co --exclude-standard '*.c' '*.h' | grep -v '^selftests/check/samples/')
# clang-tidy and not cppcheck: measured on 27 files, cppcheck 2.10 follows neither cleanup attributes
# nor HF_CAST's statement expression, and all of its 12 findings were false.
TIDY_SRC  := $(foreach a,$(sort $(LIBRARIES) $(PROGRAMS)),$(call srcs,$(a)))
TIDY_OK   := $(TIDY_SRC:%.c=$(O)/check/%.tidy)
CHECK_PY  := /usr/bin/python3 -B

$(O)/check/%.tidy: $(O)/obj/%.o .clang-tidy
	$(call msg,TIDY,$*.c)
	$(Q)mkdir -p $(@D)
	$(Q)clang-tidy --quiet $*.c -- -std=gnu17 $(CPPFLAGS) >$@.log 2>&1 || \
		{ grep -E ' (error|warning): ' $@.log; echo "  how it got there: $@.log"; exit 1; }
	$(Q)touch $@

.PHONY: check check-format check-rules check-tidy
check: ## format, rules of style, include boundaries, static analysis
	$(Q)$(MAKE) -k check-format check-rules check-tidy
	@echo "check: no fault"

check-format:
	$(call msg,FORMAT,all C)
	$(Q)clang-format --dry-run -Werror $(CHECK_C)

check-rules:
	$(call msg,RULES,all files)
	$(Q)$(CHECK_PY) selftests/check/includes.py --samples && $(CHECK_PY) selftests/check/includes.py
	$(Q)$(CHECK_PY) selftests/check/style.py --samples && $(CHECK_PY) selftests/check/style.py
	$(Q)$(CHECK_PY) selftests/check/test_parts.py

check-tidy: $(TIDY_OK)
