# ev-cage. Two commands for a fresh Debian 12: `make demo` and `make test`. `make help` lists the rest.
#
#   B=DIR     where everything is built (default build)
#   SAN=LIST  sanitizers, e.g. SAN=address,undefined; builds into $(B)/san
#   CC=clang  any C11 compiler
#   V=1       prints whole command lines

SHELL := /bin/sh
V ?= 0
ifeq ($(V),0)
Q := @
say = @echo '  $(1)  $(2)'
endif
B ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
SAN ?=
ifneq ($(SAN),)
O := $(B)/san
else
O := $(B)
endif
THIRD := $(B)/third
DEBUG_PREFIX := -ffile-prefix-map=$(CURDIR)=.

PKGS := lua5.4 openssl libcbor libuv jansson libseccomp zlib
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS = $(shell pkg-config --libs $(filter-out libcbor,$(PKGS)) 2>/dev/null) -lcbor -ldl -lpthread -lm

CSTD := -std=c11 -D_GNU_SOURCE
WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
        -Wwrite-strings -Wvla -Werror
HARDEN := -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
CFLAGS ?= -O2 -g
ifneq ($(SAN),)
HARDEN := -fPIE
override CFLAGS += -O1 -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
SANLD := -fsanitize=$(SAN)
endif
ALL_CFLAGS = $(CSTD) $(WARN) $(HARDEN) $(CFLAGS) $(DEBUG_PREFIX) -Icore -I$(THIRD)/llhttp -I$(O)/gen $(PKG_CFLAGS)
LDFLAGS += -pie -Wl,--build-id=none -Wl,-z,relro,-z,now -Wl,--as-needed $(SANLD)

CORE := $(filter-out core/main.c,$(sort $(wildcard core/*/*.c)))
OBJ := $(CORE:core/%.c=$(O)/obj/%.o) $(O)/obj/third/llhttp.o $(O)/obj/third/llhttp_api.o \
       $(O)/obj/third/llhttp_http.o $(O)/obj/gen/embed_data.o
LIB := $(O)/libev.a
BIN := $(O)/ev-cage
RUNTIME := $(O)/runtime.cpio
UNIT := $(patsubst tests/unit/%.c,$(O)/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
FUZZ := $(patsubst tests/fuzz/%.c,$(O)/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
EMBED := $(sort $(wildcard lua/ev/*.lua lua/ev/*/*.lua scripts/*.lua scripts/*/*.lua plugins/*.lua))
EMBED := $(filter-out scripts/dev/%,$(EMBED)) scripts/dev/vmmio/vmmio_cmdline.c

.PHONY: all help deps deps-runtime quick test test-unit test-long lint fuzz bench demo ci clean install
all: $(LIB) $(if $(wildcard core/main.c),$(BIN)) $(if $(wildcard scripts/dev/runtime.lua),$(RUNTIME))

help:
	@echo 'make            build $(BIN) and the runtime ramdisk'
	@echo 'make demo       install what is missing, build, run the example cage, show its attested answer'
	@echo '                LAUNCHER=qemu boots it for real, in a machine of QEMU'
	@echo 'make test       install what is missing, run every test (sanitizers, fuzz corpus, layers too)'
	@echo 'make quick      unit and Lua tests only, under a minute'
	@echo 'make test-long  the slow ones: a fresh machine, a real kernel in QEMU'
	@echo 'make bench      figures as ratios to peers in the same run'
	@echo 'make lint       layer check, compiler warnings, luacheck, style'
	@echo 'make fuzz       each fuzz target for FUZZ_SECONDS (20)'
	@echo 'make install    PREFIX=/usr/local'
	@echo 'make clean'

deps:
	@EV_THIRD_PARTY=$(THIRD) scripts/dev/deps.sh
deps-runtime:
	@EV_THIRD_PARTY=$(THIRD) scripts/dev/deps.sh --runtime

$(THIRD)/llhttp/llhttp.h:
	@EV_THIRD_PARTY=$(THIRD) scripts/dev/deps.sh --runtime

$(O)/obj/%.o: core/%.c | $(THIRD)/llhttp/llhttp.h
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Third-party C, built with its own warnings off.
$(O)/obj/third/llhttp.o: $(THIRD)/llhttp/llhttp.h
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -O2 $(HARDEN) $(CFLAGS) $(DEBUG_PREFIX) -DLLHTTP_STRICT_MODE=1 -w -I$(THIRD)/llhttp -c $(THIRD)/llhttp/llhttp.c -o $@
$(O)/obj/third/llhttp_api.o: $(THIRD)/llhttp/llhttp.h
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -O2 $(HARDEN) $(CFLAGS) $(DEBUG_PREFIX) -DLLHTTP_STRICT_MODE=1 -w -I$(THIRD)/llhttp -c $(THIRD)/llhttp/api.c -o $@
$(O)/obj/third/llhttp_http.o: $(THIRD)/llhttp/llhttp.h
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -O2 $(HARDEN) $(CFLAGS) $(DEBUG_PREFIX) -DLLHTTP_STRICT_MODE=1 -w -I$(THIRD)/llhttp -c $(THIRD)/llhttp/http.c -o $@

# Scripts, library and plugins as text in one C array, sorted by name.
$(O)/gen/embed_data.c: scripts/dev/embed.lua $(EMBED)
	@mkdir -p $(@D)
	$(call say,EMBED,$(words $(EMBED)) files)
	$(Q)lua5.4 scripts/dev/embed.lua $@ $(EMBED)
$(O)/obj/gen/embed_data.o: $(O)/gen/embed_data.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(LIB): $(OBJ)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcsD $@ $(OBJ)

$(BIN): $(O)/obj/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $(O)/obj/main.o $(LIB) $(PKG_LIBS) -o $@

# Ramdisk 1: the binary as /init, without debug information, and the shared libraries it needs.
$(RUNTIME): $(BIN) scripts/dev/runtime.lua
	$(call say,CPIO,$@)
	$(Q)strip --strip-all -o $(O)/init $(BIN)
	$(Q)$(BIN) run scripts/dev/runtime.lua $(O)/init $@

$(O)/unit/%: tests/unit/%.c $(LIB) $(wildcard tests/lib/*.h)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/lib -MMD -MP $(LDFLAGS) $< $(LIB) $(PKG_LIBS) -o $@

# Replays the corpus through the same function that the fuzzer calls.
$(O)/fuzz/%: tests/fuzz/%.c tests/lib/fuzz_replay.c tests/lib/fuzz.h $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/lib $(LDFLAGS) $< tests/lib/fuzz_replay.c $(LIB) $(PKG_LIBS) -o $@

$(O)/bench/%: tests/bench/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/lib $(LDFLAGS) $< $(LIB) $(PKG_LIBS) -o $@

# Compilers at once.
JOBS = -j$(shell nproc)

unit-bins: $(UNIT)
fuzz-bins: $(FUZZ)
.PHONY: unit-bins fuzz-bins

quick: all unit-bins
	@tests/run.sh --build $(O) unit lua

test: deps
	@$(MAKE) --no-print-directory $(JOBS) all unit-bins fuzz-bins
	@$(MAKE) --no-print-directory $(JOBS) SAN=address,undefined all unit-bins fuzz-bins
	@tests/run.sh --build $(B) --san $(B)/san layers unit lua fuzz flow

test-long: deps
	@$(MAKE) --no-print-directory all unit-bins fuzz-bins
	@tests/run.sh --build $(B) --san $(B)/san long

fuzz: deps
	@tests/fuzz/run.sh $(B)

bench: all
	@tests/bench/run.sh $(O)

lint:
	@scripts/dev/lint.sh

LAUNCHER ?= sim
demo: deps-runtime
	@$(MAKE) --no-print-directory $(JOBS) all
	@LAUNCHER=$(LAUNCHER) examples/hello-cage/demo.sh $(B)

ci: lint
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory B=$(B)/clang CC=clang all unit-bins

PREFIX ?= /usr/local
install: all
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/ev-cage
	install -D -m 0644 $(RUNTIME) $(DESTDIR)$(PREFIX)/lib/ev-cage/runtime.cpio

clean:
	rm -rf $(B)

-include $(OBJ:.o=.d) $(UNIT:=.d) $(O)/obj/main.d
