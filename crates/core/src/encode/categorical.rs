//! Categories: bounded counting, codes for the input, classes for the head, and what rare and unseen values cost.
//!
//! Code 0 is *unknown*; 1..=n are the known values, the most frequent first. Classes of the head are the most frequent
//! values and, if there are more, one class `rare` for all the others.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Values that have a class of their own in a category head.
///
/// 1,024 logits cost less than the hidden layers; a rarer value than the 1,024th says little more than "rare".
pub const DEFAULT_HEAD_CLASSES_MAX: usize = 1024;

/// Bytes of a value that are kept as they are; a longer one is known by its beginning and a digest.
const VALUE_BYTES_MAX: usize = 256;

/// The value as it is kept: memory and bundle are bounded whatever the texts' length.
pub fn bounded(value: &str) -> Cow<'_, str> {
    if value.len() <= VALUE_BYTES_MAX {
        return Cow::Borrowed(value);
    }
    let start = &value[..value.floor_char_boundary(VALUE_BYTES_MAX / 2)];
    let digest = Sha256::digest(value.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Cow::Owned(format!("{start}... sha256 {digest}"))
}

/// Counts of the most frequent values of a stream in bounded memory.
///
/// The batched form of Misra & Gries 1982 (Anderson et al. 2017, "A High-Performance Algorithm for Identifying Frequent
/// Items in Data Streams"): when twice the capacity is reached, the count of rank `capacity` is taken from all, and who
/// falls to zero is forgotten. Exact as long as there are at most `2 * capacity` distinct values.
#[derive(Debug, Clone)]
pub struct FrequentValues {
    capacity: usize,
    counts: HashMap<Box<str>, u64>,
    total: u64,
    forgotten: bool,
}

impl FrequentValues {
    /// Counts with room for `capacity` values, at least 1, when the stream has ended.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            counts: HashMap::new(),
            total: 0,
            forgotten: false,
        }
    }

    /// Counts one value.
    pub fn observe(&mut self, value: &str) {
        let value = &*bounded(value);
        self.total += 1;
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
            return;
        }
        if self.counts.len() >= 2 * self.capacity {
            self.forget_rarest();
        }
        self.counts.insert(value.into(), 1);
    }

    /// Values seen, with repetition.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn forget_rarest(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let rank = self.capacity.min(counts.len() - 1);
        let (_, &mut cut, _) = counts.select_nth_unstable_by(rank, |a, b| b.cmp(a));
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(cut);
            *count > 0
        });
        self.forgotten = true;
    }

    /// The `capacity` most frequent values with their counts, most frequent first, ties by text.
    fn ranked(self) -> Vec<(String, u64)> {
        let mut ranked: Vec<_> = self
            .counts
            .into_iter()
            .map(|(value, count)| (String::from(value), count))
            .collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(self.capacity);
        ranked
    }
}

/// The fitted encoding of a categorical field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredEncoder", into = "StoredEncoder")]
pub struct CategoricalEncoder {
    stored: StoredEncoder,
    codes: HashMap<String, u32>,
    beyond_class: Vec<f32>,
}

/// What the bundle keeps of the encoding; the rest follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredEncoder {
    /// Known values, the most frequent first: value i has code i + 1.
    values: Vec<String>,
    /// How often each was seen.
    counts: Vec<u64>,
    /// Values with a class of their own.
    head_values: u32,
    /// Good-Turing's probability that the next value was never seen, in (0, 1).
    unseen_mass: f64,
}

impl CategoricalEncoder {
    /// Fits the encoding to counted values; `head_classes_max` of them get classes of their own.
    pub fn fit(frequent: FrequentValues, head_classes_max: usize) -> Self {
        let total = frequent.total();
        let forgotten = frequent.forgotten;
        let ranked = frequent.ranked();
        let kept: u64 = ranked.iter().map(|(_, count)| count).sum();
        let singletons = ranked.iter().filter(|(_, count)| *count == 1).count() as u64;
        // Good 1953: the mass of the unseen is estimated by the share of values seen once. Values that were cut off, or
        // did not fit into memory, will come as unseen too, so they count as such; once something was forgotten, counts
        // are lower bounds and this is an upper bound. One is added to each side, so that it is never 0 or 1.
        let cut = total - kept;
        let once = if forgotten {
            singletons.max(cut)
        } else {
            singletons + cut
        };
        let unseen_mass = (once + 1) as f64 / (total + 2) as f64;
        let head_values = ranked.len().min(head_classes_max.max(1)) as u32;
        let (values, counts) = ranked.into_iter().unzip();
        Self::of(StoredEncoder {
            values,
            counts,
            head_values,
            unseen_mass,
        })
    }

    /// The code of a value, 0 if it is unknown.
    pub fn encode(&self, value: &str) -> u32 {
        self.codes.get(&*bounded(value)).copied().unwrap_or(0)
    }

    /// Known values.
    pub fn codes(&self) -> u32 {
        self.stored.values.len() as u32
    }

    /// Classes of the head: at least 1.
    pub fn classes(&self) -> u32 {
        (self.stored.head_values + u32::from(self.has_rare())).max(1)
    }

    /// The class of a code; `None` for an unknown value of a field without the class `rare`.
    pub fn class(&self, code: u32) -> Option<u32> {
        match code {
            1.. if code <= self.stored.head_values => Some(code - 1),
            _ if self.has_rare() => Some(self.stored.head_values),
            _ => None,
        }
    }

    /// The value behind a code; `None` for 0, the code of unknown values, and beyond the last.
    pub fn value(&self, code: u32) -> Option<&str> {
        let place = (code as usize).checked_sub(1)?;
        self.stored.values.get(place).map(String::as_str)
    }

    /// The value behind a class; `None` for `rare`.
    pub fn class_value(&self, class: u32) -> Option<&str> {
        (class < self.stored.head_values).then(|| self.stored.values[class as usize].as_str())
    }

    /// -log of a known value's smoothed share within its class, in nats: 0 for values with a class of their own.
    pub fn surprise_within_class(&self, code: u32) -> f32 {
        self.beyond_class.get(code as usize).copied().unwrap_or(0.0)
    }

    /// The largest of [`Self::surprise_within_class`].
    pub fn surprise_within_class_max(&self) -> f32 {
        self.beyond_class.iter().copied().fold(0.0, f32::max)
    }

    /// -log of the probability mass of values never seen, in nats, > 0.
    pub fn unseen_surprise(&self) -> f32 {
        -self.stored.unseen_mass.ln() as f32
    }

    fn has_rare(&self) -> bool {
        self.stored.values.len() > self.stored.head_values as usize
    }
}

impl StoredEncoder {
    /// What is wrong with it; none of what [`CategoricalEncoder::fit`] makes.
    fn fault(&self) -> Option<String> {
        let (values, counts) = (self.values.len(), self.counts.len());
        let total = self
            .counts
            .iter()
            .try_fold(0_u64, |sum, &n| sum.checked_add(n));
        if values != counts || self.head_values as usize > values {
            let head = self.head_values;
            return Some(format!(
                "{values} values, {counts} counts and {head} classes"
            ));
        }
        if total.is_none() || !(self.unseen_mass > 0.0 && self.unseen_mass < 1.0) {
            let mass = self.unseen_mass;
            return Some(format!("counts too large, or an unseen mass of {mass}"));
        }
        let distinct: HashSet<&String> = self.values.iter().collect();
        (distinct.len() < values).then(|| "a value that stands twice".to_owned())
    }
}

impl TryFrom<StoredEncoder> for CategoricalEncoder {
    type Error = String;

    fn try_from(stored: StoredEncoder) -> Result<Self, String> {
        match stored.fault() {
            Some(fault) => Err(format!("a categorical encoder of {fault}")),
            None => Ok(Self::of(stored)),
        }
    }
}

impl CategoricalEncoder {
    fn of(stored: StoredEncoder) -> Self {
        let codes = (1..)
            .zip(&stored.values)
            .map(|(code, value)| (value.clone(), code))
            .collect();
        let head = stored.head_values as usize;
        let rare: &[u64] = stored.counts.get(head..).unwrap_or(&[]);
        // Half a count is added to each rare value and to the unseen together (Krichevsky & Trofimov 1981).
        let mass = rare.iter().sum::<u64>() as f64 + 0.5 * (rare.len() + 1) as f64;
        let beyond_class = std::iter::repeat_n(0.0, head + 1)
            .chain(
                rare.iter()
                    .map(|&count| -((count as f64 + 0.5) / mass).ln() as f32),
            )
            .collect();
        Self {
            stored,
            codes,
            beyond_class,
        }
    }
}

impl From<CategoricalEncoder> for StoredEncoder {
    fn from(encoder: CategoricalEncoder) -> Self {
        encoder.stored
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fitted(values: &[&str], capacity: usize, head: usize) -> CategoricalEncoder {
        let mut frequent = FrequentValues::new(capacity);
        values.iter().for_each(|v| frequent.observe(v));
        CategoricalEncoder::fit(frequent, head)
    }

    #[test]
    fn frequent_values_have_classes_and_the_others_share_rare() {
        let encoder = fitted(&["a", "a", "a", "b", "b", "c", "d", "d", "c", "e"], 100, 2);
        assert_eq!((encoder.codes(), encoder.classes()), (5, 3));
        let class = |value| encoder.class(encoder.encode(value));
        assert_eq!(
            [class("a"), class("b"), class("e"), class("new")],
            [0, 1, 2, 2].map(Some)
        );
        assert_eq!(encoder.class_value(2), None);
        assert_eq!(
            [0, 1, 5, 6].map(|code| encoder.value(code)),
            [None, Some("a"), Some("e"), None]
        );
        // Shares within rare: (2, 2, 1) + 0.5 of 5 + 0.5 * 4.
        let share = |value| (-encoder.surprise_within_class(encoder.encode(value))).exp();
        assert!((share("d") - 2.5 / 7.0).abs() < 1e-6 && (share("e") - 1.5 / 7.0).abs() < 1e-6);
        assert_eq!(share("a"), 1.0);
    }

    #[test]
    fn the_unseen_mass_is_good_turings() {
        let encoder = fitted(&["a", "a", "b", "c"], 100, 10);
        assert!((encoder.unseen_surprise() - -(3f32 / 6.0).ln()).abs() < 1e-6);
        assert_eq!(encoder.class(0), None);
    }

    #[test]
    fn values_cut_off_by_the_cardinality_count_as_unseen() {
        let values: Vec<String> = (0..19).flat_map(|i| vec![format!("v{i}"); 100]).collect();
        let refs: Vec<&str> = values.iter().map(String::as_str).collect();
        let encoder = fitted(&refs, 10, 5);
        // 9 of 19 equally frequent values have no code: 900 of 1,900 records.
        assert!((encoder.unseen_surprise() - -(901f32 / 1902.0).ln()).abs() < 1e-6);
    }

    #[test]
    fn long_values_are_told_apart_in_bounded_memory() {
        let (a, b) = (
            format!("{}a", "x".repeat(100_000)),
            format!("{}b", "x".repeat(100_000)),
        );
        let encoder = fitted(&[&a, &a, &b], 10, 10);
        assert_eq!((encoder.encode(&a), encoder.encode(&b)), (1, 2));
        assert!(encoder.stored.values.iter().all(|value| value.len() <= 256));
    }

    #[test]
    fn counting_forgets_the_rare_and_keeps_the_frequent() {
        let mut frequent = FrequentValues::new(10);
        for i in 0..100_000u32 {
            frequent.observe(&format!("id{i}"));
            frequent.observe(&format!("common{}", i % 5));
        }
        assert!(frequent.counts.len() <= 20);
        let encoder = CategoricalEncoder::fit(frequent, 5);
        for i in 0..5 {
            assert!((1..=5).contains(&encoder.encode(&format!("common{i}"))));
        }
        assert!(
            encoder.unseen_surprise() < 0.8,
            "half of all values are new ones"
        );
    }

    #[test]
    fn the_stored_form_gives_the_same_encoder() {
        let encoder = fitted(&["x", "x", "y", "z"], 10, 1);
        let json = serde_json::to_string(&encoder).unwrap();
        assert_eq!(
            serde_json::from_str::<CategoricalEncoder>(&json).unwrap(),
            encoder
        );
    }

    proptest! {
        #[test]
        fn codes_do_not_depend_on_the_order_of_rows(mut values in prop::collection::vec("[a-e]", 1..50)) {
            let refs: Vec<&str> = values.iter().map(String::as_str).collect();
            let first = fitted(&refs, 10, 3);
            values.reverse();
            let refs: Vec<&str> = values.iter().map(String::as_str).collect();
            prop_assert_eq!(first, fitted(&refs, 10, 3));
        }
    }
}
