//! Where partitions end, from librdkafka's periodic report.
//!
//! JSON flows in, partition ends flow out; of the report's hundreds of numbers only two a partition are read. Only assigned
//! partitions are told, so that the number of series has the bound of the assignment.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::stream::source::PartitionEnd;
use crate::stream::types::{Offset, Partition, TopicPartition};

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    topics: HashMap<String, TopicReport>,
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

/// The ends of the `assigned` partitions that the report knows.
///
/// # Errors
/// A report that is not the JSON that librdkafka documents.
pub fn partition_ends(
    report: &[u8],
    assigned: &BTreeSet<TopicPartition>,
) -> Result<Vec<PartitionEnd>, serde_json::Error> {
    let report: Report = serde_json::from_slice(report)?;
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
    Ok(ends.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
        let ends = partition_ends(report, &assigned).unwrap();
        let ends: Vec<_> = ends
            .iter()
            .map(|end| (end.partition.partition.0, end.end.0))
            .collect();
        assert_eq!(ends, [(0, 9), (1, 12)]);
        assert!(partition_ends(b"{}", &assigned).unwrap().is_empty());
        assert!(partition_ends(b"nonsense", &assigned).is_err());
    }
}
