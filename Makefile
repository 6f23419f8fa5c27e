# mpistill: `make help` lists the targets. Everything found with pkg-config where there is one, and can be pointed elsewhere.
VERSION := 0.1.0
PREFIX ?= /usr/local
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
MPI ?= openmpi
ifeq ($(MPI),mpich)
MPIRUN ?= mpirun.mpich
HDF5_PC ?= hdf5-mpich
MPI_PC ?= mpich
endif
MPIRUN ?= mpirun
export MPIRUN # tests start the program with it
PROTOC_C ?= protoc-c
CLANG_FORMAT ?= clang-format
PKG_CONFIG ?= pkg-config
HDF5_PC ?= hdf5-openmpi
MPI_PC ?= ompi-c
BUILD ?= build
ONNX_PROTO ?= /usr/include/onnx/onnx.proto
OPTIMIZE ?= -O3 -g
SANITIZE ?=

pc = $(shell $(PKG_CONFIG) $(1) $(2) 2>/dev/null)
ifdef HDF5_PREFIX
HDF5_CFLAGS := -I$(HDF5_PREFIX)/include
HDF5_LIBS := -L$(HDF5_PREFIX)/lib -Wl,-rpath,$(HDF5_PREFIX)/lib -lhdf5
else
HDF5_CFLAGS := $(call pc,--cflags,$(HDF5_PC))
HDF5_LIBS := $(call pc,--libs,$(HDF5_PC))
endif
# The OpenMP build of OpenBLAS, whatever the system's default is: by its folder, at link time and at run time.
OPENBLAS_DIR ?= $(firstword $(wildcard $(call pc,--variable=libdir,openblas)/openblas-openmp /usr/lib/*/openblas-openmp) $(call pc,--variable=libdir,openblas))
OPENBLAS_INCLUDE ?= $(firstword $(wildcard /usr/include/*/openblas-openmp) $(call pc,--variable=includedir,openblas))
DNNL_PREFIX ?=
RANDOM123_PREFIX ?=

LAYERS := base comm store import graph ops onnx models learn stages cli
WARNINGS := -std=c11 -Wall -Wextra -Werror
# MPICH's MPI_STATUSES_IGNORE is an address that gcc takes for an array without room.
WARNINGS += $(if $(filter mpich,$(MPI)),$(if $(findstring clang,$(CC)),,-Wno-stringop-overflow))
CPPFLAGS += -D_GNU_SOURCE -DMPISTILL_VERSION='"$(VERSION)"' -Iinclude -Isrc -I$(BUILD)/gen
CPPFLAGS += $(addprefix -isystem ,$(patsubst -I%,%,$(filter -I%,$(call pc,--cflags,$(MPI_PC)) $(HDF5_CFLAGS)))) -isystem $(OPENBLAS_INCLUDE)
CPPFLAGS += $(if $(DNNL_PREFIX),-isystem $(DNNL_PREFIX)/include) $(if $(RANDOM123_PREFIX),-isystem $(RANDOM123_PREFIX)/include)
CPPFLAGS += $(call pc,--cflags-only-I,libprotobuf-c yaml-0.1 jansson libxxhash zlib)
CFLAGS_ALL = $(WARNINGS) $(OPTIMIZE) -fopenmp -ffp-contract=off -fno-math-errno -fno-trapping-math $(SANITIZE) $(CFLAGS)
LDLIBS := $(HDF5_LIBS) $(call pc,--libs,$(MPI_PC)) -L$(OPENBLAS_DIR) -Wl,-rpath,$(OPENBLAS_DIR) -lopenblas
LDLIBS += $(if $(DNNL_PREFIX),-L$(DNNL_PREFIX)/lib -Wl$(comma)-rpath$(comma)$(DNNL_PREFIX)/lib) -ldnnl
LDLIBS += $(call pc,--libs,libprotobuf-c yaml-0.1 jansson libxxhash zlib) -lm
comma := ,

sources = $(sort $(wildcard src/$(1)/*.c))
objects = $(patsubst src/%.c,$(BUILD)/obj/%.o,$(call sources,$(1)))
GEN_OBJ := $(BUILD)/obj/gen/onnx.pb-c.o
LIB_OBJ := $(foreach l,$(filter-out cli,$(LAYERS)),$(call objects,$(l))) $(GEN_OBJ)
archive = $(BUILD)/lib/lib$(1).a
# Layers linked in reverse, so that a layer that reaches below itself fails to link in its own tests.
upto = $(if $(filter $(1),$(firstword $(2))),,$(firstword $(2)) $(call upto,$(1),$(wordlist 2,99,$(2))))
reverse = $(if $(1),$(call reverse,$(wordlist 2,99,$(1))) $(firstword $(1)))

ifeq ($(V),1)
Q :=
else
Q := @
endif
say = $(if $(Q),@printf '  %-6s %s\n' $(1) $(2))

all: $(BUILD)/mpistill $(BUILD)/libmpistill.a

$(BUILD)/mpistill: $(call objects,cli) $(BUILD)/libmpistill.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libmpistill.a: $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/%.o: src/%.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/gen/onnx.pb-c.c: $(ONNX_PROTO)
	$(call say,PROTOC,$@)
	$(Q)mkdir -p $(@D) && $(PROTOC_C) --proto_path=$(dir $<) --c_out=$(@D) $<

$(GEN_OBJ): $(BUILD)/gen/onnx.pb-c.c
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) -O2 -g $(SANITIZE) -w -c -o $@ $<

$(patsubst %.c,$(BUILD)/obj/%.o,$(patsubst src/%,%,$(wildcard src/onnx/*.c))): | $(BUILD)/gen/onnx.pb-c.c

define layer
$(call archive,$(1)): $(call objects,$(1)) $(if $(filter onnx,$(1)),$(GEN_OBJ))
	$(Q)mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call layer,$(l))))

# tests/unit/<layer>/test_*.c: linked with that layer and those above it.
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/*/test_*.c))
define unit
$(BUILD)/tests/$(1)/%: tests/unit/$(1)/%.c $(foreach l,$(call reverse,$(call upto,$(1),$(LAYERS)) $(1)),$(call archive,$(l)))
	$$(call say,TEST,$$@)
	$$(Q)mkdir -p $$(@D) && $$(CC) $$(CPPFLAGS) -Itests/unit $$(CFLAGS_ALL) -MMD -MP $$(LDFLAGS) -o $$@ $$(filter %.c %.a,$$^) -lcmocka $$(LDLIBS)
endef
$(foreach l,$(LAYERS),$(eval $(call unit,$(l))))

TOOLS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/tools/*.c tests/conformance/*.c tests/bench/*.c))
$(TOOLS): $(BUILD)/tests/%: tests/%.c $(BUILD)/libmpistill.a
	$(call say,TOOL,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP $(LDFLAGS) -o $@ $< $(BUILD)/libmpistill.a $(LDLIBS)

# Libraries for LD_PRELOAD.
PRELOADS := $(patsubst tests/%.c,$(BUILD)/tests/%.so,$(wildcard tests/preload/*.c))
$(PRELOADS): $(BUILD)/tests/%.so: tests/%.c
	$(call say,TOOL,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(WARNINGS) -O2 -g -MMD -MP -shared -fPIC -o $@ $< -ldl

# libFuzzer targets: tests/fuzz/run.sh says with what.
FUZZERS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/fuzz/*.c))
$(FUZZERS): $(BUILD)/tests/%: tests/%.c $(BUILD)/libmpistill.a
	$(call say,FUZZ,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS_ALL) -fsanitize=fuzzer -MMD -MP $(LDFLAGS) -o $@ $< $(BUILD)/libmpistill.a $(LDLIBS)

unit: $(UNIT)
fuzzers: $(FUZZERS)
tools: $(TOOLS) $(PRELOADS)

packages:
	$(Q)launch/packages.sh build $(filter mpich,$(MPI))
packages-test:
	$(Q)launch/packages.sh build test $(filter mpich,$(MPI))

quickstart: packages
	$(Q)$(MAKE) --no-print-directory all && launch/quickstart.sh

check: packages-test
	$(Q)tests/check.sh

check-slurm:
	$(Q)launch/packages.sh build slurm
	$(Q)$(MAKE) --no-print-directory all && tests/slurm/run.sh

check-hosts:
	$(Q)launch/packages.sh build hosts
	$(Q)$(MAKE) --no-print-directory all $(BUILD)/tests/tools/cable && tests/hosts/run.sh

simulate:
	$(Q)launch/packages.sh simulate
	$(Q)tests/simulate/run.sh

sanitize: packages-test
	$(Q)tests/sanitize.sh

fuzz: packages-test
	$(Q)tests/fuzz/run.sh

reproduce: packages-test
	$(Q)launch/packages.sh reproduce
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/reproduce/run.sh

torture: all tools
	$(Q)tests/torture.sh $(if $(KILLS),kills $(KILLS),seconds $(or $(SECONDS),1200)) && tests/torture_report.sh

bench: all tools
	$(Q)tests/bench/bench.sh

bench-guard: all
	$(Q)tests/bench/guard.sh $(if $(RENEW),--renew)

profile: all
	$(Q)tests/bench/profile.sh $(RECIPE)

conformance: all tools
	$(Q)$(BUILD)/tests/conformance/conformance --table

format:
	$(Q)$(CLANG_FORMAT) -i $(wildcard src/*/*.[ch] include/mpistill/*.h tests/*/*.[ch] tests/unit/*/*.[ch])

install: all
	$(Q)install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib/pkgconfig include/mpistill share/mpistill/launch)
	$(Q)install -m 755 $(BUILD)/mpistill $(DESTDIR)$(PREFIX)/bin/
	$(Q)install -m 644 $(BUILD)/libmpistill.a $(DESTDIR)$(PREFIX)/lib/
	$(Q)install -m 644 $(wildcard include/mpistill/*.h) $(DESTDIR)$(PREFIX)/include/mpistill/
	$(Q)install -m 755 $(wildcard launch/*.sh) $(DESTDIR)$(PREFIX)/share/mpistill/launch/
	$(Q)printf '%s\n' 'prefix=$(PREFIX)' '' 'Name: mpistill' 'Description: distributed multi-teacher distillation' 'Version: $(VERSION)' \
	  'Requires: $(HDF5_PC) libprotobuf-c yaml-0.1 jansson libxxhash zlib' 'Cflags: -I$${prefix}/include' \
	  'Libs: -L$${prefix}/lib -lmpistill -L$(OPENBLAS_DIR) -Wl,-rpath,$(OPENBLAS_DIR) -lopenblas -ldnnl -fopenmp -lm' \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/mpistill.pc

info:
	@printf '%-12s %s\n' version $(VERSION) compiler "$$($(CC) --version | head -n 1)" mpi "$$($(MPIRUN) --version 2>/dev/null | head -n 1)" \
	  hdf5 "$(call pc,--modversion,$(HDF5_PC))" openblas "$(OPENBLAS_DIR)" onnx "$(ONNX_PROTO)" flags "$(CFLAGS_ALL)"

help:
	@printf '%-14s %s\n' all 'build/mpistill and build/libmpistill.a (the default)' \
	  quickstart 'install what is missing, build, distil a student on the digits with 2 ranks' \
	  check 'install what tests need, run all tests' sanitize 'the tests under AddressSanitizer, UBSan and valgrind' \
	  check-slurm 'a Slurm of two nodes on this machine, as root: ten minutes' \
	  check-hosts 'mpirun over hosts in network namespaces, as root: ten minutes' \
	  fuzz 'every reader under libFuzzer, FUZZ_SECONDS=60 each, FUZZ=NAME for one' \
	  simulate 'messages of a step on clusters of 16 to 4,096 nodes, by SimGrid' \
	  reproduce 'published results, on data of yours: DATA=FOLDER, ONLY=hinton, SEEDS=5' \
	  torture 'SIGKILL at random instants for SECONDS=1200, or KILLS=N times' \
	  bench 'measure against PyTorch on this machine' bench-guard 'instructions of fixed steps against the committed ones (RENEW=1 writes them)' \
	  profile 'time by phase and operator: RECIPE=recipe.yaml RANKS=2 THREADS=1' conformance 'ONNX operator tests as a table' \
	  install 'into PREFIX ($(PREFIX)), below DESTDIR' format 'clang-format all sources' info 'what was found' \
	  clean 'remove $(BUILD)'
	@echo 'Variables: CC MPI=mpich MPIRUN HDF5_PC HDF5_PREFIX MPI_PC OPENBLAS_DIR DNNL_PREFIX RANDOM123_PREFIX ONNX_PROTO OPTIMIZE SANITIZE BUILD PREFIX DESTDIR V=1'

clean:
	$(Q)rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all unit fuzzers tools packages packages-test quickstart check check-slurm check-hosts simulate sanitize fuzz torture bench bench-guard profile reproduce conformance format install info help clean
