//! The daemon's own consumer and producer with nothing between them: what Kafka alone costs a record.
//!
//! Topics flow in; records read, outputs committed with offsets, and the time of each commit flow out. The invariant: what
//! is set for the clients, and the calls that are made, are those of `maskwatch::kafka`, exactly once.

use super::support::stream_instance::check;
use super::{PARTITIONS, PATIENCE, Topics};
use maskwatch::delivery::calls::BoundedCalls;
use maskwatch::delivery::refusal::SendOptions;
use maskwatch::delivery::sink::{Connector, Sink};
use maskwatch::delivery::source::{Polled, Source};
use maskwatch::kafka::KafkaConnector;
use maskwatch::pipeline::message::MessageBatch;
use maskwatch::pipeline::output::OutputRecord;
use maskwatch::pipeline::types::{Offset, Partition, Positions, Topic, TopicPartition};
use std::time::{Duration, Instant};

/// A session's two ends.
pub struct Ends {
    // As in a session, the sink goes first.
    sink: <KafkaConnector as Connector>::Sink,
    source: <KafkaConnector as Connector>::Source,
    input: String,
    output: Topic,
    /// Outputs of the open transaction, and of all.
    tickets: usize,
    sent: i64,
}

impl Ends {
    /// Joins the group of `topics` and waits for its partitions.
    pub fn open(topics: &Topics) -> Self {
        let config = check(&format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngroup_id = \"{}\"\ninstance_id = \"bench\"\n\
             input_topics = [\"{}\"]\nscores_topic = \"{}\"\n",
            topics.broker.bootstrap_servers(),
            topics.group,
            topics.input,
            topics.scores,
        ));
        let options = SendOptions {
            alone: false,
            batch_bytes_max: None,
        };
        let mut connector =
            KafkaConnector::new(&config.kafka, &config.delivery, BoundedCalls::default()).unwrap();
        let (source, sink) = connector.open(options).unwrap();
        let mut ends = Self {
            sink,
            source,
            input: topics.input.clone(),
            output: Topic::new(&topics.scores),
            tickets: 0,
            sent: 0,
        };
        let deadline = Instant::now() + PATIENCE;
        let mut nothing = MessageBatch::new(0);
        loop {
            match ends.source.poll(Duration::from_millis(50), &mut nothing) {
                Ok(Polled::Assigned(_)) => return ends,
                other => assert!(Instant::now() < deadline, "no partitions: {other:?}"),
            }
        }
    }

    /// Reads `records` messages into batches of `rows` and does nothing with them; tells how long that took from the first.
    pub fn read(&mut self, records: usize, rows: usize) -> Duration {
        let deadline = Instant::now() + PATIENCE;
        let (mut read, mut begin) = (0, None);
        let mut batch = MessageBatch::new(usize::MAX);
        while read < records {
            match self.source.poll(Duration::from_millis(50), &mut batch) {
                Ok(Polled::Message) => {
                    begin.get_or_insert_with(Instant::now);
                    read += 1;
                }
                Ok(_) => assert!(Instant::now() < deadline, "{read} of {records} read"),
                Err(fault) => panic!("{fault}"),
            }
            if batch.len() == rows {
                batch = MessageBatch::new(usize::MAX);
            }
        }
        begin.map_or(Duration::ZERO, |begin: Instant| begin.elapsed())
    }

    /// Hands over one output.
    pub fn send(&mut self, key: &[u8], payload: &[u8]) {
        let record = OutputRecord {
            topic: &self.output,
            key: Some(key.into()),
            payload,
            headers: Vec::new(),
        };
        self.sink.send(&record, self.tickets).unwrap();
        self.tickets += 1;
        self.sent += 1;
    }

    /// Commits what was handed over, with the offsets of as many records, and tells how long that took.
    pub fn commit(&mut self) -> Duration {
        let mut positions = Positions::default();
        for partition in 0..PARTITIONS {
            let of = TopicPartition::new(&self.input, Partition(partition));
            positions.advance(&of, Offset(self.sent / i64::from(PARTITIONS)));
        }
        let begin = Instant::now();
        self.sink.commit(&positions, PATIENCE).unwrap();
        self.tickets = 0;
        begin.elapsed()
    }
}
