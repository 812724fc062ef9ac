//! handbook: the division of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot & Bontempi 2022, chapter 5).
//!
//! A week of payments trains. A week later, when its frauds have been reported, the next week tests. From each test day the
//! cards go that are known to be compromised by then: those with a fraud in the training week, or in the days after it up
//! to eight days before, since a fraud is known after seven days.

use super::Split;
use std::collections::{BTreeMap, HashSet};

/// Days that train.
const TRAIN_DAYS: i64 = 7;
/// Days until a fraud is known.
const DELAY_DAYS: i64 = 7;
/// Days that test.
const TEST_DAYS: i64 = 7;

/// The columns of a set of payments, one value a row.
#[derive(Debug, Clone, Copy)]
pub struct Payments<'a> {
    /// The day.
    pub days: &'a [i64],
    /// The card.
    pub cards: &'a [String],
    /// Whether it is a fraud.
    pub labels: &'a [bool],
}

/// Divides payments; training begins on `first_day`. `clean` leaves the frauds of the training week out.
pub fn handbook(payments: Payments<'_>, first_day: i64, clean: bool) -> Split {
    let Payments {
        days,
        cards,
        labels,
    } = payments;
    let train_end = first_day + TRAIN_DAYS;
    let test_start = train_end + DELAY_DAYS;
    let is_train = |row: usize| (first_day..train_end).contains(&days[row]);
    // The day on which a card's first fraud since training began happened.
    let mut compromised: BTreeMap<&str, i64> = BTreeMap::new();
    for row in (0..days.len()).filter(|&row| labels[row] && days[row] >= first_day) {
        let day = compromised.entry(&cards[row]).or_insert(days[row]);
        *day = days[row].min(*day);
    }
    let is_known = |row: usize| {
        let first = compromised.get(cards[row].as_str());
        first.is_some_and(|&day| day < train_end || day < days[row] - DELAY_DAYS)
    };
    let is_test =
        |row: usize| (test_start..test_start + TEST_DAYS).contains(&days[row]) && !is_known(row);
    let rows = |wanted: &dyn Fn(usize) -> bool| {
        let rows = (0..days.len()).filter(|&row| wanted(row));
        rows.map(|row| row as u32).collect()
    };
    let train = rows(&|row| is_train(row) && !(clean && labels[row]));
    Split::new(train, rows(&is_test))
}

/// The mean over days of the share of compromised cards among the `k` that rank highest.
///
/// Each day, cards are ranked by their highest score, equal ones by name; a card is compromised if one of its payments of
/// that day is a fraud. With `remove_detected` a compromised card that was among the `k` is left out of the days that
/// follow, as the Handbook's own `card_precision_top_k` does. None without a row.
pub fn card_precision(
    payments: Payments<'_>,
    scores: &[f32],
    k: usize,
    remove_detected: bool,
) -> Option<f64> {
    let Payments {
        days,
        cards,
        labels,
    } = payments;
    let mut by_day: BTreeMap<i64, BTreeMap<&str, (f32, bool)>> = BTreeMap::new();
    for row in 0..days.len() {
        let of_day = by_day.entry(days[row]).or_default();
        let (score, label) = of_day
            .entry(&cards[row])
            .or_insert((f32::NEG_INFINITY, false));
        *score = score.max(scores[row]);
        *label |= labels[row];
    }
    let mut detected: HashSet<&str> = HashSet::new();
    let mut sum = 0.0;
    for of_day in by_day.values() {
        let left = of_day.iter().filter(|(card, _)| !detected.contains(*card));
        let mut ranked: Vec<(&str, f32, bool)> =
            left.map(|(&card, &(s, y))| (card, s, y)).collect();
        // The sort is stable, and the map gives the cards by name.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let found: Vec<&str> = ranked
            .iter()
            .take(k)
            .filter(|card| card.2)
            .map(|card| card.0)
            .collect();
        sum += found.len() as f64 / k as f64;
        if remove_detected {
            detected.extend(found);
        }
    }
    (!by_day.is_empty()).then(|| sum / by_day.len() as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// 40 days of 30 payments with 53 cards.
    fn world() -> (Vec<i64>, Vec<String>, Vec<bool>) {
        let rows = 0..1_200_i64;
        let days = rows.clone().map(|i| i / 30).collect();
        let cards = rows
            .clone()
            .map(|i| format!("c{:02}", (i * i + i / 7) % 53))
            .collect();
        let labels = rows.map(|i| (i * 37) % 29 == 0).collect();
        (days, cards, labels)
    }

    #[test]
    fn rows_agree_with_the_handbooks_own_program() {
        // import numpy as np, pandas as pd
        // i = np.arange(1200)
        // d = pd.DataFrame({"day": i // 30, "card": [f"c{c:02}" for c in (i * i + i // 7) % 53], "y": i * 37 % 29 == 0})
        // train = d[(d.day >= 5) & (d.day < 12)]; known = set(train[train.y].card); test = []
        // for day in range(7):
        //     known |= set(d[(d.day == 5 + 7 + day - 1) & d.y].card)
        //     t = d[d.day == 5 + 7 + 7 + day]; test.append(t[~t.card.isin(known)])
        // test = pd.concat(test); len(train), train.y.sum(), len(test), test.y.sum(), test.index.values.sum(), list(test.index[:4])
        let (days, cards, labels) = world();
        let payments = Payments {
            days: &days,
            cards: &cards,
            labels: &labels,
        };
        let split = handbook(payments, 5, false);
        let frauds = |rows: &[u32]| rows.iter().filter(|&&row| labels[row as usize]).count();
        let sum: u64 = split.test.iter().map(|&row| u64::from(row)).sum();
        let found = (
            split.train.len(),
            frauds(&split.train),
            split.test.len(),
            frauds(&split.test),
            sum,
        );
        assert_eq!(found, (210, 7, 160, 7, 107_204));
        assert_eq!(split.test[..4], [570, 571, 572, 573]);
        let clean = handbook(payments, 5, true);
        assert_eq!((clean.test, frauds(&clean.train)), (split.test, 0));
        assert_eq!(clean.train.len() + frauds(&split.train), split.train.len());
    }

    #[test]
    fn card_precision_agrees_with_the_handbooks_own_program() {
        // d as above, p = np.sin(i * i), k = 5; for remove in (False, True):
        //     detected, out = set(), []
        //     for _, g in d.assign(p=p.astype(np.float32)).groupby("day"):
        //         g = g[~g.card.isin(detected)].groupby("card")[["p", "y"]].max().sort_values("p", ascending=False).head(k)
        //         out.append(g.y.sum() / k); detected |= set(g[g.y].index) if remove else set()
        //     print(np.mean(out))
        let (days, cards, labels) = world();
        let payments = Payments {
            days: &days,
            cards: &cards,
            labels: &labels,
        };
        let scores: Vec<f32> = (0..1_200).map(|i| f64::from(i * i).sin() as f32).collect();
        let found =
            [false, true].map(|remove| card_precision(payments, &scores, 5, remove).unwrap());
        for (found, expected) in found.iter().zip([0.06, 0.055]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn card_precision_by_hand() {
        // Day 1: a 9 (fraud), b 8, c 1 -> a, b: one half. Day 2: b 5, a 4 (fraud), c 3 (fraud) -> b, a: one half; without a,
        // which was found on day 1, b, c: one half.
        let (days, labels) = ([1, 1, 1, 2, 2, 2], [true, false, false, true, false, true]);
        let cards = ["a", "b", "c", "a", "b", "c"].map(str::to_owned);
        let payments = Payments {
            days: &days,
            cards: &cards,
            labels: &labels,
        };
        let scores = [9.0, 8.0, 1.0, 4.0, 5.0, 3.0];
        assert_eq!(card_precision(payments, &scores, 2, false), Some(0.5));
        assert_eq!(card_precision(payments, &scores, 2, true), Some(0.5));
        // The best card alone: a on day 1, b on day 2; and b again when a is gone.
        assert_eq!(card_precision(payments, &scores, 1, false), Some(0.5));
        // Fewer cards than k: the share is of k all the same.
        assert_eq!(
            card_precision(payments, &scores, 4, false),
            Some((0.25 + 0.5) / 2.0)
        );
        assert_eq!(
            card_precision(payments, &scores, 4, true),
            Some((0.25 + 0.25) / 2.0)
        );
    }
}
