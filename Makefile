# The commands that do everything, on a Debian machine with Rust:
#
#   make demo [ARGS="--seconds 60"]   builds the release binary and runs the whole loop
#   make install [PREFIX=folder]      builds it and copies it to PREFIX/bin, ~/.local/bin by default
#   make test                         formatting, lints, alert rules, and every test
#
# one that takes brokers and instances away for as long as you like, and counts at the end (CONTRIBUTING.md):
#
#   make chaos [SEED=1] [SECONDS=300]     on three Kafka brokers of its own; fails if any count is not 0
#
# two that measure detection quality over a folder of labelled Parquet files (docs/reference/benchmark.md):
#
#   make quality DATA=folder [ARGS=...]   everything; hours, and goes on where it was interrupted
#   make quality-quick DATA=folder        a few sets and one seed; minutes
#
# those that measure what a user would write instead (benches/peers), beside the project or alone (docs/performance.md):
#
#   make bench-peers BUNDLE=folder [DATA=file.parquet]                 the next two, and the third with DATA; without ARGS
#   make bench-peers-scoring BUNDLE=folder [ARGS="--batches 1,32"]     scoring alone, on a bundle of numeric fields
#   make bench-peers-training BUNDLE=folder [ARGS="--profile"]         PyTorch training of the bundle's model
#   make bench-peers-pyod DATA=file.parquet [ARGS="--drop Time"]       PyOD's AutoEncoder on a file with labels
#   make bench-stream [ARGS="--model fast"]                            the stream on Kafka, JSON in and out, exactly once
#
# and one that measures how long a record takes through the stream, at a fixed rate:
#
#   make bench-latency [ARGS="--rate 2000"]
#
# bench-peers-training and bench-peers-pyod install PyTorch, which takes 6 GB of disk.
# All first install what the machine lacks (tests/setup.sh says what, and what of it needs root).

CARGO ?= cargo
ARGS ?=
DATA ?=
BUNDLE ?=
PREFIX ?= $(HOME)/.local

# promtool is unpacked here where the machine has none of its own (tests/setup.sh).
export PATH := $(PATH):$(CURDIR)/target/tools

.PHONY: build demo install test chaos setup-test format-check lint rules quality quality-quick need-data need-bundle \
        bench-peers bench-peers-scoring bench-peers-training bench-peers-pyod bench-stream bench-latency clean

build:
	tests/setup.sh build
	tests/sign_of_life.sh "make: compiling (the last crate, maskwatch, takes some minutes)" \
	  $(CARGO) build --release --locked

# What the demonstration makes stays in target/demo, unless ARGS names another folder.
demo: build
	target/release/maskwatch demo --out target/demo $(ARGS)

install: build
	install -D -m 755 target/release/maskwatch "$(PREFIX)/bin/maskwatch"
	@echo "installed: $(PREFIX)/bin/maskwatch"
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) \
	  echo "$(PREFIX)/bin is not on the PATH; this puts it there: export PATH=\"$(PREFIX)/bin:\$$PATH\"" ;; esac

# The cheap checks come first. cargo test comes last: its `test result:` lines close the output.
test: setup-test
	$(MAKE) --no-print-directory format-check
	$(MAKE) --no-print-directory rules
	$(MAKE) --no-print-directory lint
	$(CARGO) test --locked --workspace

# Without a seed it is one that nobody has tried; the run prints it.
SEED ?= $(shell date +%s)
SECONDS ?= 300

chaos: setup-test
	MASKWATCH_CHAOS_SEED=$(SEED) MASKWATCH_CHAOS_SECONDS=$(SECONDS) \
	  $(CARGO) test --locked --test integration chaos:: -- --nocapture --test-threads 1

setup-test:
	tests/setup.sh test

format-check:
	$(CARGO) fmt --all --check

# Default features only: `vendored` would build OpenSSL from source and lint the same code twice.
lint:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

rules:
	promtool check config config/prometheus/prometheus.yml
	promtool check rules config/prometheus/alerts.yml
	promtool test rules config/prometheus/tests.yml

quality: need-data
	tests/setup.sh build
	$(CARGO) run --locked --release -p maskwatch-quality -- --data "$(DATA)" --write docs/results.md $(ARGS)

quality-quick: need-data
	tests/setup.sh build
	$(CARGO) run --locked --release -p maskwatch-quality -- --data "$(DATA)" --quick $(ARGS)

need-data:
	@test -d "$(DATA)" || { \
	  echo "DATA=\"$(DATA)\" is no folder: name one with labelled Parquet files, as in make quality DATA=/path/to/sets;" \
	       "docs/reference/benchmark.md says which are known" >&2; exit 2; }

# The environment is made once, and again when the pinned versions change; PyTorch comes into it when it is first needed.
# Needs Python 3.11 or later with its venv module, and PyTorch's compiled variant a C++ compiler.
PEERS ?= target/peers

$(PEERS)/.installed: benches/peers/requirements.txt
	python3 -m venv "$(PEERS)"
	"$(PEERS)/bin/pip" install --quiet --requirement benches/peers/requirements.txt
	touch $@

$(PEERS)/.torch: benches/peers/requirements-torch.txt $(PEERS)/.installed
	"$(PEERS)/bin/pip" install --quiet --requirement benches/peers/requirements-torch.txt
	touch $@

# One after the other whatever -j says: they are measurements.
bench-peers: need-bundle
	$(MAKE) --no-print-directory bench-peers-scoring ARGS=
	$(MAKE) --no-print-directory bench-peers-training ARGS=
	$(if $(DATA),$(MAKE) --no-print-directory bench-peers-pyod ARGS=)

bench-peers-scoring: need-bundle $(PEERS)/.installed
	"$(PEERS)/bin/python" benches/peers/onnx_scoring.py "$(BUNDLE)" $(ARGS)

bench-peers-training: need-bundle $(PEERS)/.torch
	"$(PEERS)/bin/python" benches/peers/torch_training.py "$(BUNDLE)" --threads 1 $(ARGS)
	"$(PEERS)/bin/python" benches/peers/torch_training.py "$(BUNDLE)" --threads 2 $(ARGS)

bench-peers-pyod: $(PEERS)/.torch
	@test -f "$(DATA)" || { echo "DATA=\"$(DATA)\" is no file: name a Parquet file of numbers with a column label" >&2; exit 2; }
	"$(PEERS)/bin/python" benches/peers/pyod_autoencoder.py "$(DATA)" $(ARGS)

need-bundle:
	@test -d "$(BUNDLE)" || { echo "BUNDLE=\"$(BUNDLE)\" is no folder: name a bundle that maskwatch train wrote" >&2; exit 2; }

bench-stream: setup-test $(PEERS)/.installed
	$(CARGO) bench --locked --bench stream_throughput -- --data numbers \
	  --peer "$(PEERS)/bin/python benches/peers/kafka_consumer.py" $(ARGS)

bench-latency: setup-test
	$(CARGO) bench --locked --bench stream_latency -- $(ARGS)

clean:
	$(CARGO) clean
	rm -rf tests/kafka/target
