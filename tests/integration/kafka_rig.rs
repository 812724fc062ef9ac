//! The rig itself: that the broker is a real one (transactions hide, fence and release), that what
//! is produced comes back as it was, and that the helpers fail when they should.
//!
//! librdkafka's in-process broker takes every transactional call and carries none out. The tests of
//! transactions here show that this one does, which lets those of exactly-once delivery be believed.

use crate::support::start_daemon;
use maskwatch_testing::daemon::{Daemon, http_get, metric};
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, TopicSpec, base_record};
use maskwatch_testing::{free_ports, poll_until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn transactional_producer(broker: &Broker, transactional_id: &str) -> BaseProducer {
    let mut config = broker.producer_config();
    config.set("transactional.id", transactional_id);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &str, payload: &str) {
    let record = InputRecord::of(payload);
    producer
        .send(base_record(topic, &record))
        .map_err(|(error, _)| error)
        .unwrap();
}

fn payloads(broker: &Broker, topic: &str, isolation: Isolation) -> Vec<String> {
    let records = broker.read_to_end(topic, isolation, PATIENCE);
    records
        .iter()
        .map(|record| record.text().to_owned())
        .collect()
}

#[test]
fn a_broker_of_ours_is_told_by_its_process() {
    let pid = Broker::shared().pid();
    let named = std::env::var_os("MASKWATCH_TEST_BROKERS").is_some_and(|names| !names.is_empty());
    assert_eq!(pid.is_none(), named);
    if let Some(pid) = pid {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(command.contains("kafka.Kafka"), "{command}");
    }
}

#[test]
fn a_record_comes_back_as_it_was_produced() {
    let broker = Broker::shared();
    let topic = broker.new_topic("round-trip", 2);
    let input = InputRecord::of("payload")
        .key("key")
        .partition(1)
        .header("one", "1");
    broker.produce(&topic, &[input.clone().header("two", "2"), input.clone()]);

    let output = broker.read_to_end(&topic, Isolation::ReadCommitted, PATIENCE);

    assert_eq!(output.len(), 2);
    assert_eq!(
        output[0].headers,
        [
            (b"one".to_vec(), Some(b"1".to_vec())),
            (b"two".to_vec(), Some(b"2".to_vec()))
        ]
    );
    assert_eq!(output[1].header("one"), Some(b"1".as_slice()));
    assert_eq!(output[1].header("two"), None);
    for (offset, record) in (0..).zip(&output) {
        assert_eq!((record.partition, record.offset), (1, offset));
        assert_eq!(
            (record.key.as_deref(), record.text()),
            (Some(b"key".as_slice()), "payload")
        );
        assert!(record.timestamp_ms.is_some());
    }
}

#[test]
fn a_tombstone_and_an_empty_payload_stay_apart() {
    let broker = Broker::shared();
    let topic = broker.new_topic("nothing", 1);
    broker.produce(
        &topic,
        &[InputRecord::tombstone().key("k"), InputRecord::of("")],
    );

    let output = broker.read_to_end(&topic, Isolation::ReadCommitted, PATIENCE);

    assert_eq!(
        (output[0].payload.as_deref(), output[1].payload.as_deref()),
        (None, Some(&[][..]))
    );
    assert_eq!(
        (output[0].key.as_deref(), output[1].key.as_deref()),
        (Some(&b"k"[..]), None)
    );
}

#[test]
fn a_large_record_fits_only_a_topic_made_for_it() {
    let broker = Broker::shared();
    let (large, ordinary) = (broker.unique_name("large"), broker.unique_name("ordinary"));
    let specs = [
        TopicSpec::new(&large, 1).taking_large_records(),
        TopicSpec::new(&ordinary, 1),
    ];
    broker.create_topics(&specs);
    let record = [InputRecord::of(vec![b'x'; 10 * 1024 * 1024])];

    broker.produce(&large, &record);
    let refused = catch_unwind(AssertUnwindSafe(|| broker.produce(&ordinary, &record)));

    let read = broker.read_to_end(&large, Isolation::ReadCommitted, PATIENCE);
    assert_eq!(read[0].payload, record[0].payload);
    assert!(
        refused.is_err(),
        "the broker took 10 MiB into a topic limited to 1 MiB"
    );
    assert_eq!(
        broker.read_to_end(&ordinary, Isolation::ReadUncommitted, PATIENCE),
        []
    );
}

#[test]
fn an_aborted_transaction_is_invisible_to_read_committed_only() {
    let broker = Broker::shared();
    let topic = broker.new_topic("aborted", 1);
    let producer = transactional_producer(broker, &broker.unique_name("aborts"));
    producer.begin_transaction().unwrap();
    send(&producer, &topic, "aborted");
    // Flushed first: an abort would drop from the queue what has not reached the broker.
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, "committed");
    producer.commit_transaction(PATIENCE).unwrap();

    assert_eq!(
        payloads(broker, &topic, Isolation::ReadCommitted),
        ["committed"]
    );
    assert_eq!(
        payloads(broker, &topic, Isolation::ReadUncommitted),
        ["aborted", "committed"]
    );
}

#[test]
fn an_open_transaction_hides_what_lies_behind_it() {
    let broker = Broker::shared();
    let topic = broker.new_topic("open", 1);
    let producer = transactional_producer(broker, &broker.unique_name("opens"));
    producer.begin_transaction().unwrap();
    send(&producer, &topic, "first");
    producer.flush(PATIENCE).unwrap();
    broker.produce(&topic, &[InputRecord::of("second")]);

    let while_open = payloads(broker, &topic, Isolation::ReadCommitted);
    producer.commit_transaction(PATIENCE).unwrap();

    assert!(
        while_open.is_empty(),
        "read before the commit: {while_open:?}"
    );
    assert_eq!(
        payloads(broker, &topic, Isolation::ReadCommitted),
        ["first", "second"]
    );
}

#[test]
fn a_second_producer_of_the_same_transactional_id_fences_the_first() {
    let broker = Broker::shared();
    let topic = broker.new_topic("fenced", 1);
    let id = broker.unique_name("twins");
    let first = transactional_producer(broker, &id);
    first.begin_transaction().unwrap();
    send(&first, &topic, "of the fenced one");
    first.flush(PATIENCE).unwrap();

    let second = transactional_producer(broker, &id);
    second.begin_transaction().unwrap();
    send(&second, &topic, "of the second");
    second.commit_transaction(PATIENCE).unwrap();

    let Err(KafkaError::Transaction(refusal)) = first.commit_transaction(PATIENCE) else {
        panic!("a fenced producer has committed, or failed for another reason");
    };
    assert!(refusal.is_fatal(), "{refusal}");
    assert_eq!(refusal.code(), RDKafkaErrorCode::Fenced);
    assert_eq!(
        payloads(broker, &topic, Isolation::ReadCommitted),
        ["of the second"]
    );
}

#[test]
fn offsets_of_a_transaction_are_committed_with_it_and_dropped_with_it() {
    let broker = Broker::shared();
    let topic = broker.new_topic("offsets", 2);
    let group = broker.unique_name("group");
    let consumer: BaseConsumer = broker
        .client_config()
        .set("group.id", &group)
        .create()
        .unwrap();
    let producer = transactional_producer(broker, &broker.unique_name("offsets"));
    let end = |offset: i64, commit: bool| {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&topic, 1, Offset::Offset(offset))
            .unwrap();
        let metadata = consumer.group_metadata().unwrap();
        producer.begin_transaction().unwrap();
        producer
            .send_offsets_to_transaction(&offsets, &metadata, PATIENCE)
            .unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
        broker.committed_offsets(&group, &topic)
    };

    assert_eq!(end(7, false), BTreeMap::new());
    assert_eq!(end(8, true), BTreeMap::from([(1, 8)]));
    assert_eq!(end(9, false), BTreeMap::from([(1, 8)]));
}

#[test]
fn committed_offsets_are_those_of_the_group_that_was_asked_for() {
    let broker = Broker::shared();
    let topic = broker.new_topic("groups", 2);
    let (group, other) = (broker.unique_name("group"), broker.unique_name("other"));
    let consumer: BaseConsumer = broker
        .client_config()
        .set("group.id", &group)
        .create()
        .unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topic, 0, Offset::Offset(3))
        .unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();

    assert_eq!(
        broker.committed_offsets(&group, &topic),
        BTreeMap::from([(0, 3)])
    );
    assert_eq!(broker.committed_offsets(&other, &topic), BTreeMap::new());
}

#[test]
fn waiting_for_records_that_do_not_come_ends_and_says_how_many_came() {
    let broker = Broker::shared();
    let topic = broker.new_topic("too-few", 3);
    let records: Vec<_> = (0..3).map(|p| InputRecord::of("x").partition(p)).collect();
    broker.produce(&topic, &records);

    let enough = broker.read_at_least(&topic, Isolation::ReadCommitted, 2, PATIENCE);
    let short = Duration::from_secs(2);
    let too_few = catch_unwind(AssertUnwindSafe(|| {
        broker.read_at_least(&topic, Isolation::ReadCommitted, 4, short);
    }));

    assert_eq!(
        enough.len(),
        3,
        "a read that has enough goes on to the end of every partition"
    );
    let message = *too_few.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("3 of at least 4 records"), "{message}");
}

#[test]
fn a_child_is_asked_to_leave_and_its_log_is_kept() {
    let script = "trap 'echo drained >&2; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = Daemon::start("sh", &["-c", script], &[]);
    child.wait_for_log("ready", PATIENCE);
    assert!(child.is_running());

    child.terminate();

    assert_eq!(child.wait(PATIENCE).code(), Some(3));
    assert_eq!(child.log(), "ready\ndrained\n");
}

#[test]
fn a_child_that_does_not_leave_is_reported_and_can_be_killed() {
    let script = "trap '' TERM; echo deaf; exec sleep 600";
    let mut child = Daemon::start("sh", &["-c", script], &[]);
    child.wait_for_log("deaf", PATIENCE);
    child.terminate();

    let overdue = catch_unwind(AssertUnwindSafe(|| child.wait(Duration::from_millis(200))));
    assert!(overdue.is_err());
    child.kill();
    assert_eq!(child.wait(PATIENCE).signal(), Some(9));
}

#[test]
fn a_child_gets_its_environment_and_goes_with_its_owner() {
    let script = "echo \"word=$WORD\"; exec sleep 600";
    let mut child = Daemon::start("sh", &["-c", script], &[("WORD", "salt")]);
    child.wait_for_log("word=salt", PATIENCE);
    let process = format!("/proc/{}", child.pid());

    drop(child);

    assert!(!std::path::Path::new(&process).exists());
}

#[test]
fn the_daemon_is_this_builds_binary() {
    let mut daemon = start_daemon(&["--version"], &[]);
    let status = daemon.wait(PATIENCE);
    assert!(status.success(), "{status}: {}", daemon.log());
    assert_eq!(
        daemon.log().trim(),
        concat!("maskwatch ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn an_http_answer_of_any_status_is_an_answer_and_silence_is_not() {
    let [unused] = free_ports();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // One read takes the whole request: it is shorter than a segment.
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate";
        stream.write_all(answer.as_bytes()).unwrap();
    });

    assert_eq!(http_get(&url), Ok((503, "late".to_owned())));
    server.join().unwrap();
    assert!(http_get(&format!("http://127.0.0.1:{unused}/metrics")).is_err());
}

#[test]
fn an_endpoint_that_is_ready_later_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n");
            stream
                .write_all(format!("{head}\r\nok").as_bytes())
                .unwrap();
        }
    });
    let mut child = Daemon::start("sleep", &["600"], &[]);

    assert_eq!(child.wait_for_http(&url, PATIENCE), "ok");
    server.join().unwrap();
}

#[test]
fn a_metric_is_found_by_its_whole_name() {
    let text = "# TYPE a counter\na_total{k=\"v w\"} 3\na_total{k=\"x\"} 4.5\nb 1e-05\n";
    assert_eq!(metric(text, "a_total{k=\"v w\"}"), Some(3.0));
    assert_eq!(metric(text, "b"), Some(1e-5));
    assert_eq!(metric(text, "a_total"), None);
}

#[test]
fn polling_looks_at_least_once_and_gives_up_in_time() {
    assert_eq!(poll_until(Duration::ZERO, || Some(1)), Some(1));
    let mut looks = 0;
    let found = poll_until(Duration::from_millis(50), || {
        looks += 1;
        None::<()>
    });
    assert!(found.is_none() && looks >= 2, "{looks} looks");
}
