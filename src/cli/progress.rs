//! Long work seen by a person: a bar on a terminal, plain lines elsewhere, always on stderr.
//!
//! In flow steps or rows done, out flow rate, loss and ETA. Nothing here can fail or slow the work:
//! a stderr that is closed is ignored.

use super::report::warn;
use super::small_data::FewRows;
use crate::train::{Progress, TrainObserver};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::io::{IsTerminal, Write as _};
use std::time::Instant;

/// Seconds between two plain lines at least.
const LINE_EVERY_S: f64 = 5.0;

/// Shows training on stderr.
pub struct TrainingDisplay {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    /// Whether it was said that there are few rows.
    has_warned: bool,
}

impl TrainingDisplay {
    /// A bar if stderr is a terminal, else lines.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{msg:<28} {wide_bar} {pos}/{len} steps  {prefix}  ETA {eta}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            bar,
            last_line: None,
            has_warned: false,
        }
    }

    /// Whether it was said before the steps that the rows are too few for the default budget.
    pub fn has_warned(&self) -> bool {
        self.has_warned
    }
}

impl Default for TrainingDisplay {
    fn default() -> Self {
        Self::new()
    }
}

impl TrainObserver for TrainingDisplay {
    fn progress(&mut self, progress: &Progress) {
        let Progress {
            step,
            steps,
            rows,
            seconds,
            loss,
            held_out_loss,
            is_evaluation,
        } = *progress;
        let rate = rows as f64 / seconds.max(1e-9);
        let held_out = held_out_loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
        if let Some(bar) = &self.bar {
            bar.set_length(steps as u64);
            bar.set_position(step as u64);
            bar.set_prefix(format!(
                "{rate:.0} rows/s  loss {loss:.4}  held out {held_out}"
            ));
            return;
        }
        let due = self
            .last_line
            .is_none_or(|at| at.elapsed().as_secs_f64() >= LINE_EVERY_S);
        if due || is_evaluation {
            self.last_line = Some(Instant::now());
            let eta = seconds / step as f64 * (steps - step) as f64;
            let _ = writeln!(
                std::io::stderr(),
                "step {step}/{steps}  {rate:.0} rows/s  loss {loss:.4}  held out {held_out}  ETA {eta:.0} s"
            );
        }
    }

    fn warning(&mut self, warning: &str) {
        match &self.bar {
            // Written above the bar, which would be drawn over it.
            Some(bar) => bar.suspend(|| warn(warning)),
            None => warn(warning),
        }
    }

    fn stage(&mut self, stage: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(stage.to_owned()),
            None => {
                let _ = writeln!(std::io::stderr(), "{stage}");
            }
        }
    }

    fn calibration_rows(&mut self, rows: u64) {
        let told = || FewRows::of_training(rows).warn();
        self.has_warned = match &self.bar {
            Some(bar) => bar.suspend(told),
            None => told(),
        };
    }
}

impl Drop for TrainingDisplay {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows rows that go by, on stderr. Work of a few seconds shows nothing where there is no terminal.
pub struct RowsDisplay {
    bar: Option<ProgressBar>,
    doing: &'static str,
    rows: u64,
    started: Instant,
    last_line: Instant,
}

impl RowsDisplay {
    /// A bar if stderr is a terminal, else lines; `doing` says what is done with the `rows`.
    pub fn new(doing: &'static str, rows: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{msg} {wide_bar} {human_pos}/{human_len} rows  {rate}  ETA {eta}",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.with_key(
                "rate",
                |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = write!(out, "{:.0} rows/s", state.per_sec());
                },
            ));
            bar.with_message(doing)
        });
        let now = Instant::now();
        Self {
            bar,
            doing,
            rows,
            started: now,
            last_line: now,
        }
    }

    /// `done` rows are done, counted from the first.
    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        if self.last_line.elapsed().as_secs_f64() < LINE_EVERY_S {
            return;
        }
        self.last_line = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = done as f64 / seconds;
        let eta = self.rows.saturating_sub(done) as f64 / rate.max(1e-9);
        let Self { doing, rows, .. } = self;
        let _ = writeln!(
            std::io::stderr(),
            "{doing}: {done}/{rows} rows  {rate:.0} rows/s  ETA {eta:.0} s"
        );
    }
}

impl Drop for RowsDisplay {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
