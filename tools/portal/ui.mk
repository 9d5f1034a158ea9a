# The web page's files, put into the portal's binary plain and gzipped.
UI_FILES := $(wildcard tools/portal/ui/*.*)
UI_GEN   := $(patsubst tools/portal/ui/%,$(O)/gen/ui/%,$(UI_FILES))

EXTRA_OBJS_portal := $(O)/obj/tools/portal/ui_assets.o

$(O)/gen/ui/%.gz: tools/portal/ui/%
	$(call msg,GZIP,$<)
	$(Q)mkdir -p $(@D)
	$(Q)gzip -9 -n -c $< > $@

$(O)/gen/ui/%: tools/portal/ui/%
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@

# The assembler looks for .incbin files by its own -I.
$(O)/obj/tools/portal/ui_assets.o: CPPFLAGS += -Wa,-I,$(O)/gen/ui
$(O)/obj/tools/portal/ui_assets.o: $(UI_GEN) $(UI_GEN:=.gz)
