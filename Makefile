SHELL := /bin/bash
# The only entry point. `make` alone says what there is.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# No clock is right that is before it.
COMMIT    = $(shell git log -1 --format=%ct 2>/dev/null)
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
BUILD     = build
GALVO     = $(BUILD)/galvo
ARGS     ?=
BOARD    ?=
# With this key updates are signed; images trust its public part. The one for development is made at the first build.
KEY      ?= $(BUILD)/keys/development
# The owner's key and certificate for Secure Boot, both PEM.
SIGN_KEY  ?=
SIGN_CERT ?=
# Once this firmware was confirmed, devices take none below that version.
MINIMUM  ?= 0.0
# Firmware versions are numbers that rise, so that a device can compare them.
FIRMWARE ?= $(shell { git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-\([0-9]*\)-g/-\1.g/'; } | grep . || \
	echo 0.0.$$(git rev-list --count HEAD 2>/dev/null || echo 0)-g$$(git rev-parse --short=8 HEAD 2>/dev/null || echo none))
export CGO_ENABLED = 0

.PHONY: image vm vmtest test-images kernel-update help run build web test lint bench soak clean tools
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

build: web ## build the one binary, build/galvo
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(GALVO) ./services/galvo

run: build ## run the product on this host; ARGS="-interface eth1" names what to capture
	./$(GALVO) run -state $(BUILD)/state $(ARGS)

# The two binaries of the images.
$(BUILD)/galvo-%: web FORCE
	GOOS=linux GOARCH=$* $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(FIRMWARE) -X main.commit=$(COMMIT)' -o $@ ./services/galvo
FORCE:

$(BUILD)/keys/development.pub:
	$(GO) run ./services/galvo firmware keygen -plain $(BUILD)/keys/development

image: $(BUILD)/galvo-amd64 $(BUILD)/galvo-arm64 $(KEY).pub ## build the flashable images; BOARD="qemu-amd64 ..." names some
	$(GO) run ./firmware/mkimage -version '$(FIRMWARE)' -galvo $(BUILD)/galvo- -out $(BUILD)/image -board '$(BOARD)' -minimum '$(MINIMUM)' -key $(KEY) -sign-key '$(SIGN_KEY)' -sign-cert '$(SIGN_CERT)'

vm: tools ## boot an image in QEMU and print its URL; BOARD=generic-amd64 takes another one
	$(MAKE) --no-print-directory image BOARD=$(or $(BOARD),qemu-amd64)
	$(GO) run ./qemu/vm -board $(or $(BOARD),qemu-amd64) -images $(BUILD)/image -dir $(BUILD)/vm

# What tests boot.
test-images: tools
	$(MAKE) --no-print-directory image BOARD='qemu-amd64 qemu-arm64'

vmtest: tools image ## the sweeps that boot virtual machines
	$(GO) test -count=1 -tags vmtest -timeout 4h -p 1 ./qemu ./firmware/... ./services/internal/ring

kernel-update: ## take the newest kernel, boot loader and tools of Debian into the lock file
	$(GO) run ./firmware/mkimage -update firmware/lock/debian.toml

web: webui/bundle/index.html ## bundle the page

webui/bundle/index.html: webui/app/package-lock.json $(shell find webui/app -name node_modules -prune -o -type f -print 2>/dev/null)
	cd webui/app && npm ci --no-audit --no-fund --loglevel=error --fetch-retries=5 && npm run --silent build

# The product as a whole is tested alone: it has to answer in time.
test: tools web lint ## everything CI runs; ends with a table of skipped tests
	@$(MAKE) --no-print-directory test-images || echo 'no images: what boots them is skipped'
	ci/fuzz
	{ $(GO) test -count=1 -json -timeout 14m $$($(GO) list ./... | grep -v '/ci/live$$\|/ci/page$$\|galvo/qemu$$'); \
	  $(GO) test -count=1 -json -timeout 14m -p 1 ./ci/live ./ci/page ./qemu; } | $(GO) run ./ci/tally

lint: web ## gofmt, go vet, staticcheck, strict TypeScript
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt would change:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags vmtest,soak ./...
	$(GO) tool staticcheck ./...
	cd webui/app && npm run --silent check

tools: ## install what tests and benchmarks need from Debian, if this is root on Debian
	@ci/tools

bench: build test-images ## print the benchmarks
	@ci/tools bench
	$(GO) run ./ci/bench -galvo $(GALVO)
	GALVO_BENCH_DIR=$(CURDIR)/$(BUILD) $(GO) test -run '^$$' -bench Write -benchtime 12000x ./services/internal/ring
	GALVO_BENCH_DIR=$(CURDIR)/$(BUILD) $(GO) test -run '^$$' -bench 'Query|IndexSize' -benchtime 5x -timeout 30m ./services/internal/ring
	$(GO) test -run '^$$' -bench . -benchtime 1x ./qemu

soak: build ## the slow sweeps
	$(GO) test -count=1 -tags soak -timeout 3h ./...

clean: ## remove what make made, but for the key that devices trust
	rm -rf $(filter-out $(BUILD)/keys,$(wildcard $(BUILD)/*)) webui/bundle/* webui/app/node_modules
