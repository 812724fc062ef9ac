//! What a run comes to: how many records were lost, doubled, reordered, or scored in another way.
//!
//! In: what was read from an output topic, as (input partition, offset) in the order of reading, and
//! which records belong there. Out: [`Counts`]. Invariant: every output counts once, and what belongs
//! to another topic counts as doubled here and as lost there.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;

/// Where a record lies in the input: partition and offset.
pub type Place = (i32, i64);

/// All zero where delivery was exactly once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records without an output.
    pub lost: usize,
    /// Outputs of a record that has had one, or that should have none in this topic.
    pub doubled: usize,
    /// Outputs that stand behind one of a later record of the same input partition.
    pub reordered: usize,
    /// Outputs that say something else of the record than the library does.
    pub differing: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {}, doubled {}, reordered {}, differing {}",
            self.lost, self.doubled, self.reordered, self.differing
        )
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.differing += other.differing;
    }
}

/// Compares `found`, each output with whether it says what it should, with the records that belong in
/// the topic.
pub fn count(found: &[(Place, bool)], expected: &BTreeSet<Place>) -> Counts {
    let mut counts = Counts::default();
    let mut seen = BTreeSet::new();
    for &(place, is_right) in found {
        let (partition, offset) = place;
        let later = (partition, offset + 1)..(partition + 1, 0);
        if !expected.contains(&place) || seen.contains(&place) {
            counts.doubled += 1;
        } else if seen.range(later).next().is_some() {
            counts.reordered += 1;
        }
        seen.insert(place);
        counts.differing += usize::from(!is_right);
    }
    counts.lost = expected.difference(&seen).count();
    counts
}

#[test]
fn each_kind_of_failure_counts_as_what_it_is() {
    let expected: BTreeSet<Place> = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)].into();
    let right = |places: &[Place]| -> Vec<(Place, bool)> {
        places.iter().map(|&place| (place, true)).collect()
    };
    let whole = right(&[(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)]);
    assert_eq!(count(&whole, &expected), Counts::default());

    let mut differing = whole.clone();
    differing[2].1 = false;
    let one = |set: fn(&mut Counts)| {
        let mut counts = Counts::default();
        set(&mut counts);
        counts
    };
    assert_eq!(
        count(&differing, &expected),
        one(|counts| counts.differing = 1)
    );
    assert_eq!(count(&whole[1..], &expected), one(|counts| counts.lost = 1));
    let doubled = right(&[(0, 0), (0, 1), (0, 0), (0, 2), (1, 0), (1, 1)]);
    assert_eq!(count(&doubled, &expected), one(|counts| counts.doubled = 1));
    let reordered = right(&[(0, 1), (0, 0), (0, 2), (1, 0), (1, 1)]);
    assert_eq!(
        count(&reordered, &expected),
        one(|counts| counts.reordered = 1)
    );
    let misplaced = right(&[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]);
    assert_eq!(
        count(&misplaced, &expected),
        one(|counts| counts.doubled = 1)
    );
}
