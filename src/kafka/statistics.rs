//! Where partitions end, and whether any broker is connected, from librdkafka's periodic report.
//!
//! JSON flows in, partition ends flow out; of the report's hundreds of numbers only two a partition and one word a broker are
//! read. Only assigned partitions are reported, so that the number of series has the bound of the assignment.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::delivery::source::PartitionEnd;
use crate::pipeline::types::{Offset, Partition, TopicPartition};

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    brokers: HashMap<String, BrokerReport>,
    #[serde(default)]
    topics: HashMap<String, TopicReport>,
}

#[derive(Deserialize)]
struct BrokerReport {
    state: String,
}

/// The state of a broker that is connected and has let us in.
const CONNECTED: &str = "UP";

/// What the report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The ends of those of the assigned partitions that the client knows.
    Ends(Vec<PartitionEnd>),
    /// No broker is connected, so that nothing is known at present.
    Away,
}

#[derive(Deserialize)]
struct TopicReport {
    #[serde(default)]
    partitions: HashMap<i32, PartitionReport>,
}

/// Negative numbers stand for "not known".
#[derive(Deserialize)]
struct PartitionReport {
    hi_offset: i64,
    ls_offset: i64,
}

/// What the report says, with the ends of `assigned` partitions.
///
/// # Errors
/// A report that is not the JSON that librdkafka documents.
pub fn read(report: &[u8], assigned: &BTreeSet<TopicPartition>) -> Result<Seen, serde_json::Error> {
    let report: Report = serde_json::from_slice(report)?;
    let is_up = |broker: &BrokerReport| broker.state == CONNECTED;
    if !report.brokers.is_empty() && !report.brokers.values().any(is_up) {
        return Ok(Seen::Away);
    }
    let ends = assigned.iter().filter_map(|of| {
        let Partition(number) = of.partition;
        let found = report
            .topics
            .get(of.topic.as_str())?
            .partitions
            .get(&number)?;
        // What is beyond the last stable offset belongs to open transactions and cannot be read yet.
        let end = if found.ls_offset >= 0 {
            found.ls_offset
        } else {
            found.hi_offset
        };
        (end >= 0).then(|| PartitionEnd {
            partition: of.clone(),
            end: Offset(end),
        })
    });
    Ok(Seen::Ends(ends.collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn ends_of_assigned_partitions_are_read() {
        let report = br#"{"name": "x", "topics": {"in": {"topic": "in", "partitions": {
            "0": {"next_offset": 5, "hi_offset": 12, "ls_offset": 9, "msgq_cnt": 0},
            "1": {"next_offset": 5, "hi_offset": 12, "ls_offset": -1001},
            "2": {"next_offset": -1001, "hi_offset": -1001, "ls_offset": -1001},
            "3": {"next_offset": 1, "hi_offset": 1, "ls_offset": 1},
            "-1": {"next_offset": -1001, "hi_offset": -1001, "ls_offset": -1001}}}}}"#;
        let assigned: BTreeSet<_> = (0..3)
            .map(|number| TopicPartition::new("in", Partition(number)))
            .collect();
        let Seen::Ends(ends) = read(report, &assigned).unwrap() else {
            panic!("nothing is said of brokers");
        };
        let ends: Vec<_> = ends
            .iter()
            .map(|end| (end.partition.partition.0, end.end.0))
            .collect();
        assert_eq!(ends, [(0, 9), (1, 12)]);
        assert_eq!(read(b"{}", &assigned).unwrap(), Seen::Ends(Vec::new()));
        assert!(read(b"nonsense", &assigned).is_err());
    }

    #[test]
    fn brokers_are_away_where_none_is_connected() {
        let report = |states: [&str; 2]| {
            let [one, two] = states;
            let text = format!(
                r#"{{"brokers": {{"b:1/1": {{"name": "b:1/1", "state": "{one}"}},
                                  "GroupCoordinator": {{"state": "{two}"}}}}}}"#
            );
            read(text.as_bytes(), &BTreeSet::new()).unwrap()
        };
        assert_eq!(report(["UP", "DOWN"]), Seen::Ends(Vec::new()));
        assert_eq!(report(["TRY_CONNECT", "INIT"]), Seen::Away);
    }
}
