//! What a customer usually does, and the genuine payments that follow from it.
//!
//! Habits are drawn once a customer; only the device changes over time. Genuine payments carry
//! their share of oddities (journeys, magnetic stripes, addresses abroad, dear purchases), so that
//! no single oddity means fraud.

use rand::{Rng, RngExt};
use rand_distr::{Exp1, StandardNormal};

use super::customer::PROFILE_DAYS;
use super::payment::{CARD_TYPES, DEVICES, Draft, EntryMode, Online};
use super::rhythm::RHYTHMS;
use super::world::{
    CATEGORIES, CATEGORIES_LEN, COUNTRIES, Category, Position, World, cumulative, pick,
};

/// Shops a customer is a regular of.
const USUAL_SHOPS: usize = 8;
/// Online merchants a customer is a regular of.
const USUAL_ONLINE: usize = 4;
/// Share of payments at a usual place where there is one of the category.
const LOYALTY: f64 = 0.75;
/// A regular shop is the nearest of this many.
const NEAREST_OF: usize = 3;
/// Amounts (EUR) up to which contactless needs no PIN.
pub(super) const CONTACTLESS_LIMIT_EUR: f64 = 50.0;
/// Share of online payments from a device used for the first time.
const NEW_DEVICE_SHARE: f64 = 0.008;
/// Share of online payments whose typed-in address is not the one that the bank knows.
const OTHER_ADDRESS_SHARE: f64 = 0.04;
/// Share of payments before which an attempt was declined.
const DECLINED_SHARE: f64 = 0.02;
/// Share of online payments through an address in some other country.
const FOREIGN_ADDRESS_SHARE: f64 = 0.015;

/// One customer's habits.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pub(super) city: u16,
    pub(super) home: Position,
    /// Index into the countries.
    pub(super) country: u8,
    /// Index into [`super::rhythm::Rhythm::all`].
    pub(super) rhythm: u8,
    /// Index into [`CARD_TYPES`].
    pub(super) card_type: u8,
    /// Index into [`DEVICES`].
    pub(super) device: u8,
    /// Payments made from the device so far.
    device_payments: u32,
    /// Above zero.
    pub(super) payments_per_day: f32,
    /// Days between journeys, mean.
    pub(super) days_between_trips: f32,
    /// Added to ln(amount).
    spend_log: f32,
    /// Multiplies every category's own online share.
    online_factor: f32,
    /// Relative number of payments by category.
    taste: [f32; CATEGORIES_LEN],
    usual_shops: [u32; USUAL_SHOPS],
    usual_online: [u32; USUAL_ONLINE],
}

impl Habits {
    /// Draws a customer's habits.
    pub(super) fn draw(rng: &mut impl Rng, world: &World) -> Self {
        let city = world.home_city(rng);
        let home = world.residence(rng, city);
        let taste: [f32; CATEGORIES_LEN] =
            std::array::from_fn(|c| CATEGORIES[c].popularity * lognormal(rng, 0.0, 0.8) as f32);
        let sums = cumulative(taste.iter().map(|&t| f64::from(t)));
        let usual_shops = std::array::from_fn(|_| {
            let category = pick(&sums, rng);
            nearest_shop(rng, world, home, city, category)
        });
        let online =
            cumulative((0..CATEGORIES_LEN).map(|c| f64::from(taste[c]) * CATEGORIES[c].online));
        let usual_online = std::array::from_fn(|_| {
            let category = pick(&online, rng);
            world.online_merchant(rng, category)
        });
        Self {
            city: city as u16,
            home,
            country: world.cities[city].country,
            // The first rhythm, office hours, is that of more than half of the customers.
            rhythm: rng.random_range(0..RHYTHMS * 2).saturating_sub(RHYTHMS) as u8,
            card_type: pick_named(rng, &CARD_TYPES),
            device: pick_named(rng, &DEVICES),
            // So many payments a device is kept for, whenever one looks.
            device_payments: (rng.sample::<f64, _>(Exp1) / NEW_DEVICE_SHARE) as u32,
            payments_per_day: lognormal(rng, 0.5, 0.7).clamp(0.15, 12.0) as f32,
            days_between_trips: lognormal(rng, 4.0, 0.7).clamp(7.0, 1_000.0) as f32,
            spend_log: rng.sample::<f32, _>(StandardNormal) * 0.45,
            online_factor: lognormal(rng, -0.1, 0.5) as f32,
            taste,
            usual_shops,
            usual_online,
        }
    }

    /// Whether the customer is a regular of the terminal.
    pub(super) fn is_regular_of(&self, terminal: u32) -> bool {
        self.usual_shops.contains(&terminal) || self.usual_online.contains(&terminal)
    }

    /// A genuine payment at `hour` (0..=23), made in the city `away` if the customer travels.
    pub(super) fn genuine(
        &mut self,
        rng: &mut impl Rng,
        world: &World,
        hour: usize,
        away: Option<u16>,
    ) -> Draft {
        let terminal = self.choose_terminal(rng, world, hour, away);
        self.genuine_at(rng, world, terminal, away)
    }

    /// A genuine payment at the given terminal.
    pub(super) fn genuine_at(
        &mut self,
        rng: &mut impl Rng,
        world: &World,
        terminal: u32,
        away: Option<u16>,
    ) -> Draft {
        let place = world.terminal(terminal);
        let amount_eur = self.amount_eur(rng, usize::from(place.category));
        if place.position.is_none() {
            return self.genuine_online(rng, world, terminal, amount_eur, away);
        }
        let stripe = match COUNTRIES[usize::from(place.country)].code {
            "US" => 0.2,
            _ => 0.005,
        };
        let entry_mode = match rng.random::<f64>() {
            u if u < 0.003 => EntryMode::Manual,
            u if u < 0.003 + stripe => EntryMode::Magstripe,
            _ if amount_eur < CONTACTLESS_LIMIT_EUR && rng.random_bool(0.8) => {
                EntryMode::Contactless
            }
            _ if rng.random_bool(0.25) => EntryMode::Contactless,
            _ => EntryMode::Chip,
        };
        let verified = match entry_mode {
            EntryMode::Chip => 0.93,
            EntryMode::Contactless if amount_eur >= CONTACTLESS_LIMIT_EUR => 0.85,
            EntryMode::Contactless => 0.04,
            EntryMode::Magstripe => 0.4,
            _ => 0.0,
        };
        let pin_verified = Some(rng.random_bool(verified));
        Draft {
            terminal,
            amount_eur,
            entry_mode,
            pin_verified,
            online: None,
            declines: u8::from(rng.random_bool(DECLINED_SHARE)),
            profile_changed: false,
        }
    }

    fn genuine_online(
        &mut self,
        rng: &mut impl Rng,
        world: &World,
        terminal: u32,
        amount_eur: f64,
        away: Option<u16>,
    ) -> Draft {
        let known = self.is_regular_of(terminal);
        let (stored, authenticated) = if known { (0.45, 0.4) } else { (0.02, 0.7) };
        let entry_mode = match rng.random::<f64>() {
            u if u < stored => EntryMode::StoredCard,
            u if u < stored + authenticated => EntryMode::Authenticated,
            _ => EntryMode::Unauthenticated,
        };
        let new_device = rng.random_bool(NEW_DEVICE_SHARE);
        if new_device {
            self.device = pick_named(rng, &DEVICES);
            self.device_payments = 0;
        }
        let ip_country = if rng.random_bool(FOREIGN_ADDRESS_SHARE) {
            any_country(rng)
        } else {
            away.map_or(self.country, |city| world.cities[usize::from(city)].country)
        };
        let online = Some(Online {
            device: self.device,
            new_device,
            device_payments: self.device_payments,
            ip_country,
            address_match: !rng.random_bool(OTHER_ADDRESS_SHARE),
        });
        self.device_payments += 1;
        Draft {
            terminal,
            amount_eur,
            entry_mode,
            pin_verified: None,
            online,
            declines: u8::from(rng.random_bool(DECLINED_SHARE)),
            profile_changed: rng.random_bool(self.profile_change_share()),
        }
    }

    /// How often an online payment comes with a changed profile: once in [`PROFILE_DAYS`], by payments.
    fn profile_change_share(&self) -> f64 {
        (1.0 / (PROFILE_DAYS * f64::from(self.payments_per_day))).min(1.0)
    }

    /// What the customer would spend in the category: lognormal, EUR, at least one cent.
    pub(super) fn amount_eur(&self, rng: &mut impl Rng, category: usize) -> f64 {
        let Category {
            log_mean, log_sd, ..
        } = CATEGORIES[category];
        lognormal(rng, log_mean + f64::from(self.spend_log), log_sd).max(0.01)
    }

    /// Where the customer pays at `hour`.
    pub(super) fn choose_terminal(
        &self,
        rng: &mut impl Rng,
        world: &World,
        hour: usize,
        away: Option<u16>,
    ) -> u32 {
        let category = self.choose_category(rng, hour);
        let share = CATEGORIES[category].online;
        let online =
            share >= 1.0 || rng.random_bool((share * f64::from(self.online_factor)).min(0.97));
        let usual = if online {
            &self.usual_online[..]
        } else {
            &self.usual_shops[..]
        };
        if (online || away.is_none()) && rng.random_bool(LOYALTY) {
            let fits = |&&t: &&u32| usize::from(world.terminal(t).category) == category;
            if let Some(&terminal) = usual.iter().find(fits) {
                return terminal;
            }
        }
        if online {
            return world.online_merchant(rng, category);
        }
        world.terminal_in(rng, usize::from(away.unwrap_or(self.city)), category)
    }

    fn choose_category(&self, rng: &mut impl Rng, hour: usize) -> usize {
        let mut sum = 0.0;
        let sums: [f32; CATEGORIES_LEN] = std::array::from_fn(|c| {
            sum += self.taste[c] * CATEGORIES[c].opening.weight(hour);
            sum
        });
        let at = rng.random::<f32>() * sum;
        sums.partition_point(|&s| s <= at).min(CATEGORIES_LEN - 1)
    }
}

/// exp(N(mean, sd)).
pub(super) fn lognormal(rng: &mut impl Rng, mean: f64, sd: f64) -> f64 {
    (mean + sd * rng.sample::<f64, _>(StandardNormal)).exp()
}

/// Any country, each as likely.
pub(super) fn any_country(rng: &mut impl Rng) -> u8 {
    rng.random_range(0..COUNTRIES.len()) as u8
}

/// An index into `table`, drawn by its weights.
pub(super) fn pick_named(rng: &mut impl Rng, table: &[(&str, f64)]) -> u8 {
    pick(&cumulative(table.iter().map(|row| row.1)), rng) as u8
}

fn nearest_shop(
    rng: &mut impl Rng,
    world: &World,
    home: Position,
    city: usize,
    category: usize,
) -> u32 {
    let distance = |terminal: u32| {
        world
            .terminal(terminal)
            .position
            .map_or(f64::INFINITY, |place| home.distance_km(place))
    };
    let mut nearest = world.terminal_in(rng, city, category);
    for _ in 1..NEAREST_OF {
        let other = world.terminal_in(rng, city, category);
        if distance(other) < distance(nearest) {
            nearest = other;
        }
    }
    nearest
}
