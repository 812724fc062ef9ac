"""What a user would write instead of the daemon: confluent-kafka, NumPy and ONNX Runtime, JSON in and out, exactly once.

In: records of numbers as JSON objects in a topic, and a bundle that `onnx_bundle` can express. Out: one JSON envelope a
record, with its key, in a transaction together with the offsets of the records. Reads in batches (`consume`), scores each
batch in one call, and commits every 100 ms, as the daemon does. Runs until it is killed. Its orders are in the environment,
which `cargo bench --bench stream_throughput` sets: BENCH_BROKERS, BENCH_INPUT, BENCH_OUTPUT, BENCH_GROUP, BENCH_BUNDLE.

What is computed: the encoding of the numbers, the surprises of every field in every view on the same weights, and as the
score the mean of the surprises over fields, strata and readings. The bench compares that mean with the library's own.
What is not computed, and the daemon does: calibration (tail probabilities of surprises, p-value, alert), the reasons of an
alert, validation (a wrong record ends this program), metrics, recovery from errors of Kafka (any ends this program).

    python kafka_consumer.py [--batch 512] [--threads 2] [--interval-ms 100]
"""

import argparse
import json
import os
import time

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from onnx_bundle import Bundle, session


def value_at(record, path):
    for name in path:
        record = record[name]
    return record


class Scorer:
    """JSON texts in, the mean surprise of each out."""

    def __init__(self, folder, threads):
        self.bundle = Bundle(folder)
        self.session, _ = session(self.bundle, threads)
        # A flat record is read by name; `value_at` would cost more.
        self.flat = [path[0] for path in self.bundle.paths] if all(len(p) == 1 for p in self.bundle.paths) else None

    def score(self, records):
        if self.flat:
            rows = [[record[name] for name in self.flat] for record in records]
        else:
            rows = [[value_at(record, path) for path in self.bundle.paths] for record in records]
        (surprises,) = self.session.run(None, self.bundle.feed(np.array(rows, np.float64)))
        return self.bundle.mean_surprise(surprises)


def connect(environment):
    servers = environment["BENCH_BROKERS"]
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": environment["BENCH_GROUP"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "transactional.id": environment["BENCH_GROUP"] + ".peer",
            "linger.ms": 2,
            "compression.type": "lz4",
        }
    )
    producer.init_transactions()
    consumer.subscribe([environment["BENCH_INPUT"]])
    return consumer, producer


def envelope(message, record, score, bundle):
    return json.dumps(
        {
            "event_id": value_at(record, bundle.key_path),
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
            "event_time": value_at(record, bundle.time_path),
            "model_id": bundle.model_id,
            "anomaly_score": round(float(score), 6),
        },
        separators=(",", ":"),
    )


def run(scorer, consumer, producer, output, batch, interval):
    positions, begun = {}, None
    while True:
        messages = consumer.consume(batch, timeout=0.01)
        if messages:
            for message in messages:
                if message.error():
                    raise SystemExit(message.error())
            if begun is None:
                producer.begin_transaction()
                begun = time.monotonic()
            records = [json.loads(message.value()) for message in messages]
            for message, record, score in zip(messages, records, scorer.score(records)):
                while True:
                    try:
                        producer.produce(output, envelope(message, record, score, scorer.bundle), message.key())
                        break
                    except BufferError:
                        producer.poll(0.01)
                positions[message.topic(), message.partition()] = message.offset() + 1
            producer.poll(0)
        if begun is not None and time.monotonic() - begun >= interval:
            offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
            producer.commit_transaction()
            positions, begun = {}, None


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--batch", type=int, default=512, help="messages scored in one call, at most")
    arguments.add_argument("--threads", type=int, default=os.cpu_count(), help="of ONNX Runtime, as many as there are cores")
    arguments.add_argument("--interval-ms", type=int, default=100, help="between commits")
    options = arguments.parse_args()
    scorer = Scorer(os.environ["BENCH_BUNDLE"], options.threads)
    consumer, producer = connect(os.environ)
    run(scorer, consumer, producer, os.environ["BENCH_OUTPUT"], options.batch, options.interval_ms / 1000)


if __name__ == "__main__":
    main()
