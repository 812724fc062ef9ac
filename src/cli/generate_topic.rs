//! `maskwatch generate --brokers`: synthetic card payments into a topic, at a steady rate.

use super::args::GenerateTarget;
use super::report::print;
use crate::generate::{Generator, JsonRows};
use crate::kafka::topics::{self, TopicWriter};
use anyhow::Context;
use arrow::array::AsArray;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Payments made at a time where no rate is asked for.
const BATCH_ROWS: u64 = 1_000;
/// Batches a second where a rate is asked for: each is sent at its due time.
const BATCHES_PER_SECOND: u64 = 10;

/// Sends payments until `rows` are sent, or until the process is stopped.
///
/// # Errors
/// Client properties that cannot be used (64), a cluster that refuses or does not answer (1).
pub fn run(generator: &mut Generator, target: &GenerateTarget) -> anyhow::Result<ExitCode> {
    let properties = topics::properties(target.property.iter().cloned().collect())?;
    let (Some(brokers), Some(topic)) = (&target.brokers, &target.topic) else {
        anyhow::bail!("--brokers and --topic are needed where --out is not given");
    };
    let mut writer = TopicWriter::new(brokers, &properties, topic)?;
    writer.connect(brokers)?;
    let batch_rows = match target.rate {
        Some(rate) => (u64::from(rate) / BATCHES_PER_SECOND).max(1),
        None => BATCH_ROWS,
    };
    let begin = Instant::now();
    let rows = target.rows.unwrap_or(u64::MAX);
    let mut sent = 0;
    let mut json = Vec::new();
    while sent < rows {
        let batch = generator.next_batch(batch_rows.min(rows - sent) as usize)?;
        let ids = batch
            .column_by_name("payment_id")
            .and_then(|ids| ids.as_string_opt::<i32>());
        let ids = ids.context("generated payments have no text column payment_id")?;
        let payments = JsonRows::new(&batch)?;
        for row in 0..batch.num_rows() {
            json.clear();
            payments.write(row, &mut json)?;
            writer.write(Some(ids.value(row).as_bytes()), &json)?;
        }
        sent += batch.num_rows() as u64;
        if let Some(rate) = target.rate {
            writer.flush()?;
            let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    writer.flush()?;
    let seconds = begin.elapsed().as_secs_f64().max(1e-9);
    let rate = sent as f64 / seconds;
    print(&format!(
        "{topic}: {sent} payments sent, {rate:.0} payments/s\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
