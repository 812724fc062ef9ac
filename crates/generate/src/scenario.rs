//! The planted frauds: which payments a thief makes, when, and with whose card.
//!
//! A plan is made at one moment and lists all payments of one fraud, each later than that moment
//! and within [`PLAN_SPAN_MS`]. A share of the frauds is *stealthy*: the thief spends as the owner
//! would, and only the pace differs.

use rand::{Rng, RngExt};
use rand_distr::Exp1;

use super::customer::{Customer, days_ms, seconds_ms};
use super::habits::{CONTACTLESS_LIMIT_EUR, any_country, lognormal, pick_named};
use super::payment::{DEVICES, Draft, EntryMode, Online};
use super::rhythm::{DAY_MS, HOUR_MS, hour_of_day};
use super::world::{CATEGORIES, DIGITAL_GOODS, World};

/// Frauds in which the thief behaves like the owner.
const STEALTHY_SHARE: f64 = 0.15;
/// Attempts that a thief makes for nothing before giving up.
const DECLINES_MAX: u8 = 4;
/// No plan reaches further.
pub(super) const PLAN_SPAN_MS: i64 = 3 * DAY_MS;

/// A kind of planted fraud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// A card is stolen and spent fast, mostly far from home, on things that sell again.
    StolenCard,
    /// A terminal copied the cards that paid there: the copies are used elsewhere, or the terminal
    /// charges again.
    CompromisedTerminal,
    /// Many tiny online payments within minutes, to see whether stolen card data still work.
    CardTesting,
    /// Somebody else is in the account: a new device, large amounts, often at night.
    AccountTakeover,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 4] = [
        Self::StolenCard,
        Self::CompromisedTerminal,
        Self::CardTesting,
        Self::AccountTakeover,
    ];

    /// Its name in the column `fraud_scenario`.
    pub fn name(self) -> &'static str {
        match self {
            Self::StolenCard => "stolen_card",
            Self::CompromisedTerminal => "compromised_terminal",
            Self::CardTesting => "card_testing",
            Self::AccountTakeover => "account_takeover",
        }
    }

    /// How often it is begun, so that by payments the scenarios are about as common as each other:
    /// one of account takeover is three payments, of a compromised terminal or of card testing a
    /// dozen.
    pub(super) fn weight(self) -> f64 {
        match self {
            Self::StolenCard => 0.18,
            Self::CompromisedTerminal => 0.12,
            Self::CardTesting => 0.11,
            Self::AccountTakeover => 0.40,
        }
    }
}

/// One payment of a planned fraud.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) time_ms: i64,
    pub(super) customer: u32,
    pub(super) draft: Draft,
    pub(super) scenario: Scenario,
}

/// Plans one fraud with one victim's card; `scenario` is any but the compromised terminal.
pub(super) fn plan_for_victim(
    rng: &mut impl Rng,
    world: &World,
    scenario: Scenario,
    (index, victim): (u32, &Customer),
    now_ms: i64,
) -> Vec<Planned> {
    let drafts = if rng.random_bool(STEALTHY_SHARE) {
        stealthy(rng, world, victim, now_ms)
    } else {
        match scenario {
            Scenario::StolenCard | Scenario::CompromisedTerminal => {
                stolen_card(rng, world, victim, now_ms)
            }
            Scenario::CardTesting => card_testing(rng, world, victim, now_ms),
            Scenario::AccountTakeover => account_takeover(rng, world, victim, now_ms),
        }
    };
    let within = |&(time_ms, _): &(i64, Draft)| time_ms < now_ms + PLAN_SPAN_MS;
    drafts
        .into_iter()
        .filter(within)
        .map(|(time_ms, draft)| Planned {
            time_ms,
            customer: index,
            draft,
            scenario,
        })
        .collect()
}

/// The owner's own way of spending, only several payments in a few hours.
fn stealthy(
    rng: &mut impl Rng,
    world: &World,
    victim: &Customer,
    now_ms: i64,
) -> Vec<(i64, Draft)> {
    let mut habits = victim.habits.clone();
    let mut at = now_ms;
    (0..rng.random_range(2..=6))
        .map(|_| {
            at += seconds_ms(60.0 + lognormal(rng, 8.0, 0.7));
            (at, habits.genuine(rng, world, hour_of_day(at), None))
        })
        .collect()
}

fn stolen_card(
    rng: &mut impl Rng,
    world: &World,
    victim: &Customer,
    now_ms: i64,
) -> Vec<(i64, Draft)> {
    const SOLD_AGAIN: [&str; 7] = [
        "electronics",
        "jewellery",
        "clothing",
        "cash",
        "fuel",
        "gift_cards",
        "groceries",
    ];
    // Four in five are spent in another city; the others where the victim lives.
    let city = if rng.random_bool(0.8) {
        world.destination(rng)
    } else {
        usize::from(victim.habits.city)
    };
    let mut at = now_ms + HOUR_MS / 4;
    (0..rng.random_range(4..=12))
        .map(|_| {
            at += seconds_ms(45.0 + lognormal(rng, 6.4, 0.7));
            let category = category_of(SOLD_AGAIN[rng.random_range(0..SOLD_AGAIN.len())]);
            let terminal = world.terminal_in(rng, city, category);
            let usual = usual_amount(rng, world, terminal);
            let amount_eur = usual * lognormal(rng, 0.7, 0.5);
            let entry_mode = match amount_eur < CONTACTLESS_LIMIT_EUR {
                true => EntryMode::Contactless,
                false if rng.random_bool(0.4) => EntryMode::Magstripe,
                false => EntryMode::Chip,
            };
            let mut draft = in_store(terminal, amount_eur, entry_mode, rng.random_bool(0.15));
            draft.declines = declines(rng, 0.3);
            (at, draft)
        })
        .collect()
}

fn card_testing(
    rng: &mut impl Rng,
    world: &World,
    victim: &Customer,
    now_ms: i64,
) -> Vec<(i64, Draft)> {
    let services = category_of("services");
    let category = if rng.random_bool(0.6) {
        usize::from(DIGITAL_GOODS)
    } else {
        services
    };
    let terminal = world.online_merchant(rng, category);
    let ip_country = any_country(rng);
    let device = pick_named(rng, &DEVICES);
    let mut at = now_ms;
    let tests: u32 = rng.random_range(6..=18);
    let mut payments: Vec<_> = (0..tests)
        .map(|i| {
            at += seconds_ms(3.0 + 25.0 * rng.sample::<f64, _>(Exp1));
            let amount = 0.3 + 0.9 * rng.sample::<f64, _>(Exp1);
            let online = Online {
                device,
                new_device: i == 0,
                device_payments: i,
                ip_country,
                address_match: rng.random_bool(0.4),
            };
            let mut draft = unattended(terminal, amount, EntryMode::Unauthenticated, online);
            draft.declines = declines(rng, 0.4);
            (at, draft)
        })
        .collect();
    if rng.random_bool(0.4) {
        // The card works: one real purchase follows.
        let terminal = world.online_merchant(rng, category_of("electronics"));
        let amount = victim.mean_amount_eur * rng.random_range(2.0..8.0);
        let online = Online {
            device,
            new_device: false,
            device_payments: tests,
            ip_country,
            address_match: rng.random_bool(0.4),
        };
        let at = at + seconds_ms(lognormal(rng, 6.5, 0.8));
        payments.push((
            at,
            unattended(terminal, amount, EntryMode::Unauthenticated, online),
        ));
    }
    payments
}

fn account_takeover(
    rng: &mut impl Rng,
    world: &World,
    victim: &Customer,
    now_ms: i64,
) -> Vec<(i64, Draft)> {
    const DEAR: [&str; 5] = [
        "electronics",
        "jewellery",
        "travel",
        "gift_cards",
        "services",
    ];
    // Seven in ten wait for the night, when the owner does not look.
    let mut at = if rng.random_bool(0.7) {
        let tomorrow = now_ms.div_euclid(DAY_MS) * DAY_MS + DAY_MS;
        tomorrow + days_ms(rng.random_range(0.5..5.0) / 24.0)
    } else {
        now_ms + days_ms(rng.random_range(0.0..0.5))
    };
    // A proxy in the victim's country hides half of them.
    let hidden = rng.random_bool(0.5);
    let ip_country = if hidden {
        victim.habits.country
    } else {
        any_country(rng)
    };
    let device = pick_named(rng, &DEVICES);
    // Most change the telephone or the address first, so that nothing reaches the owner.
    let takes_profile = rng.random_bool(0.7);
    let mut device_payments = 0;
    (0..rng.random_range(1..=5))
        .map(|i| {
            at += seconds_ms(40.0 + lognormal(rng, 6.0, 1.0));
            let category = category_of(DEAR[rng.random_range(0..DEAR.len())]);
            let terminal = world.online_merchant(rng, category);
            let amount = victim.mean_amount_eur * lognormal(rng, 1.5, 0.6);
            let entry_mode = match rng.random::<f64>() {
                u if u < 0.65 => EntryMode::Unauthenticated,
                u if u < 0.85 => EntryMode::StoredCard,
                _ => EntryMode::Authenticated,
            };
            // A browser that keeps nothing looks new every time.
            let new_device = i == 0 || rng.random_bool(0.5);
            device_payments = if new_device { 0 } else { device_payments + 1 };
            let online = Online {
                device,
                new_device,
                device_payments,
                ip_country,
                address_match: rng.random_bool(0.7),
            };
            let mut draft = unattended(terminal, amount, entry_mode, online);
            draft.declines = declines(rng, 0.25);
            draft.profile_changed = i == 0 && takes_profile;
            (at, draft)
        })
        .collect()
}

/// Plans the misuse of the cards of `payers`, who paid at `terminal` (in a shop) lately.
///
/// Two in three such terminals only leak: copies of the magnetic stripe pay elsewhere within two
/// days. The others charge the cards once more themselves, typed in, a little above their usual
/// amounts.
pub(super) fn plan_compromised(
    rng: &mut impl Rng,
    world: &World,
    terminal: u32,
    payers: &[(u32, &Customer)],
    now_ms: i64,
) -> Vec<Planned> {
    let leaks = rng.random_bool(0.67);
    let city = world.destination(rng);
    let mut plan = Vec::with_capacity(payers.len() * 2);
    for &(customer, payer) in payers {
        let times = if leaks { rng.random_range(1..=2) } else { 1 };
        for _ in 0..times {
            let time_ms = now_ms + days_ms(rng.random_range(0.05..2.0));
            let draft = if leaks {
                copied_card(rng, world, payer, city)
            } else {
                let amount = usual_amount(rng, world, terminal) * rng.random_range(1.0..2.5);
                in_store(terminal, amount, EntryMode::Manual, false)
            };
            let scenario = Scenario::CompromisedTerminal;
            plan.push(Planned {
                time_ms,
                customer,
                draft,
                scenario,
            });
        }
    }
    plan
}

fn copied_card(rng: &mut impl Rng, world: &World, payer: &Customer, city: usize) -> Draft {
    const BOUGHT: [&str; 4] = ["cash", "electronics", "groceries", "clothing"];
    let category = category_of(BOUGHT[rng.random_range(0..BOUGHT.len())]);
    let terminal = world.terminal_in(rng, city, category);
    let amount = payer
        .habits
        .amount_eur(rng, usize::from(world.terminal(terminal).category));
    let mut draft = in_store(terminal, amount, EntryMode::Magstripe, rng.random_bool(0.3));
    draft.declines = declines(rng, 0.3);
    draft
}

/// How many attempts a thief whose attempts are declined with the probability `share` makes for nothing before the next
/// one that passes.
fn declines(rng: &mut impl Rng, share: f64) -> u8 {
    (0..DECLINES_MAX)
        .take_while(|_| rng.random_bool(share))
        .count() as u8
}

fn in_store(terminal: u32, amount_eur: f64, entry_mode: EntryMode, pin: bool) -> Draft {
    Draft {
        terminal,
        amount_eur,
        entry_mode,
        pin_verified: Some(pin),
        online: None,
        declines: 0,
        profile_changed: false,
    }
}

fn unattended(terminal: u32, amount_eur: f64, entry_mode: EntryMode, online: Online) -> Draft {
    Draft {
        terminal,
        amount_eur,
        entry_mode,
        pin_verified: None,
        online: Some(online),
        declines: 0,
        profile_changed: false,
    }
}

/// An amount of the terminal's category, EUR, as anyone might spend there.
fn usual_amount(rng: &mut impl Rng, world: &World, terminal: u32) -> f64 {
    let category = &CATEGORIES[usize::from(world.terminal(terminal).category)];
    lognormal(rng, category.log_mean, category.log_sd).max(0.01)
}

/// The index of the category of that name; a unit test holds that every name asked for exists.
fn category_of(name: &str) -> usize {
    CATEGORIES
        .iter()
        .position(|category| category.name == name)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    const NOW_MS: i64 = 1_767_571_200_000 + 9 * HOUR_MS;

    #[test]
    fn every_category_a_thief_asks_for_exists() {
        let names = [
            "electronics",
            "jewellery",
            "clothing",
            "cash",
            "fuel",
            "gift_cards",
        ];
        for name in names.into_iter().chain(["groceries", "services", "travel"]) {
            assert_eq!(CATEGORIES[category_of(name)].name, name);
        }
    }

    #[test]
    fn a_plan_lies_in_the_future_and_within_its_span() {
        let mut rng = stream(5, Purpose::Generation);
        let world = World::new(&mut rng, 300);
        let victim = Customer::settled(&mut rng, &world, NOW_MS);
        for i in 0..400 {
            let scenario = Scenario::ALL[i % 4];
            let plan = match scenario {
                Scenario::CompromisedTerminal => {
                    let shop = world.terminal_in(&mut rng, 0, 0);
                    plan_compromised(&mut rng, &world, shop, &[(3, &victim)], NOW_MS)
                }
                _ => plan_for_victim(&mut rng, &world, scenario, (3, &victim), NOW_MS),
            };
            assert!(!plan.is_empty());
            for planned in plan {
                assert!(planned.time_ms > NOW_MS && planned.time_ms < NOW_MS + PLAN_SPAN_MS);
                assert_eq!((planned.customer, planned.scenario), (3, scenario));
                let draft = planned.draft;
                let online = world.terminal(draft.terminal).position.is_none();
                assert!(draft.amount_eur > 0.0);
                assert_eq!(draft.online.is_some(), online);
                assert_eq!(draft.pin_verified.is_some(), !online);
                assert_eq!(draft.entry_mode.channel() == "online", online);
            }
        }
    }
}
