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
bench-sweep: tests-build ## 16 trials in one run beside single runs, the full model, and PyTorch
	tests/bench/sweep.sh
bench-halving: tests-build ## successive halving beside a full sweep, on the demo's store
	tests/bench/halving.sh
soak: tests-build ## the long campaigns: kills, interrupts, flips, fuzzing
	tests/soak.sh
fuzz: ## run every libFuzzer target for SECONDS (default 60)
	tests/fuzz.sh $(or $(SECONDS),60)
bundle: ## one relocatable archive of programs, libraries and tests
	pipelines/bundle.sh
format: ## rewrite the sources in the project's format
	clang-format -i $(FORMATTED)
install: programs man ## install programs, cuda backend, pipelines and manual pages under PREFIX (/usr/local)
	install -d $(INSTALLED)/bin $(INSTALLED)/share/man/man1 $(INSTALLED)/share/offramp/pipelines
	for p in $(PROGRAMS); do install -m 755 $(BUILD)/$$p $(INSTALLED)/bin/offramp-$$p || exit 1; done
	if [ -e $(BUILD)/libofframp_cuda.so ]; then install -d $(INSTALLED)/lib/offramp && \
		install -m 755 $(BUILD)/libofframp_cuda.so $(INSTALLED)/lib/offramp/; else rm -f $(INSTALLED)/lib/offramp/libofframp_cuda.so; fi
	install -m 755 $(PIPELINES:%=pipelines/%.sh) $(INSTALLED)/share/offramp/pipelines/
	install -m 644 pipelines/programs.sh pipelines/demo.yaml $(INSTALLED)/share/offramp/pipelines/
	for p in $(PIPELINES); do ln -sfn ../share/offramp/pipelines/$$p.sh $(INSTALLED)/bin/offramp-$$p || exit 1; done
	install -m 644 $(MAN_PAGES) $(INSTALLED)/share/man/man1/
uninstall: ## remove what install put there
	rm -f $(addprefix $(INSTALLED)/bin/offramp-,$(PROGRAMS) $(PIPELINES)) $(INSTALLED)/lib/offramp/libofframp_cuda.so \
		$(patsubst $(BUILD)/man/%,$(INSTALLED)/share/man/man1/%,$(MAN_PAGES))
	rm -rf $(INSTALLED)/share/offramp
	for d in lib/offramp lib bin share/man/man1 share/man share; do if [ -d $(INSTALLED)/$$d ] && [ ! -L $(INSTALLED)/$$d ]; then \
		rmdir --ignore-fail-on-non-empty $(INSTALLED)/$$d || exit 1; fi; done
clean: ## remove what was built
	rm -rf build build-*
.PHONY: all help demo test check bench bench-sweep bench-halving soak fuzz bundle format install uninstall clean
