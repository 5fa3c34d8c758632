# make          lint and tests
# make demo     the main job, shown with OpenSC's and OpenSSL's tools, in a minute
# make quick    vet and the tests that neither start services nor wait, in less than a minute
# make test     all tests; needs no root where the packages are there
GO ?= go
TOOL := $(GO) tool -modfile=.ci/tools/go.mod
FUZZTIME ?= 20s
SESSIONTIME ?= 60s

.PHONY: all check fmt quick test ports install clients languages fuzz bench build demo cover release reproducible packages pipelines accept module ci
.DELETE_ON_ERROR:

all: check test

check:
	$(GO) vet ./...
	$(TOOL) golangci-lint fmt --diff
	$(TOOL) golangci-lint run --allow-parallel-runners
	$(TOOL) staticcheck -checks all ./...
	$(GO) mod tidy -diff
	$(GO) mod verify

fmt:
	$(TOOL) golangci-lint fmt

# Packages whose tests start services or wait for them, and a test that builds everything once more.
SLOW := /(cmd/hsmemu|vsmartcard|vsmartcard/pcscd|keystore/seal|emulator/(store|control|console|browsertest|lesson|portal/(account|service|site)))$$

quick:
	@start=$$(date +%s); set -ex; \
	$(GO) vet ./...; \
	$(GO) test -skip TestModule_GetsAnotherPath $$($(GO) list ./... | grep -Ev '$(SLOW)'); \
	$(GO) test -run TestLayers ./cmd/hsmemu; \
	set +x; echo "quick: $$(($$(date +%s) - start)) s"

test:
	.ci/install test
	.ci/axe
	.ci/test

# Other systems than this one: everything builds there, tests too.
PORTS := windows/amd64 darwin/arm64 freebsd/amd64

ports:
	@set -e; for p in $(PORTS); do \
	echo "ports: $$p"; export CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/}; \
	$(GO) build ./...; $(GO) vet ./...; \
	done

# The scenarios of the private daemon with the programs of newer Debian
# releases, or of those in SUITES.
clients:
	.ci/install clients
	.ci/clients $(SUITES)

languages:
	.ci/install languages
	$(MAKE) build
	.ci/languages

fuzz:
	FUZZTIME=$(FUZZTIME) SESSIONTIME=$(SESSIONTIME) .ci/fuzz

bench:
	.ci/install test
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(MAKE) build
	.ci/bench

build:
	CGO_ENABLED=0 $(GO) build -v -trimpath -o bin/ ./cmd/hsmemu

# The program, its manual pages, completions and unit for systemd: make install PREFIX=/usr DESTDIR=…
PREFIX ?= /usr/local
TO = $(DESTDIR)$(PREFIX)

install: build
	umask 022; set -e; \
	install -d "$(TO)/bin" "$(TO)/share/man/man1" "$(TO)/share/bash-completion/completions" \
		"$(TO)/share/zsh/site-functions" "$(TO)/share/fish/vendor_completions.d" "$(TO)/lib/systemd/user"; \
	install -m 755 bin/hsmemu "$(TO)/bin/hsmemu"; \
	bin/hsmemu man --folder "$(TO)/share/man/man1"; \
	bin/hsmemu completion bash > "$(TO)/share/bash-completion/completions/hsmemu"; \
	bin/hsmemu completion zsh > "$(TO)/share/zsh/site-functions/_hsmemu"; \
	bin/hsmemu completion fish > "$(TO)/share/fish/vendor_completions.d/hsmemu.fish"; \
	sed 's|^ExecStart="/usr/local/|ExecStart="$(PREFIX)/|' docs/hsmemu.service > "$(TO)/lib/systemd/user/hsmemu.service"

demo:
	.ci/install demo
	$(MAKE) build
	.ci/demo

cover:
	.ci/install test
	.ci/axe
	@mkdir -p build
	$(GO) test -coverpkg=./... -coverprofile=build/coverage.out ./...
	$(GO) tool cover -func=build/coverage.out | tail -n 1
	$(GO) tool cover -html=build/coverage.out -o build/coverage.html

# The binaries, packages, images, bills of material and checksums in
# build/release, made twice from separate folders and caches and compared.
release:
	.ci/release build/release

# The same for this machine alone, from a clone, so that changes that are not
# committed do not matter.
reproducible:
	d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && git clone -q . "$$d" && cd "$$d" && \
	PLATFORMS=linux/$$($(GO) env GOARCH) .ci/release "$(CURDIR)/build/release"

# Installs the package for Debian in a fresh root folder, asks lintian, and runs
# the images, all from build/release. Needs root, or sudo.
packages:
	.ci/install packages
	.ci/packages build/release

# What docs/pipelines and the action say, played on this machine as two users.
# Needs root, or sudo.
pipelines:
	.ci/install packages
	$(MAKE) build
	.ci/pipelines

# The acceptance scripts of the folder ACCEPT against cards of this tree.
accept:
	.ci/install test
	$(MAKE) build
	.ci/accept $(ACCEPT)

# Gives the module another path, in go.mod, imports, the linter's settings and
# the documentation: make module MODULE=example.org/you/hsmemu
module:
	@$(GO) run -modfile=.ci/tools/go.mod .ci/module.go "$$MODULE"

ci:
	.ci/run
