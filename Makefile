# Targets only; how things are built is in build.mk. `make help` lists them.
.DEFAULT_GOAL := all
include build.mk

all: programs ## build the four programs into build/
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14
demo: ## everything on a real model: set-up, extract, train, report, generate
	pipelines/demo.sh
test: ## install what is missing, build, run every test
	pipelines/test.sh
check: ## formatting, layers, warnings with gcc and clang, tests under sanitizers
	tests/check.sh
bench: tests-build ## print speed, as ratios to what bounds it
	tests/bench/run.sh
soak: tests-build ## the long campaigns: kills, interrupts, flips, fuzzing
	tests/soak.sh
fuzz: ## run every libFuzzer target for SECONDS (default 60)
	tests/fuzz.sh $(or $(SECONDS),60)
bundle: ## one relocatable archive of programs, libraries and tests
	pipelines/bundle.sh
format: ## rewrite the sources in the project's format
	clang-format -i $(FORMATTED)
install: programs ## install the programs as offramp-NAME under PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin
	for p in $(PROGRAMS); do install -m 755 $(BUILD)/$$p $(DESTDIR)$(PREFIX)/bin/offramp-$$p || exit 1; done
clean: ## remove what was built
	rm -rf build build-*
.PHONY: all help demo test check bench soak fuzz bundle format install clean
