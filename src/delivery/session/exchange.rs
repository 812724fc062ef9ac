//! The exchange of the model within a session: a transaction holds outputs of one model.
//!
//! Batches that are handed over after an exchange carry the new model, while those before are still in work; so nothing stands
//! still for it but the commit. Where the first batch of the new model is next to come back, everything before is committed,
//! and from that boundary on the new model stands, for requests too. Invariant: all records of a partition before the offset
//! that is told are scored by the model before, and all from it on by the new one.

use std::time::Instant;

use tracing::info;

use super::Session;
use crate::delivery::fault::DeliveryFault;
use crate::delivery::sink::Sink;
use crate::delivery::source::Source;
use crate::pipeline::types::Positions;

/// Partitions that one line of the log names.
const PARTITIONS_A_LINE: usize = 64;

impl<S: Source, K: Sink> Session<'_, S, K> {
    /// Commits what older models have scored, if a newer one is next, and says where it begins.
    pub(super) fn cross_boundaries(&mut self) -> Result<(), DeliveryFault> {
        while let Some(pipeline) = self.link.boundary() {
            let model_id = pipeline.model_id().to_owned();
            let begin = Instant::now();
            self.commit(self.commit_timeout())?;
            self.link.stand();
            let pause = begin.elapsed();
            self.shared.metrics.model_exchanged(pause);
            self.shared.readiness.model_loaded(&model_id);
            let pause_ms = pause.as_secs_f64() * 1e3;
            let partitions = self.begun.len();
            info!(model_id, pause_ms, partitions, "model exchanged");
            match self.begun.is_empty() {
                true => self.unplaced = Some(model_id),
                false => self.report_first_offsets(&model_id),
            }
        }
        Ok(())
    }

    /// The offset of each assigned partition that the new model scores first.
    pub(super) fn report_first_offsets(&self, model_id: &str) {
        let firsts = first_offsets(&self.begun, &self.committed);
        for firsts in firsts.chunks(PARTITIONS_A_LINE) {
            let firsts = firsts.join(" ");
            info!(model_id, firsts, "first offsets of the model");
        }
    }
}

/// Of each partition, `topic-partition@offset`: where it is committed up to, else where it began.
fn first_offsets(begun: &Positions, committed: &Positions) -> Vec<String> {
    let firsts = begun.iter().map(|(partition, begun)| {
        let first = committed.get(partition).unwrap_or(begun);
        format!("{partition}@{}", first.0)
    });
    firsts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::types::{Offset, Partition, TopicPartition};

    #[test]
    fn a_partition_of_which_nothing_is_committed_begins_where_it_began() {
        let (mut begun, mut committed) = (Positions::default(), Positions::default());
        for number in 0..2 {
            begun.advance(&TopicPartition::new("in", Partition(number)), Offset(7));
        }
        committed.advance(&TopicPartition::new("in", Partition(1)), Offset(9));
        assert_eq!(first_offsets(&begun, &committed), ["in-0@7", "in-1@9"]);
    }
}
