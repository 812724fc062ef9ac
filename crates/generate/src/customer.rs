//! A customer over time: whereabouts, recent spending, known places; and the running
//! features of that.
//!
//! Every payment, genuine or not, passes [`Customer::observe`], as the bank does not know better at
//! that moment. Memory a customer is bounded: the last places in a ring, the last day's payments up
//! to [`PAYMENTS_24H_MAX`].

use std::collections::VecDeque;

use rand::{Rng, RngExt};
use rand_distr::Exp1;

use super::habits::{Habits, lognormal};
use super::payment::{Draft, Payment};
use super::rhythm::{DAY_MS, HOUR_MS, Rhythm, hour_of_day};
use super::scenario::Scenario;
use super::world::{COUNTRIES, DIGITAL_GOODS, Position, World};

/// Payments of the last day that are counted; more stay at this number.
const PAYMENTS_24H_MAX: usize = 200;
/// Share of payments followed by another one on the same errand.
const ERRAND_SHARE: f64 = 0.18;
/// Share of digital purchases followed by another one at the same merchant within minutes.
const DIGITAL_BURST_SHARE: f64 = 0.35;
/// Weight of a new payment in the customer's mean amount: it remembers about the last thirty.
const MEAN_WEIGHT: f64 = 0.03;
/// A payment counts in the mean with at most so many times the mean, so that one car does not blur
/// a year.
const MEAN_CLIP: f64 = 5.0;
/// Payments from which a customer's mean amount is known before the first day.
const MEAN_PAYMENTS: usize = 64;
/// Days of a journey, uniform.
const TRIP_DAYS: std::ops::Range<f64> = 1.0..7.0;
/// Days between changes of a customer's address, telephone or password, mean.
pub(super) const PROFILE_DAYS: f64 = 300.0;
/// No two payments of a customer are closer.
const GAP_MS_MIN: i64 = 1_000;
/// Less time than this counts as this for a speed: terminals' clocks are no better.
const SPEED_HOURS_MIN: f64 = 1.0 / 60.0;

/// The last `N` distinct things, oldest overwritten first.
#[derive(Debug, Clone)]
pub(super) struct Ring<const N: usize> {
    items: [u32; N],
    next: u32,
}

impl<const N: usize> Ring<N> {
    /// A place that is not used; no index of the generator reaches it.
    const FREE: u32 = u32::MAX;

    pub(super) fn new() -> Self {
        Self {
            items: [Self::FREE; N],
            next: 0,
        }
    }

    pub(super) fn contains(&self, item: u32) -> bool {
        self.items.contains(&item)
    }

    /// Remembers `item`, unless it is known already.
    pub(super) fn insert(&mut self, item: u32) {
        if !self.contains(item) {
            self.items[self.next as usize] = item;
            self.next = (self.next + 1) % N as u32;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.items
            .iter()
            .copied()
            .filter(|&item| item != Self::FREE)
    }
}

/// A payment of the last day, as far as it is remembered.
#[derive(Debug, Clone, Copy)]
struct Recent {
    time_ms: i64,
    amount_eur: f32,
    /// At a place that the customer did not know.
    new_terminal: bool,
    /// Attempts just before that were declined.
    declines: u8,
}

/// One customer.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) habits: Habits,
    /// No fraud is planned for this customer before that moment.
    pub(super) victim_until_ms: i64,
    /// The city of the journey under way, and when it ends.
    trip: Option<(u16, i64)>,
    next_trip_ms: i64,
    /// EUR.
    pub(super) mean_amount_eur: f64,
    last_ms: i64,
    /// When address, telephone or password were changed last.
    profile_ms: i64,
    /// Where and when the last payment in a shop was; at home before the first.
    last_shop: (Position, i64),
    /// The last day's payments, oldest first.
    recent: VecDeque<Recent>,
    /// Where the customer paid lately, beside the regular places.
    seen: Ring<32>,
    /// The digital merchant at which the next payment is made again.
    again_at: Option<u32>,
}

impl Customer {
    /// A customer as found at `now_ms` after a long life: on a journey with the
    /// long-run probability, with a last payment, a mean amount and known places.
    pub(super) fn settled(rng: &mut impl Rng, world: &World, now_ms: i64) -> Self {
        let habits = Habits::draw(rng, world);
        let since_last = rng.sample::<f64, _>(Exp1) / f64::from(habits.payments_per_day);
        let last_ms = now_ms - days_ms(since_last);
        let mut customer = Self {
            victim_until_ms: i64::MIN,
            trip: None,
            next_trip_ms: 0,
            mean_amount_eur: 0.0,
            last_ms,
            profile_ms: now_ms - days_ms(PROFILE_DAYS * rng.sample::<f64, _>(Exp1)),
            last_shop: (habits.home, last_ms),
            recent: VecDeque::new(),
            seen: Ring::new(),
            again_at: None,
            habits,
        };
        customer.next_trip_ms = now_ms + customer.days_to_trip(rng);
        let mean_days = (TRIP_DAYS.start + TRIP_DAYS.end) / 2.0;
        let cycle = mean_days + f64::from(customer.habits.days_between_trips);
        if rng.random_bool(mean_days / cycle) {
            let left = rng.random_range(0.0..TRIP_DAYS.end);
            customer.travel(rng, world, now_ms, left);
        }
        customer.settle_habits(rng, world);
        customer
    }

    /// Draws the mean amount and the known places from what the customer would have done before.
    fn settle_habits(&mut self, rng: &mut impl Rng, world: &World) {
        let mut sum = 0.0;
        for i in 0..MEAN_PAYMENTS {
            let hour = rng.random_range(8..22);
            let terminal = self.habits.choose_terminal(rng, world, hour, None);
            let category = usize::from(world.terminal(terminal).category);
            let amount = self.habits.amount_eur(rng, category);
            let clip = if i < 4 {
                f64::INFINITY
            } else {
                MEAN_CLIP * sum / i as f64
            };
            sum += amount.min(clip);
            if !self.habits.is_regular_of(terminal) {
                self.seen.insert(terminal);
            }
        }
        self.mean_amount_eur = sum / MEAN_PAYMENTS as f64;
    }

    /// The city of the journey under way at `now_ms`; starts and ends journeys that are due.
    pub(super) fn away(&mut self, rng: &mut impl Rng, world: &World, now_ms: i64) -> Option<u16> {
        if self.trip.is_some_and(|(_, until)| until <= now_ms) {
            self.trip = None;
            self.next_trip_ms = now_ms + self.days_to_trip(rng);
        }
        if self.trip.is_none() && self.next_trip_ms <= now_ms {
            let days = rng.random_range(TRIP_DAYS);
            self.travel(rng, world, now_ms, days);
        }
        self.trip.map(|(city, _)| city)
    }

    fn travel(&mut self, rng: &mut impl Rng, world: &World, now_ms: i64, days: f64) {
        self.trip = Some((world.destination(rng) as u16, now_ms + days_ms(days)));
    }

    fn days_to_trip(&self, rng: &mut impl Rng) -> i64 {
        days_ms(rng.sample::<f64, _>(Exp1) * f64::from(self.habits.days_between_trips))
    }

    /// The customer's own payment at `now_ms`.
    pub(super) fn pay(&mut self, rng: &mut impl Rng, world: &World, now_ms: i64) -> Draft {
        let away = self.away(rng, world, now_ms);
        match self.again_at.take() {
            Some(terminal) => self.habits.genuine_at(rng, world, terminal, away),
            None => self.habits.genuine(rng, world, hour_of_day(now_ms), away),
        }
    }

    /// When the customer pays next, after having paid `paid` (none before the first payment) at
    /// `now_ms`.
    ///
    /// Errands and bursts shorten some gaps; the others are longer for it, so that the rate stays
    /// about the same.
    pub(super) fn next_payment_ms(
        &mut self,
        rng: &mut impl Rng,
        world: &World,
        rhythm: &Rhythm,
        now_ms: i64,
        paid: Option<&Draft>,
    ) -> i64 {
        let digital = paid.filter(|d| world.terminal(d.terminal).category == DIGITAL_GOODS);
        if let Some(draft) = digital.filter(|_| rng.random_bool(DIGITAL_BURST_SHARE)) {
            self.again_at = Some(draft.terminal);
            return now_ms + seconds_ms(lognormal(rng, 4.4, 0.8)).max(GAP_MS_MIN);
        }
        if paid.is_some() && rng.random_bool(ERRAND_SHARE) {
            return now_ms + seconds_ms(lognormal(rng, 6.6, 0.9)).max(GAP_MS_MIN);
        }
        let per_hour = f64::from(self.habits.payments_per_day) * (1.0 - ERRAND_SHARE) / 24.0;
        let wait = rng.sample::<f64, _>(Exp1) / per_hour;
        rhythm.after(now_ms, wait).max(now_ms + GAP_MS_MIN)
    }

    /// The payment that the bank sees, with the features that depend on the past; then the past
    /// includes it.
    pub(super) fn observe(
        &mut self,
        world: &World,
        (number, time_ms): (u64, i64),
        customer: u32,
        draft: Draft,
        scenario: Option<Scenario>,
    ) -> Payment {
        let day_ago = time_ms - DAY_MS;
        while self.recent.front().is_some_and(|p| p.time_ms <= day_ago) {
            self.recent.pop_front();
        }
        if draft.profile_changed {
            self.profile_ms = time_ms;
        }
        let place = world.terminal(draft.terminal);
        let known = self.habits.is_regular_of(draft.terminal) || self.seen.contains(draft.terminal);
        let units = draft.amount_eur * COUNTRIES[usize::from(place.country)].per_eur;
        let recent = || self.recent.iter();
        let spent_24h = recent().map(|p| f64::from(p.amount_eur)).sum::<f64>() + draft.amount_eur;
        let hour_ago = time_ms - HOUR_MS;
        let last_hour = || recent().filter(|p| p.time_ms > hour_ago);
        let new_1h = last_hour().filter(|p| p.new_terminal).count() + usize::from(!known);
        let declines = recent().map(|p| i64::from(p.declines)).sum::<i64>();
        let payment = Payment {
            number,
            time_ms,
            customer,
            draft,
            amount: round(units, 100.0).max(0.01),
            amount_ratio: round(draft.amount_eur / self.mean_amount_eur, 10_000.0),
            home_country: self.habits.country,
            card_type: self.habits.card_type,
            new_terminal: !known,
            distance_km: place
                .position
                .map(|p| round(self.habits.home.distance_km(p), 10.0)),
            seconds_since_last: (time_ms - self.last_ms).max(0) / 1_000,
            payments_24h: self.recent.len() as i64,
            payments_1h: last_hour().count() as i64,
            amount_24h_ratio: round(spent_24h / self.mean_amount_eur, 10_000.0),
            new_terminals_1h: new_1h as i64,
            declines_24h: declines + i64::from(draft.declines),
            profile_age_days: round((time_ms - self.profile_ms) as f64 / DAY_MS as f64, 10.0),
            speed_kmh: place.position.map(|p| self.speed_kmh(p, time_ms)),
            // The terminal's past is not the customer's: whoever knows it adds it.
            terminal_manual_24h: 0,
            scenario,
        };
        self.remember(&payment, place.position);
        payment
    }

    /// How fast the customer must have gone from the last shop to `place`.
    fn speed_kmh(&self, place: Position, time_ms: i64) -> f64 {
        let (from, since_ms) = self.last_shop;
        let hours = (time_ms - since_ms) as f64 / HOUR_MS as f64;
        round(from.distance_km(place) / hours.max(SPEED_HOURS_MIN), 10.0)
    }

    fn remember(&mut self, payment: &Payment, position: Option<Position>) {
        let counted = payment
            .draft
            .amount_eur
            .min(MEAN_CLIP * self.mean_amount_eur);
        self.mean_amount_eur += MEAN_WEIGHT * (counted - self.mean_amount_eur);
        self.last_ms = payment.time_ms;
        if self.recent.len() < PAYMENTS_24H_MAX {
            self.recent.push_back(Recent {
                time_ms: payment.time_ms,
                amount_eur: payment.draft.amount_eur as f32,
                new_terminal: payment.new_terminal,
                declines: payment.draft.declines,
            });
        }
        if let Some(position) = position {
            self.last_shop = (position, payment.time_ms);
        }
        if payment.new_terminal {
            self.seen.insert(payment.draft.terminal);
        }
    }
}

fn round(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

/// Whole milliseconds of some days.
pub(super) fn days_ms(days: f64) -> i64 {
    (days * DAY_MS as f64) as i64
}

/// Whole milliseconds of some seconds.
pub(super) fn seconds_ms(seconds: f64) -> i64 {
    (seconds * 1_000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn a_ring_forgets_the_oldest_and_keeps_no_doubles() {
        let mut ring = Ring::<3>::new();
        assert_eq!(ring.iter().count(), 0);
        for item in [1, 2, 2, 3, 4] {
            ring.insert(item);
        }
        assert!(!ring.contains(1));
        assert_eq!(ring.iter().collect::<Vec<_>>(), [4, 2, 3]);
    }

    #[test]
    fn running_features_tell_the_past() {
        let mut rng = stream(1, Purpose::Generation);
        let world = World::new(&mut rng, 100);
        let now_ms = 1_767_571_200_000;
        let mut customer = Customer::settled(&mut rng, &world, now_ms);
        let draft = customer.pay(&mut rng, &world, now_ms);
        let mean = customer.mean_amount_eur;
        let mut see = |at| customer.observe(&world, (0, at), 0, draft, None);
        let first = see(now_ms);
        assert_eq!(first.payments_24h, 0);
        assert_eq!(first.amount_ratio, round(draft.amount_eur / mean, 10_000.0));
        let second = see(now_ms + 90_500);
        assert_eq!((second.seconds_since_last, second.payments_24h), (90, 1));
        assert!(!second.new_terminal, "a place just visited is known");
        let next_day = see(now_ms + DAY_MS + 1_000);
        assert_eq!(
            next_day.payments_24h, 1,
            "the first payment is more than a day ago"
        );
    }
}
