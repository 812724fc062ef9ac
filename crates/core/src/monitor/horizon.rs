//! When bets begin: some of the capital at once, the rest a little with every record, so that a change is found whenever it
//! comes.
//!
//! A bet that began with the first of a million quiet records has lost all it had by the time of a change. So the capital is
//! divided among bets that begin at record 0, 1, 2, ...: a mixture over the moment of the change. Its mean is that of its
//! parts. The part that has not begun is held in reserve: the wealth never falls below it.
//!
//! Of the capital 1, the share [`AT_ONCE`] begins with record 0. Of the rest r, the share 1/(j/T + 1) has not begun before
//! record j, with T = [`HORIZON_RECORDS`]: half of it begins within the first T records. The reserve falls as slowly as 1/j,
//! so that after a thousand million records a change costs some 20 nats more than at the start, and not all of it.

/// A wealth that refutes its claim: a false alarm in at most one of a thousand streams, however long they are.
pub const ALARM_WEALTH: f64 = 1e3;
/// What a wealth is cut to. Giving capital away is always fair, and an alarm ends sooner after its cause has ended.
pub const WEALTH_MAX: f64 = 1e6;
/// The share of the capital that bets from the first record on: a new model or a new start is when most changes show.
const AT_ONCE: f64 = 0.8;
/// Records within which half of the rest begins.
const HORIZON_RECORDS: f64 = 1e5;

/// The capital that has not begun to bet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserve {
    records: f64,
    left: f64,
}

impl Reserve {
    pub fn new() -> Self {
        Self {
            records: 0.0,
            left: 1.0,
        }
    }

    /// What begins with the next record.
    pub fn draw(&mut self) -> f64 {
        self.records += 1.0;
        let left = (1.0 - AT_ONCE) / (self.records / HORIZON_RECORDS + 1.0);
        let drawn = self.left - left;
        self.left = left;
        drawn
    }

    /// What is left.
    pub fn left(&self) -> f64 {
        self.left
    }
}

/// Cuts bets, whose sum is returned, to what leaves a wealth of at most [`WEALTH_MAX`] with `reserve`.
pub(super) fn cut(bets: &mut [f64], reserve: f64) -> f64 {
    let sum: f64 = bets.iter().sum();
    let most = WEALTH_MAX - reserve;
    if sum <= most {
        return sum;
    }
    bets.iter_mut().for_each(|bet| *bet *= most / sum);
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_and_what_is_left_are_the_capital() {
        let mut reserve = Reserve::new();
        let first = reserve.draw();
        assert!((first - AT_ONCE).abs() < 1e-5, "{first}");
        let drawn: f64 = first + (1..100_000).map(|_| reserve.draw()).sum::<f64>();
        assert!((drawn + reserve.left() - 1.0).abs() < 1e-9);
        // Half of the rest has begun.
        assert!((reserve.left() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_wealth_is_cut_in_proportion() {
        let mut bets = [3e6, 1e6];
        assert_eq!(cut(&mut bets, 0.0), WEALTH_MAX);
        assert_eq!(bets, [7.5e5, 2.5e5]);
        assert_eq!(cut(&mut bets, 0.0), WEALTH_MAX);
    }
}
