# build.mk: how the sources become programs and tests. BUILD, CC and SANITIZE may be set.
#
# kernels/ and common/ go into libofframp.a; a program is its folder's sources and that library; a
# test program is one file in a folder of tests/ with the harness (tests/*.c), the library and the
# programs' sources without their main.c.
SANITIZE ?=
BUILD ?= build$(if $(SANITIZE),-sanitize)
PREFIX ?= /usr/local
PROGRAMS := extract train generate cache
# The pipelines that are installed.
PIPELINES := tune slurm
INSTALLED = $(DESTDIR)$(PREFIX)

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
override CFLAGS += -std=c11 -D_GNU_SOURCE -I. -pthread -ffp-contract=off $(WARNINGS) $(EXTRA_CFLAGS)
ifneq ($(SANITIZE),)
override CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
override LDFLAGS += -fsanitize=address,undefined
endif
LIBS := -ldnnl -llmdb -lzstd -lz -lxxhash -lpcre2-8 -lutf8proc -ljansson -lyaml -llapacke -lgomp -lm -ldl

# Where a bundle (pipelines/bundle.sh) has the libraries, from bin/ and from bin/tests/*/. Old-style: they
# hold for what the libraries themselves need, too.
RUN_PATHS := -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../lib',-rpath,'$$ORIGIN/../../../lib'

# Loops of the cpu backend are compiled once per instruction set and chosen at run time.
LOOPS := $(wildcard kernels/cpu/loops/*.c)
ifeq ($(shell uname -m),x86_64)
LOOP_SETS := base avx2 avx512
else
LOOP_SETS := base
endif
LOOP_FLAGS_base :=
LOOP_FLAGS_avx2 := -march=x86-64-v3
LOOP_FLAGS_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
LOOP_OBJECTS := $(foreach set,$(LOOP_SETS),$(LOOPS:%.c=$(BUILD)/obj/%.$(set).o))

LIBRARY_SOURCES := $(wildcard kernels/*.c kernels/ref/*.c kernels/cpu/*.c common/*/*.c)
LIBRARY_OBJECTS := $(LIBRARY_SOURCES:%.c=$(BUILD)/obj/%.o) $(LOOP_OBJECTS)
PROGRAM_OBJECTS = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard $(1)/*.c))
SHARED_OBJECTS := $(filter-out %/main.o,$(foreach p,$(PROGRAMS),$(call PROGRAM_OBJECTS,$(p))))

TEST_SOURCES := $(wildcard tests/unit/*.c tests/ops/*.c tests/golden/*.c tests/malformed/*.c tests/faults/*.c tests/bench/*.c tests/gpu/*.c)
TESTS := $(TEST_SOURCES:%.c=$(BUILD)/%)
HARNESS := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/*.c))
# What the comparisons with other software (tests/interop/*.py) run: programs of one file.
INTEROP := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/interop/*.c))
FORMATTED = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cuh')

# The cuda backend is a library of its own, opened at run time: nothing else needs the toolkit. The one that
# pipelines/setup.sh --cuda gets, where no installed one does, comes first.
NVCC ?= $(firstword $(wildcard $(CUDA_CACHE)/nvidia/cu13/bin/nvcc) $(shell command -v nvcc 2>/dev/null) \
	$(wildcard /usr/local/cuda/bin/nvcc))
CUDA_CACHE ?= $(if $(OFFRAMP_CACHE),$(OFFRAMP_CACHE),$(CURDIR)/.cache)/cuda
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
# Where the toolkit has cuBLAS: NVIDIA's installers, PyPI and Debian differ. It is linked to by its path, so that the library
# asks for the release that is there.
CUBLAS := $(firstword $(foreach folder,$(or $(CUDA_LIBRARIES),$(addprefix $(CUDA_HOME)/,lib64 lib targets/$(shell uname -m)-linux/lib \
	lib/$(shell uname -m)-linux-gnu)),$(wildcard $(folder)/libcublas.so) $(wildcard $(folder)/libcublas.so.*)))
# What links to it, from a folder whose way to the library's is $(1): there, pip may have put it (kernels/cuda_library.c).
CUDA_LINKS = $(CUBLAS) -Xlinker -rpath,'$$ORIGIN$(1)',-rpath,$(patsubst %/,%,$(dir $(CUBLAS))),-rpath,/usr/local/cuda/lib64,$\
	-rpath,'$$ORIGIN$(1)/cuda/nvidia/cu13/lib',-rpath,'$$ORIGIN$(1)/cuda/nvidia/cublas/lib'
CUDA_SOURCES := $(wildcard kernels/cuda/*.cu)
CUDA_FLAGS := -std=c++17 -O3 -I. -Xcompiler -fPIC,-Wall,-Wextra -Werror all-warnings -Xptxas -warn-spills,-Werror \
	-gencode arch=compute_80,code=sm_80 -gencode 'arch=compute_90,code=[sm_90,compute_90]'
# cuda: the library, and for tests what else nvcc compiles, where the toolkit works; else a line says why not.
CUDA_TARGET := $(if $(SANITIZE),,$(if $(strip $(NVCC)),cuda))
CUDA_WORKS := $(BUILD)/obj/toolkit$(subst /,-,$(NVCC))
# A checksum of what the programs and that library must agree on, so that one of another build is refused.
INTERFACE := $(shell cat $$($(CC) -I. -MM kernels/cuda_library.h | tr -d '\\' | sed 's/^.*://') | cksum | cut -d' ' -f1)
EMULATED_FLAGS := -std=c++17 -O2 -g -fPIC -I. -Wall -Wextra -Wno-unknown-pragmas -Wno-unused-function -Wno-clobbered \
	-DOFFRAMP_CUDA_EMULATED -fvisibility=hidden $(if $(SANITIZE),-fsanitize=address -fno-omit-frame-pointer) $(EXTRA_CFLAGS)

programs: $(PROGRAMS:%=$(BUILD)/%) $(CUDA_TARGET)
tests-build: programs $(TESTS) $(BUILD)/libofframp_cuda_emulated.so $(CUDA_TARGET:%=%-tests)
toolkit:
	@kernels/cuda/toolkit.sh '$(CUDA_WORKS)' '$(NVCC)' '$(CUBLAS)' $(CUDA_FLAGS)
cuda:
	@if kernels/cuda/toolkit.sh '$(CUDA_WORKS)' '$(NVCC)' '$(CUBLAS)' $(CUDA_FLAGS); then \
		$(MAKE) --no-print-directory $(BUILD)/libofframp_cuda.so; else rm -f $(BUILD)/libofframp_cuda.so; fi
cuda-tests: cuda
	@[ ! -e $(BUILD)/libofframp_cuda.so ] || $(MAKE) --no-print-directory $(BUILD)/tests/gpu/ceilings
.PHONY: programs tests-build toolkit cuda cuda-tests

# Before anything is compiled: a missing library is named with what installs it.
$(BUILD)/obj/headers: build.mk pipelines/headers.sh
	@mkdir -p $(@D)
	@pipelines/headers.sh "$(CC)"
	@touch $@

define program_rule
$(BUILD)/$(1): $(call PROGRAM_OBJECTS,$(1)) $(BUILD)/libofframp.a
	$$(CC) $$(CFLAGS) $$(LDFLAGS) $$(RUN_PATHS) -o $$@ $$^ $$(LIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

# Manual pages, of what --help says.
MAN_PAGES := $(patsubst %,$(BUILD)/man/offramp-%.1,$(PROGRAMS) $(PIPELINES))
man: $(MAN_PAGES)
.PHONY: man
$(PROGRAMS:%=$(BUILD)/man/offramp-%.1): $(BUILD)/man/offramp-%.1: $(BUILD)/% docs/man.sh
	@mkdir -p $(@D)
	@docs/man.sh $< offramp-$* >$@.new && mv $@.new $@
$(PIPELINES:%=$(BUILD)/man/offramp-%.1): $(BUILD)/man/offramp-%.1: pipelines/%.sh docs/man.sh
	@mkdir -p $(@D)
	@docs/man.sh $< offramp-$* >$@.new && mv $@.new $@

$(BUILD)/libofframp.a: $(LIBRARY_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/libprograms.a: $(SHARED_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(TESTS): $(BUILD)/%: $(BUILD)/obj/%.o $(HARNESS) $(BUILD)/libprograms.a $(BUILD)/libofframp.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(RUN_PATHS) $(TEST_LDFLAGS) -o $@ $^ $(LIBS)

$(INTEROP): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/libofframp.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Faults are injected where a function of the library is called.
$(BUILD)/tests/faults/store: TEST_LDFLAGS := -Wl,--wrap=hash_bytes
FAILING_MEMORY := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign# tests/failing_memory.h
$(BUILD)/tests/faults/store_memory: TEST_LDFLAGS := $(FAILING_MEMORY)
$(BUILD)/tests/faults/engine: TEST_LDFLAGS := $(FAILING_MEMORY)
$(BUILD)/tests/faults/sweep: TEST_LDFLAGS := $(FAILING_MEMORY)
$(BUILD)/tests/faults/training: TEST_LDFLAGS := -Wl,--wrap=malloc,--wrap=realloc,--wrap=posix_memalign,--wrap=queue_wait,--wrap=fwrite,--wrap=fflush,--wrap=fsync,--wrap=rename,--wrap=renameat2,--wrap=unlink,--wrap=unlinkat

define loop_rule
$(BUILD)/obj/kernels/cpu/loops/%.$(1).o: kernels/cpu/loops/%.c | $(BUILD)/obj/headers
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math $$(LOOP_FLAGS_$(1)) -DLOOP_SET=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach set,$(LOOP_SETS),$(eval $(call loop_rule,$(set))))

$(BUILD)/obj/kernels/cuda_library.o: override CFLAGS += -DOFFRAMP_INTERFACE=$(INTERFACE)u
$(BUILD)/obj/kernels/cuda/memory.cuda.o: CUDA_FLAGS += -DOFFRAMP_INTERFACE=$(INTERFACE)u
$(BUILD)/obj/kernels/cuda/memory.emulated.o: EMULATED_FLAGS += -DOFFRAMP_INTERFACE=$(INTERFACE)u

# Codecs are loops over values and bytes, worth vectorising; they stay one build for all machines.
$(BUILD)/obj/common/codec/%.o: override CFLAGS += -O3 -funroll-loops

$(BUILD)/libofframp_cuda.so: $(CUDA_SOURCES:%.cu=$(BUILD)/obj/%.cuda.o)
	$(NVCC) -shared -cudart static -o $@ $^ $(call CUDA_LINKS,)
$(BUILD)/obj/%.cuda.o: %.cu
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# What bounds a device: the only program that links to CUDA, for tests/gpu/all.sh.
$(BUILD)/tests/gpu/ceilings: tests/gpu/ceilings.cu
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) -cudart static -o $@ $< $(call CUDA_LINKS,/../..)

# The same sources on the processor, for tests (tests/cuda/emulator.h).
$(BUILD)/libofframp_cuda_emulated.so: $(CUDA_SOURCES:%.cu=$(BUILD)/obj/%.emulated.o) $(BUILD)/obj/tests/cuda/emulator.o
	$(CXX) $(EMULATED_FLAGS) -shared -o $@ $^
$(BUILD)/obj/%.emulated.o: %.cu
	@mkdir -p $(@D)
	$(CXX) $(EMULATED_FLAGS) -include tests/cuda/emulator.h -x c++ -MMD -MP -c -o $@ $<
$(BUILD)/obj/tests/cuda/emulator.o: tests/cuda/emulator.cpp
	@mkdir -p $(@D)
	$(CXX) $(EMULATED_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.c | $(BUILD)/obj/headers
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# Warnings alone: nothing is built.
syntax:
	git ls-files '*.c' | xargs -P "$$(nproc)" -n 16 $(CC) $(CFLAGS) -DLOOP_SET=base -DOFFRAMP_INTERFACE=0u -fsyntax-only
.PHONY: syntax

# libFuzzer targets, with the whole library under AddressSanitizer: make fuzz builds in build-fuzz.
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/*.c))
$(FUZZERS): $(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/obj/tests/fuzz/lib/file.o $(BUILD)/libprograms.a $(BUILD)/libofframp.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fsanitize=fuzzer,address -o $@ $^ $(LIBS)
fuzz-build: $(FUZZERS)
.PHONY: fuzz-build

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
