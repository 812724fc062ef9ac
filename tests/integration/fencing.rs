//! Instances that are fenced on real Apache Kafka: by a twin that lives, and by somebody of the same
//! name who comes and goes. The first ends one of the two, the second ends nobody.

use std::time::Duration;

use maskwatch::delivery::fault::{Evidence, StreamError};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};

use crate::exactly_once::{Setting, everywhere};
use crate::support::stream_instance::StreamInstance;
use maskwatch_testing::daemon::metric;
use maskwatch_testing::poll_until;

const PATIENCE: Duration = Duration::from_secs(90);

fn times_fenced(instance: &StreamInstance) -> f64 {
    let series = "maskwatch_sessions_failed_total{reason=\"fenced\"}";
    metric(&instance.metrics(), series).unwrap_or(0.0)
}

/// Takes the transactional id of an instance, and leaves.
fn pass_by_as_a_producer(setting: &Setting, instance: &str) {
    let mut config = setting.broker.producer_config();
    config.set("transactional.id", format!("{}.{instance}", setting.group));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
}

/// Takes the place of an instance in its group, and leaves without a word, as static members do.
fn pass_by_as_a_member(setting: &Setting, instance: &str) {
    let mut config = setting.broker.client_config();
    config
        .set("group.id", &setting.group)
        .set("group.instance.id", instance)
        .set("session.timeout.ms", "6000")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[&setting.input]).unwrap();
    let taken = poll_until(PATIENCE, || {
        drop(consumer.poll(Duration::from_millis(100)));
        (consumer.assignment().unwrap().count() > 0).then_some(())
    });
    assert!(taken.is_some(), "no partition was taken");
}

#[test]
fn an_instance_that_was_fenced_by_nobody_who_stays_goes_on_by_itself_and_every_record_comes_out_once()
 {
    for pass_by in [pass_by_as_a_producer, pass_by_as_a_member] {
        let setting = Setting::new("passing", 2);
        setting.produce(2, 0, 200);
        let instance = StreamInstance::start(&setting.config("a", ""));
        setting.wait_for_offsets(&everywhere(2, 200));
        assert_eq!(times_fenced(&instance), 0.0);

        pass_by(&setting, "a");
        setting.produce(2, 200, 400);
        let fenced = poll_until(PATIENCE, || (times_fenced(&instance) > 0.0).then_some(()));
        assert!(fenced.is_some(), "{}", instance.metrics());
        setting.wait_for_offsets(&everywhere(2, 400));
        assert_eq!(times_fenced(&instance), 1.0);
        instance.stop().unwrap();
        setting.assert_scored_exactly_once(2, 400);
    }
}

#[test]
fn at_least_once_an_instance_without_a_twin_goes_on_too() {
    let setting = Setting::new("passing-least", 1);
    let at_least_once = "[delivery]\nmode = \"at_least_once\"";
    setting.produce(1, 0, 100);
    let instance = StreamInstance::start(&setting.config("a", at_least_once));
    setting.wait_for_offsets(&everywhere(1, 100));
    pass_by_as_a_member(&setting, "a");
    let fenced = poll_until(PATIENCE, || (times_fenced(&instance) > 0.0).then_some(()));
    assert!(fenced.is_some(), "{}", instance.metrics());
    setting.produce(1, 100, 200);
    setting.wait_for_offsets(&everywhere(1, 200));
    instance.stop().unwrap();
}

#[test]
fn of_two_that_start_under_one_name_one_ends_soon_and_the_other_is_left_alone() {
    let setting = Setting::new("pair", 2);
    setting.produce(2, 0, 200);
    let config = setting.config("same", "");
    let mut pair = [(); 2].map(|()| StreamInstance::start(&config));
    // Records keep coming, so that both have something to commit.
    let mut produced = 200;
    let ended = poll_until(PATIENCE, || {
        setting.produce(2, produced, produced + 10);
        produced += 10;
        std::thread::sleep(Duration::from_millis(200));
        pair.iter().position(|instance| !instance.is_running())
    });
    let ended = ended.expect("two of one name run side by side");
    let error = pair[ended].join().unwrap_err();
    let StreamError::Fenced { evidence, .. } = &error else {
        panic!("{error}");
    };
    assert!(matches!(evidence, Evidence::Member { .. }), "{error}");
    let [first, second] = pair;
    let survivor = match ended {
        0 => second,
        _ => first,
    };
    setting.wait_for_offsets(&everywhere(2, produced as i64));
    survivor.stop().unwrap();
    setting.assert_scored_exactly_once(2, produced as i64);
}
