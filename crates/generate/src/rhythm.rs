//! When in a week people pay: an intensity for each of its 168 hours, and the walk through it.
//!
//! A customer's payments are a Poisson process in *operational time*, which runs fast in busy hours
//! and slowly at night; [`Rhythm::after`] turns an operational waiting time into a moment. The mean
//! speed over a week is 1.

/// Milliseconds of an hour.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_HOURS: usize = 168;
const WEEK_MS: i64 = 7 * DAY_MS;
/// 1970-01-01 was a Thursday: three days into a week that starts on Monday.
const EPOCH_IN_WEEK_MS: i64 = 3 * DAY_MS;

/// Relative intensity of the 24 hours of a workday and of a weekend day.
struct Shape {
    workday: [f64; 24],
    weekend: [f64; 24],
}

const WEEKEND: [f64; 24] = [
    0.5, 0.3, 0.15, 0.1, 0.05, 0.05, 0.15, 0.4, 1.2, 2.4, 3.4, 3.8, 3.6, 3.2, 3.0, 2.9, 2.9, 2.8,
    2.8, 2.9, 2.4, 1.8, 1.4, 0.9,
];
/// People with office hours, people at home, those who go out late, and those who work at night.
const SHAPES: [Shape; 4] = [
    Shape {
        workday: [
            0.08, 0.04, 0.03, 0.03, 0.05, 0.2, 0.8, 1.9, 1.8, 1.2, 1.1, 1.9, 3.3, 2.4, 1.3, 1.4,
            2.2, 3.6, 3.8, 2.7, 1.8, 1.1, 0.6, 0.2,
        ],
        weekend: WEEKEND,
    },
    Shape {
        workday: [
            0.03, 0.02, 0.02, 0.02, 0.03, 0.1, 0.4, 1.0, 2.3, 3.6, 4.0, 3.6, 2.6, 2.0, 2.4, 2.7,
            2.4, 1.8, 1.2, 0.8, 0.5, 0.3, 0.15, 0.06,
        ],
        weekend: WEEKEND,
    },
    Shape {
        workday: [
            1.1, 0.7, 0.4, 0.2, 0.1, 0.1, 0.2, 0.5, 0.9, 1.1, 1.3, 1.7, 2.2, 2.0, 1.7, 1.7, 2.0,
            2.4, 2.9, 3.3, 3.2, 2.8, 2.4, 1.7,
        ],
        weekend: [
            2.6, 2.2, 1.7, 1.0, 0.5, 0.2, 0.2, 0.3, 0.6, 1.1, 1.7, 2.2, 2.4, 2.3, 2.2, 2.2, 2.3,
            2.5, 2.9, 3.3, 3.4, 3.3, 3.1, 2.9,
        ],
    },
    Shape {
        workday: [
            0.9, 0.8, 0.9, 0.8, 0.6, 0.9, 1.6, 1.8, 1.2, 0.4, 0.2, 0.2, 0.3, 0.7, 1.6, 2.5, 2.8,
            2.6, 2.4, 2.2, 1.8, 1.2, 0.9, 0.9,
        ],
        weekend: WEEKEND,
    },
];
/// How busy Monday to Sunday are.
const DAYS: [f64; 7] = [0.92, 0.92, 0.96, 1.02, 1.2, 1.25, 0.73];

/// How many rhythms there are.
pub(super) const RHYTHMS: usize = SHAPES.len();

/// The hours of a week in which one kind of customer pays.
#[derive(Debug, Clone)]
pub(super) struct Rhythm {
    /// Operational hours since Monday 00:00 at the start of each hour; rises strictly from 0 to
    /// 168.
    cumulative: [f64; WEEK_HOURS + 1],
}

impl Rhythm {
    /// All rhythms, in a fixed order.
    pub(super) fn all() -> [Self; RHYTHMS] {
        SHAPES.each_ref().map(Self::new)
    }

    fn new(shape: &Shape) -> Self {
        let weights: [f64; WEEK_HOURS] = std::array::from_fn(|hour| {
            let day = hour / 24;
            let hours = if day >= 5 {
                &shape.weekend
            } else {
                &shape.workday
            };
            hours[hour % 24] * DAYS[day]
        });
        let scale = WEEK_HOURS as f64 / weights.iter().sum::<f64>();
        let mut cumulative = [0.0; WEEK_HOURS + 1];
        for (hour, weight) in weights.iter().enumerate() {
            cumulative[hour + 1] = cumulative[hour] + weight * scale;
        }
        Self { cumulative }
    }

    /// The moment (ms since 1970) at which `operational_hours` (>= 0) have passed since `from_ms`.
    pub(super) fn after(&self, from_ms: i64, operational_hours: f64) -> i64 {
        let in_week_ms = (from_ms + EPOCH_IN_WEEK_MS).rem_euclid(WEEK_MS);
        let hour = (in_week_ms / HOUR_MS) as usize;
        let within = (in_week_ms % HOUR_MS) as f64 / HOUR_MS as f64;
        let passed = self.cumulative[hour] + within * self.speed(hour);
        let week = self.cumulative[WEEK_HOURS];
        let target = passed + operational_hours;
        let weeks = (target / week).floor();
        let rest = target - weeks * week;
        let hour = self
            .cumulative
            .partition_point(|&c| c <= rest)
            .clamp(1, WEEK_HOURS)
            - 1;
        let within = (rest - self.cumulative[hour]) / self.speed(hour);
        let to_ms = weeks as i64 * WEEK_MS + ((hour as f64 + within) * HOUR_MS as f64) as i64;
        (from_ms - in_week_ms + to_ms).max(from_ms)
    }

    fn speed(&self, hour: usize) -> f64 {
        self.cumulative[hour + 1] - self.cumulative[hour]
    }
}

/// Hour of the day (UTC), 0..=23.
pub(super) fn hour_of_day(time_ms: i64) -> usize {
    (time_ms.rem_euclid(DAY_MS) / HOUR_MS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONDAY_MS: i64 = 1_767_571_200_000;

    #[test]
    fn a_week_of_operational_time_is_a_week() {
        for rhythm in Rhythm::all() {
            let start = MONDAY_MS + 12_345_678;
            let end = rhythm.after(start, 168.0);
            assert!((end - start - WEEK_MS).abs() <= 1, "{}", end - start);
        }
    }

    #[test]
    fn waiting_is_additive_and_never_goes_back() {
        for rhythm in Rhythm::all() {
            let mut at = MONDAY_MS + 1;
            for _ in 0..400 {
                let next = rhythm.after(at, 0.7);
                assert!(next > at);
                at = next;
            }
            // Each step loses up to a millisecond, which a quiet hour after a busy one stretches a
            // hundredfold.
            assert!((rhythm.after(MONDAY_MS + 1, 280.0) - at).abs() < 60_000);
        }
    }

    #[test]
    fn nights_are_quiet() {
        // Two operational hours from 1 a.m. last into the morning, from 5 p.m. not until 7.
        let office = &Rhythm::all()[0];
        let night = office.after(MONDAY_MS + HOUR_MS, 2.0);
        let evening = office.after(MONDAY_MS + 17 * HOUR_MS, 2.0);
        assert!(night - MONDAY_MS > 7 * HOUR_MS);
        assert!(evening - MONDAY_MS < 19 * HOUR_MS);
    }
}
