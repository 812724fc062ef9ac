//! Records that flow into a topic at a steady rate until they are told not to.
//!
//! In: JSON records, taken over and over. Out: how many the brokers have acknowledged. Invariants:
//! record r lies in partition r mod P at offset r div P, whatever happens to brokers; each is written
//! once.

use super::arena::{Arena, PARTITIONS};
use super::counts::Place;
use crate::serve::material::Record;
use maskwatch_testing::kafka_topics::{InputRecord, base_record};
use maskwatch_testing::poll_until;
use rdkafka::ClientContext;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records a tick.
const CHUNK: usize = 15;

/// Time between ticks: 300 records a second, so that every transaction of the daemon holds some.
const TICK: Duration = Duration::from_millis(50);

/// A broker that is away holds records back until the cluster has given it up.
const PATIENCE: Duration = Duration::from_secs(180);

/// Every so many records one is no JSON.
const BAD_EVERY: usize = 97;

/// What a bad record holds.
const BAD: &[u8] = b"{\"amount\": 1";

/// Whether record `number` is one that cannot be scored.
pub fn is_bad(number: usize) -> bool {
    number % BAD_EVERY == BAD_EVERY / 2
}

/// Where record `number` lies.
pub fn place_of(number: usize) -> Place {
    let partitions = PARTITIONS as usize;
    ((number % partitions) as i32, (number / partitions) as i64)
}

/// The number of the record that lies there.
pub fn number_at((partition, offset): Place) -> usize {
    offset as usize * PARTITIONS as usize + partition as usize
}

/// The key of the records of an input partition: all their outputs lie in one partition, so that
/// their order shows.
pub fn key_of(partition: i32) -> String {
    format!("partition-{partition}")
}

#[derive(Default)]
struct Shared {
    flows: AtomicBool,
    ends: AtomicBool,
    sent: AtomicUsize,
    acknowledged: AtomicUsize,
    /// The first refusal; nothing of the run can be believed after one.
    refusal: Mutex<Option<String>>,
}

struct Acknowledgements(Arc<Shared>);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.0.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Err((error, _)) => {
                *self.0.refusal.lock().unwrap() = Some(error.to_string());
            }
        }
    }
}

/// A thread that produces.
pub struct Feeder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// A feeder that waits to be told to flow.
    pub fn new(arena: &Arena, records: &[Record]) -> Self {
        let shared = Arc::new(Shared::default());
        let producer: BaseProducer<Acknowledgements> = arena
            .clients
            .producer_config()
            // No record is given up: the numbers of those behind it would be wrong.
            .set("message.timeout.ms", "0")
            .create_with_context(Acknowledgements(Arc::clone(&shared)))
            .unwrap();
        let topic = arena.input.clone();
        let payloads: Vec<Vec<u8>> = records.iter().map(|record| record.json.clone()).collect();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || feed(&producer, &topic, &payloads, &shared))
        };
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Lets records flow.
    pub fn flow(&self) {
        self.shared.flows.store(true, Ordering::SeqCst);
    }

    /// Stops them, waits until all that were sent are acknowledged, and tells how many they are.
    #[track_caller]
    pub fn pause(&self) -> usize {
        self.shared.flows.store(false, Ordering::SeqCst);
        // The tick that has begun still ends.
        std::thread::sleep(TICK * 2);
        let settled = poll_until(PATIENCE, || {
            let sent = self.shared.sent.load(Ordering::SeqCst);
            (self.acknowledged() == sent).then_some(sent)
        });
        settled.unwrap_or_else(|| {
            panic!(
                "the cluster has taken {} of {} records",
                self.acknowledged(),
                self.shared.sent.load(Ordering::SeqCst)
            )
        })
    }

    /// How many records the brokers have acknowledged.
    #[track_caller]
    pub fn acknowledged(&self) -> usize {
        if let Some(refusal) = self.shared.refusal.lock().unwrap().as_ref() {
            panic!("the cluster has refused an input record: {refusal}");
        }
        self.shared.acknowledged.load(Ordering::SeqCst)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A test that fails is not to wait for a cluster that it has left broken.
            let _ = thread.join();
        }
    }
}

fn feed(
    producer: &BaseProducer<Acknowledgements>,
    topic: &str,
    payloads: &[Vec<u8>],
    shared: &Shared,
) {
    while !shared.ends.load(Ordering::SeqCst) {
        if shared.flows.load(Ordering::SeqCst) {
            for _ in 0..CHUNK {
                let number = shared.sent.load(Ordering::SeqCst);
                let payload = match is_bad(number) {
                    true => BAD,
                    false => &payloads[number % payloads.len()],
                };
                let (partition, _) = place_of(number);
                let record = InputRecord::of(payload)
                    .key(key_of(partition))
                    .partition(partition);
                // A full queue (100,000 records) is minutes of a cluster away: the rest of the tick is left out.
                if producer.send(base_record(topic, &record)).is_err() {
                    break;
                }
                shared.sent.store(number + 1, Ordering::SeqCst);
            }
        }
        producer.poll(TICK);
        std::thread::sleep(TICK);
    }
}
