#!/usr/bin/env bash
#
# Installs what building or testing maskwatch needs and this machine lacks, and nothing else.
#
#   tests/setup.sh build   what `make build` and `make demo` need: a C and C++ compiler, make,
#                          pkg-config and the headers of OpenSSL and zlib (librdkafka is built from
#                          source)
#   tests/setup.sh test    that, and a Java runtime, Maven, openssl, promtool, and Apache Kafka's jars
#
# Every need is probed first. With nothing missing the script only looks, in well under a second,
# and asks no package server. What is missing comes from Debian packages, all of a step in one
# command, which takes root: as root apt-get runs as it is, else through `sudo -n` (which never waits
# for a password). Where neither may, the script says once which command an administrator has to run,
# and fails. It says that something is there only after it has looked again.
#
# Two needs take no root and stay inside the checkout: Apache Kafka (tests/kafka/target/jars) and
# promtool (target/tools). promtool ships in Debian's `prometheus` package, whose installation adds
# a user and starts a server; unpacking the one file leaves the machine as it was.

set -euo pipefail

readonly JAVA_VERSION_MIN=17
readonly MAVEN_TIMEOUT_S=600

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root
readonly tools="$root/target/tools"
readonly jars="$root/tests/kafka/target/jars"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

may_be_root() { [ "$(id -u)" -eq 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }

# The variable is passed by `env`, as sudo drops the caller's environment.
apt_as_root() {
    local command=(env DEBIAN_FRONTEND=noninteractive apt-get -q "$@")
    [ "$(id -u)" -eq 0 ] || command=(sudo -n "${command[@]}")
    "${command[@]}" >&2
}

# The Debian packages that are missing, in the order of the probes.
missing=()

# Installs all that the probes, the functions named, find missing: one command, or one request to
# whoever may run it. Looks again afterwards.
install_missing() {
    local probe
    missing=()
    for probe in "$@"; do "$probe"; done
    [ "${#missing[@]}" -gt 0 ] || return 0
    have apt-get || fail "missing, and apt-get is not on this machine: please install by its own" \
                         "means what Debian has in the packages: ${missing[*]}"
    may_be_root || fail "missing, and neither this user nor 'sudo -n' may install packages. Please" \
                        "have this run as root, then try again: apt-get update && apt-get install" \
                        "--yes --no-install-recommends ${missing[*]}"
    say "missing, now installing with apt-get: ${missing[*]}"
    apt_as_root update
    apt_as_root install --yes --no-install-recommends "${missing[@]}"
    missing=()
    for probe in "$@"; do "$probe"; done
    [ "${#missing[@]}" -eq 0 ] || fail "still missing after apt-get: ${missing[*]}"
}

# Rust is presupposed: a toolchain is the user's choice. Only its two components are added.
need_rust() {
    have cargo || fail "cargo is not on the PATH: please install Rust (https://rustup.rs)"
    local wanted found
    wanted="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")"
    found="$(cargo --version | cut -d' ' -f2)"
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
        fail "Rust $wanted or newer is needed, found $found: please run 'rustup update stable'"
    fi
}

need_rust_component() {
    local program="$1" component="$2"
    "$program" --version >/dev/null 2>&1 && return
    have rustup || fail "$component is missing, and there is no rustup to add it with"
    say "adding the Rust component $component (no root needed)"
    rustup component add "$component" >&2
}

probe_build_packages() {
    have cc || missing+=(gcc libc6-dev)
    have c++ || missing+=(g++)
    have make || missing+=(make)
    have pkg-config || missing+=(pkg-config)
    # A header is looked for through the compiler, as it may lie outside /usr/include.
    has_header openssl/ssl.h || missing+=(libssl-dev)
    has_header zlib.h || missing+=(zlib1g-dev)
}

has_header() { have cc && echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1; }

# Prints the major version of the Java on the PATH, or 0.
java_version() {
    { java -version 2>&1 || true; } | sed -n 's/.* version "\([0-9]*\).*/\1/p' | grep . || echo 0
}

probe_test_packages() {
    [ "$(java_version)" -ge "$JAVA_VERSION_MIN" ] || missing+=(default-jre-headless)
    have mvn || missing+=(maven)
    have openssl || missing+=(openssl)
}

# Debian's newest Java may be older than what is needed, or another one be first on the PATH.
need_java() {
    [ "$(java_version)" -ge "$JAVA_VERSION_MIN" ] ||
        fail "Java $JAVA_VERSION_MIN or newer is needed, found $(java_version):" \
             "please put a newer 'java' first on the PATH"
}

need_promtool() {
    { have promtool || [ -x "$tools/promtool" ]; } && return
    have apt-get || fail "promtool is missing: please install Prometheus's tools"
    say "unpacking promtool from Debian's prometheus package into target/tools (no root needed)"
    local scratch="$tools/scratch"
    rm -rf "$scratch"
    mkdir -p "$scratch"
    # Where the download fails, the package lists may be absent or old; fetching them takes root.
    if ! download_prometheus "$scratch"; then
        may_be_root || fail "apt-get cannot download package 'prometheus', most likely as it has no" \
                            "package lists. Please have this run as root, then try again: apt-get update"
        apt_as_root update
        download_prometheus "$scratch" || fail "apt-get could not download package 'prometheus'"
    fi
    dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar -x -C "$scratch" ./usr/bin/promtool
    mv "$scratch/usr/bin/promtool" "$tools/promtool"
    rm -rf "$scratch"
}

# Downloading a package into a folder of one's own takes no root, only package lists.
download_prometheus() { (cd "$1" && apt-get -q download prometheus >&2); }

# The jars carry a copy of the pom that they came from: a changed pom fetches them anew.
need_kafka_jars() {
    local pom="$root/tests/kafka/pom.xml"
    cmp -s "$pom" "$jars/pom.xml" && return
    say "fetching Apache Kafka's jars through Maven into tests/kafka/target/jars"
    rm -rf "$jars"
    timeout "$MAVEN_TIMEOUT_S" mvn -B -q -f "$pom" dependency:copy-dependencies </dev/null >&2 ||
        fail "Maven could not fetch Apache Kafka (see above): the integration tests need it," \
             "unless MASKWATCH_TEST_BROKERS names a running cluster"
    cp "$pom" "$jars/pom.xml"
}

case "${1:-}" in
    build)
        need_rust
        install_missing probe_build_packages
        ;;
    test)
        need_rust
        install_missing probe_build_packages probe_test_packages
        need_java
        need_rust_component cargo-fmt rustfmt
        need_rust_component cargo-clippy clippy
        need_promtool
        need_kafka_jars
        ;;
    *)
        fail "usage: tests/setup.sh build|test"
        ;;
esac
