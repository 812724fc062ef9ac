//! Which fields have moved: windows of the stream beside the reference rows.
//!
//! In flow the bins of each record's fields, out flows for each field the Jensen-Shannon divergence (Lin 1991) of the last
//! full window from the reference rows, in bits within 0..=1:
//!
//! ```text
//! JS = (KL(p || m) + KL(r || m)) / 2,   m = (p + r) / 2
//! ```
//!
//! Two samples of one distribution differ too. With W and R records in K bins that any of them are in, JS is then on average
//! (K - 1)(1/W + 1/R) / (8 ln 2) bits (Grosse et al. 2002), which is taken off. The divergence says how far a field has
//! moved, not how sure that is: of 10,000 records everything that is visible is sure.

use crate::encode::FieldTable;

/// Records of a window.
pub const WINDOW_RECORDS: u64 = 10_000;
/// A divergence from which a field counts as moved, bits: a third of a standard deviation of a normal, or a value whose share
/// goes from 50 % to 67 %. About a population stability index of 0.1.
pub const FIELD_MOVED_BITS: f64 = 0.02;

/// The windows of all fields.
#[derive(Debug, Clone)]
pub struct FieldWatch {
    fields: Vec<Watched>,
    records: u64,
    /// Of the last full window, `[G]`; empty before there is one.
    bits: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Watched {
    reference: Vec<u64>,
    window: Vec<u64>,
}

impl FieldWatch {
    /// A watch beside the tables of G fields.
    pub fn new(reference: &[FieldTable]) -> Self {
        let fields = reference.iter().map(|table| Watched {
            window: vec![0; table.counts.len()],
            reference: table.counts.clone(),
        });
        Self {
            fields: fields.collect(),
            records: 0,
            bits: Vec::new(),
        }
    }

    /// Takes in the bins of the next record, `[G]`; true if it fills a window.
    pub fn observe(&mut self, bins: &[u8]) -> bool {
        for (field, &bin) in self.fields.iter_mut().zip(bins) {
            if let Some(count) = field.window.get_mut(usize::from(bin)) {
                *count += 1;
            }
        }
        self.records += 1;
        let is_full = self.records == WINDOW_RECORDS;
        if is_full {
            let bits = |field: &Watched| jensen_shannon_bits(&field.window, &field.reference);
            self.bits = self.fields.iter().map(bits).collect();
            self.fields
                .iter_mut()
                .for_each(|field| field.window.fill(0));
            self.records = 0;
        }
        is_full
    }

    /// How far each field has moved, `[G]`, bits in 0..=1: of the last full window; empty before there is one.
    pub fn bits(&self) -> &[f64] {
        &self.bits
    }
}

/// The Jensen-Shannon divergence of two tables of counts with as many bins, bits in 0..=1, without what chance makes of it on
/// average. 0 if one of them counts nothing.
pub fn jensen_shannon_bits(a: &[u64], b: &[u64]) -> f64 {
    let (all_a, all_b) = (a.iter().sum::<u64>() as f64, b.iter().sum::<u64>() as f64);
    if all_a == 0.0 || all_b == 0.0 {
        return 0.0;
    }
    let part = |share: f64, mean: f64| match share > 0.0 {
        true => share * (share / mean).log2(),
        false => 0.0,
    };
    let mut bits = 0.0;
    let mut bins = 0;
    for (&a, &b) in a.iter().zip(b) {
        let (p, r) = (a as f64 / all_a, b as f64 / all_b);
        let mean = (p + r) / 2.0;
        bits += (part(p, mean) + part(r, mean)) / 2.0;
        bins += usize::from(a + b > 0);
    }
    let by_chance =
        (bins.max(1) - 1) as f64 * (1.0 / all_a + 1.0 / all_b) / (8.0 * std::f64::consts::LN_2);
    (bits - by_chance).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use proptest::prelude::*;
    use rand::RngExt;

    #[test]
    fn the_divergence_is_that_of_an_independent_program() {
        // SciPy: jensenshannon([5, 3, 2], [2, 2, 6], base=2) ** 2, less 2 * (1/10^6 + 1/10^6) / (8 ln 2)
        let scaled = |counts: [u64; 3]| counts.map(|count| count * 100_000);
        let found = jensen_shannon_bits(&scaled([5, 3, 2]), &scaled([2, 2, 6]));
        assert!((found - 0.130_658_181_256_838).abs() < 1e-9, "{found}");
        let apart = jensen_shannon_bits(&[1_000_000, 0], &[0, 1_000_000]);
        assert!((apart - 1.0).abs() < 1e-6, "{apart}");
        assert_eq!(jensen_shannon_bits(&[0, 0], &[1, 0]), 0.0);
    }

    /// Bins of a normal number that is shifted, cut at tenths of the unshifted one.
    fn watch(shift: f64, reference: usize) -> FieldWatch {
        let cuts = [
            -1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816,
        ];
        let mut rng = stream(7, Purpose::Tests);
        let mut bin = move |shift: f64| {
            // Irwin-Hall: near enough to a normal.
            let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0 + shift;
            cuts.partition_point(|&cut| cut <= normal) as u8
        };
        let mut counts = vec![0; 10];
        (0..reference).for_each(|_| counts[usize::from(bin(0.0))] += 1);
        let field = "amount".to_owned();
        let mut watch = FieldWatch::new(&[FieldTable { field, counts }]);
        for record in 1..=WINDOW_RECORDS {
            assert_eq!(watch.observe(&[bin(shift)]), record == WINDOW_RECORDS);
        }
        watch
    }

    #[test]
    fn a_field_counts_as_moved_from_a_third_of_a_standard_deviation_on() {
        for reference in [1_000, 20_000] {
            assert!(watch(0.0, reference).bits()[0] < FIELD_MOVED_BITS / 4.0);
            assert!(watch(0.2, reference).bits()[0] < FIELD_MOVED_BITS);
            assert!(watch(0.45, reference).bits()[0] > FIELD_MOVED_BITS);
        }
    }

    #[test]
    fn a_window_forgets_the_one_before() {
        let mut watch = watch(2.0, 5_000);
        let moved = watch.bits()[0];
        assert!(moved > 0.3, "{moved}");
        for record in 0..WINDOW_RECORDS {
            watch.observe(&[(record % 10) as u8]);
        }
        assert!(watch.bits()[0] < 0.001, "{}", watch.bits()[0]);
    }

    proptest! {
        #[test]
        fn the_divergence_is_a_share_and_takes_its_tables_in_any_order(
            a in prop::collection::vec(0u64..1_000, 8), b in prop::collection::vec(0u64..1_000, 8)
        ) {
            let bits = jensen_shannon_bits(&a, &b);
            prop_assert!((0.0..=1.0).contains(&bits));
            prop_assert!((bits - jensen_shannon_bits(&b, &a)).abs() < 1e-12);
            prop_assert_eq!(jensen_shannon_bits(&a, &a), 0.0);
        }
    }
}
