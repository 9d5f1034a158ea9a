# The development instance in build/run.

PORT   ?= 4320
DETACH ?= 0
DEV     = /usr/bin/python3 tools/dev/holdfast-dev --dir $(O)/run --bin $(O)/bin --port $(PORT)

.PHONY: run stop demo
run: ## portal, watchdog and agent in build/run, enrolled and online; Ctrl-C stops (DETACH=1: in the background)
	$(Q)$(MAKE) deps GROUPS="build run"
	$(Q)$(MAKE) all
	$(Q)$(DEV) run $(if $(filter 1,$(DETACH)),--detach)

stop: ## stop what `make run DETACH=1` started
	$(Q)$(DEV) stop

demo: ## reset the channel and kill the agent on the running stack; print what happened
	$(Q)$(MAKE) deps GROUPS="build run"
	$(Q)$(MAKE) all
	$(Q)$(DEV) demo
