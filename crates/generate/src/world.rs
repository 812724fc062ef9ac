//! The places where payments happen: countries, cities in them, and terminals in cities or online.
//!
//! Built once from the seed, never changed. The tables below are rough (a country is a circle,
//! prices are those of Europe in EUR): they give the fields of a payment the dependencies real ones
//! have, not a country's statistics.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// One country: where its cities lie, and how many customers and travellers are there.
#[derive(Debug)]
pub(super) struct Country {
    /// ISO 3166-1 alpha-2.
    pub(super) code: &'static str,
    /// ISO 4217.
    pub(super) currency: &'static str,
    /// Units of the currency for one EUR.
    pub(super) per_eur: f64,
    latitude: f64,
    longitude: f64,
    radius_km: f64,
    /// Relative number of cities.
    weight: f64,
    /// Relative number of customers a city; 0 for a country that is only travelled to.
    home: f64,
    /// Relative number of travellers a city.
    visits: f64,
}

const fn country(
    (code, currency, per_eur): (&'static str, &'static str, f64),
    (latitude, longitude, radius_km): (f64, f64, f64),
    (weight, home, visits): (f64, f64, f64),
) -> Country {
    Country {
        code,
        currency,
        per_eur,
        latitude,
        longitude,
        radius_km,
        weight,
        home,
        visits,
    }
}

/// Every country, the ones with most customers first.
pub(super) const COUNTRIES: [Country; 16] = [
    country(("DE", "EUR", 1.0), (51.0, 10.0, 280.0), (14.0, 1.3, 1.0)),
    country(("FR", "EUR", 1.0), (47.0, 2.5, 330.0), (9.0, 1.0, 1.5)),
    country(("NL", "EUR", 1.0), (52.2, 5.3, 80.0), (5.0, 0.8, 0.8)),
    country(("BE", "EUR", 1.0), (50.7, 4.6, 70.0), (3.0, 0.7, 0.5)),
    country(("AT", "EUR", 1.0), (47.6, 14.2, 160.0), (4.0, 0.8, 1.5)),
    country(("IT", "EUR", 1.0), (43.5, 12.0, 300.0), (6.0, 0.5, 2.5)),
    country(("ES", "EUR", 1.0), (40.3, -3.5, 330.0), (5.0, 0.5, 3.0)),
    country(("PL", "PLN", 4.3), (52.1, 19.3, 240.0), (4.0, 0.5, 0.5)),
    country(("CZ", "CZK", 25.0), (49.8, 15.4, 120.0), (2.0, 0.5, 0.8)),
    country(("SE", "SEK", 11.3), (59.0, 15.5, 220.0), (2.0, 0.4, 0.5)),
    country(("DK", "DKK", 7.46), (55.8, 10.2, 110.0), (2.0, 0.5, 0.6)),
    country(("GB", "GBP", 0.86), (52.5, -1.5, 220.0), (5.0, 0.5, 1.5)),
    country(("CH", "CHF", 0.95), (47.0, 7.9, 90.0), (2.0, 0.7, 1.2)),
    country(("US", "USD", 1.1), (40.5, -78.0, 700.0), (2.0, 0.0, 1.2)),
    country(("TR", "TRY", 40.0), (38.5, 32.0, 380.0), (2.0, 0.0, 1.5)),
    country(("TH", "THB", 37.0), (13.5, 100.8, 250.0), (1.0, 0.0, 0.7)),
];

/// Hours in which a category is paid.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opening {
    /// Round the clock.
    Always,
    /// Shops: 8 to 20 h.
    Day,
    /// Noon and evening.
    Meals,
    /// Evening and night.
    Night,
}

impl Opening {
    /// How much likelier the category is at `hour` (0..=23) than over the whole day; above zero.
    pub(super) fn weight(self, hour: usize) -> f32 {
        match (self, hour) {
            (Self::Always, _) => 1.0,
            (Self::Day, 8..=19) => 1.4,
            (Self::Day, _) => 0.15,
            (Self::Meals, 11..=13 | 18..=21) => 2.2,
            (Self::Meals, _) => 0.5,
            (Self::Night, 18..=23 | 0..=3) => 2.5,
            (Self::Night, _) => 0.1,
        }
    }
}

/// One kind of merchant.
#[derive(Debug)]
pub(super) struct Category {
    /// Its name in records.
    pub(super) name: &'static str,
    /// Mean of ln(amount in EUR).
    pub(super) log_mean: f64,
    /// Standard deviation of ln(amount) among one customer's payments.
    pub(super) log_sd: f64,
    /// Relative number of payments.
    pub(super) popularity: f32,
    /// Share of its payments that are made online.
    pub(super) online: f64,
    /// When it is paid.
    pub(super) opening: Opening,
}

const fn category(
    name: &'static str,
    (log_mean, log_sd): (f64, f64),
    (popularity, online): (f32, f64),
    opening: Opening,
) -> Category {
    Category {
        name,
        log_mean,
        log_sd,
        popularity,
        online,
        opening,
    }
}

/// How many categories there are.
pub(super) const CATEGORIES_LEN: usize = CATEGORIES.len();
/// Small digital purchases: games, apps, songs. Genuine customers make bursts of them.
pub(super) const DIGITAL_GOODS: u8 = 1;
/// Every category.
pub(super) const CATEGORIES: [Category; 18] = [
    category("groceries", (3.2, 0.75), (24.0, 0.06), Opening::Day),
    category("digital_goods", (1.6, 0.8), (6.0, 1.0), Opening::Always),
    category("restaurant", (3.1, 0.6), (11.0, 0.12), Opening::Meals),
    category("fast_food", (2.3, 0.4), (9.0, 0.15), Opening::Meals),
    category("fuel", (3.9, 0.35), (7.0, 0.0), Opening::Always),
    category("transport", (2.1, 0.8), (8.0, 0.5), Opening::Always),
    category("clothing", (3.9, 0.7), (5.0, 0.5), Opening::Day),
    category("electronics", (4.7, 0.95), (2.2, 0.6), Opening::Day),
    category("pharmacy", (2.7, 0.6), (4.5, 0.1), Opening::Day),
    category("home_garden", (3.9, 0.9), (3.5, 0.35), Opening::Day),
    category("travel", (5.3, 0.9), (1.4, 0.85), Opening::Always),
    category("hotel", (5.0, 0.6), (1.2, 0.5), Opening::Always),
    category("entertainment", (3.2, 0.6), (4.0, 0.6), Opening::Night),
    category("bar", (2.8, 0.6), (4.0, 0.0), Opening::Night),
    category("cash", (4.4, 0.6), (4.0, 0.0), Opening::Always),
    category("jewellery", (4.9, 1.0), (0.5, 0.3), Opening::Day),
    category("services", (3.7, 0.9), (4.0, 0.55), Opening::Day),
    category("gift_cards", (3.6, 0.5), (0.7, 0.9), Opening::Always),
];

/// A place on the globe, degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    latitude: f32,
    longitude: f32,
}

const KM_PER_DEGREE: f64 = 111.2;

impl Position {
    /// A place scattered round `centre` (normal, `sd_km` in each direction).
    fn near(rng: &mut impl Rng, centre: (f64, f64), sd_km: f64) -> Self {
        let (north, east): (f64, f64) = (rng.sample(StandardNormal), rng.sample(StandardNormal));
        let latitude = centre.0 + north * sd_km / KM_PER_DEGREE;
        let shrink = latitude.to_radians().cos().max(0.1);
        let longitude = centre.1 + east * sd_km / (KM_PER_DEGREE * shrink);
        Self {
            latitude: latitude as f32,
            longitude: longitude as f32,
        }
    }

    /// Great-circle distance by the haversine formula, km.
    pub(super) fn distance_km(self, other: Self) -> f64 {
        let radians = |degrees: f32| f64::from(degrees).to_radians();
        let (a, b) = (radians(self.latitude), radians(other.latitude));
        let half_north = (b - a) / 2.0;
        let half_east = (radians(other.longitude) - radians(self.longitude)) / 2.0;
        let h = half_north.sin().powi(2) + a.cos() * b.cos() * half_east.sin().powi(2);
        2.0 * 6_371.0 * h.min(1.0).sqrt().asin()
    }
}

/// A city.
#[derive(Debug)]
pub(super) struct City {
    /// Index into [`COUNTRIES`].
    pub(super) country: u8,
    centre: (f64, f64),
    /// Relative number of customers and terminals.
    size: f64,
}

/// A place or an online shop that takes cards.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Index into [`CATEGORIES`].
    pub(super) category: u8,
    /// Index into [`COUNTRIES`].
    pub(super) country: u8,
    /// Where it stands; none for an online merchant.
    pub(super) position: Option<Position>,
}

/// Terminals a city: enough that most categories are there.
const TERMINALS_A_CITY: usize = 30;
const CITIES_MAX: usize = 60;
/// One terminal in six is an online merchant.
const ONLINE_SHARE: f64 = 1.0 / 6.0;
const TERMINAL_SPREAD_KM: f64 = 4.0;
const HOME_SPREAD_KM: f64 = 6.0;

/// All places.
#[derive(Debug)]
pub(super) struct World {
    /// At least one.
    pub(super) cities: Vec<City>,
    /// At least two: one in a city, one online.
    pub(super) terminals: Vec<Terminal>,
    /// Terminals by city and category, `city * CATEGORIES_LEN + category`.
    in_store: Vec<Vec<u32>>,
    /// Terminals by city; never an empty one.
    by_city: Vec<Vec<u32>>,
    /// Online merchants by category.
    online: Vec<Vec<u32>>,
    /// All online merchants; not empty.
    all_online: Vec<u32>,
    homes: Vec<f64>,
    destinations: Vec<f64>,
}

impl World {
    /// Draws cities and `terminals_len` (>= 2) terminals.
    pub(super) fn new(rng: &mut impl Rng, terminals_len: usize) -> Self {
        let cities_len = (terminals_len / TERMINALS_A_CITY).clamp(1, CITIES_MAX);
        let cities: Vec<City> = (0..cities_len).map(|i| City::draw(rng, i == 0)).collect();
        let cumulate = |weight: &dyn Fn(&City) -> f64| cumulative(cities.iter().map(weight));
        let homes = cumulate(&|c| c.size * COUNTRIES[usize::from(c.country)].home);
        let sizes = cumulate(&|c| c.size);
        let destinations = cumulate(&|c| c.size * COUNTRIES[usize::from(c.country)].visits);
        let mut world = Self {
            in_store: vec![Vec::new(); cities_len * CATEGORIES_LEN],
            by_city: vec![Vec::new(); cities_len],
            online: vec![Vec::new(); CATEGORIES_LEN],
            all_online: Vec::new(),
            terminals: Vec::with_capacity(terminals_len),
            cities,
            homes,
            destinations,
        };
        for i in 0..terminals_len {
            // The first terminals go one to each city and the next is online, so that no list of
            // places is empty.
            let forced = (i < cities_len).then_some(i);
            let online = i == cities_len || (forced.is_none() && rng.random_bool(ONLINE_SHARE));
            let city = forced.unwrap_or_else(|| pick(&sizes, rng));
            world.add_terminal(rng, online, city);
        }
        world
    }

    fn add_terminal(&mut self, rng: &mut impl Rng, online: bool, city: usize) {
        let index = self.terminals.len() as u32;
        let share = |c: &Category| {
            let part = if online { c.online } else { 1.0 - c.online };
            f64::from(c.popularity).sqrt() * part
        };
        let category = pick(&cumulative(CATEGORIES.iter().map(share)), rng);
        let City {
            country, centre, ..
        } = self.cities[city];
        let position = (!online).then(|| Position::near(rng, centre, TERMINAL_SPREAD_KM));
        self.terminals.push(Terminal {
            category: category as u8,
            country,
            position,
        });
        if online {
            self.online[category].push(index);
            self.all_online.push(index);
        } else {
            self.in_store[city * CATEGORIES_LEN + category].push(index);
            self.by_city[city].push(index);
        }
    }

    /// A city for a customer to live in.
    pub(super) fn home_city(&self, rng: &mut impl Rng) -> usize {
        pick(&self.homes, rng)
    }

    /// A city to travel to; may be the one the traveller lives in.
    pub(super) fn destination(&self, rng: &mut impl Rng) -> usize {
        pick(&self.destinations, rng)
    }

    /// Somewhere to live in `city`.
    pub(super) fn residence(&self, rng: &mut impl Rng, city: usize) -> Position {
        Position::near(rng, self.cities[city].centre, HOME_SPREAD_KM)
    }

    /// A terminal in `city`, of the category where the city has one; the first of a list are the
    /// busiest.
    pub(super) fn terminal_in(&self, rng: &mut impl Rng, city: usize, category: usize) -> u32 {
        let fitting = &self.in_store[city * CATEGORIES_LEN + category];
        pick_busy(
            if fitting.is_empty() {
                &self.by_city[city]
            } else {
                fitting
            },
            rng,
        )
    }

    /// An online merchant, of the category where there is one.
    pub(super) fn online_merchant(&self, rng: &mut impl Rng, category: usize) -> u32 {
        let fitting = &self.online[category];
        pick_busy(
            if fitting.is_empty() {
                &self.all_online
            } else {
                fitting
            },
            rng,
        )
    }

    /// The terminal of that index.
    pub(super) fn terminal(&self, index: u32) -> &Terminal {
        &self.terminals[index as usize]
    }
}

impl City {
    /// The first city must be one where customers live.
    fn draw(rng: &mut impl Rng, inhabited: bool) -> Self {
        let weight = |c: &Country| {
            if inhabited && c.home == 0.0 {
                0.0
            } else {
                c.weight
            }
        };
        let country = pick(&cumulative(COUNTRIES.iter().map(weight)), rng);
        let place = &COUNTRIES[country];
        let centre = Position::near(
            rng,
            (place.latitude, place.longitude),
            place.radius_km / 2.0,
        );
        let size = (0.8 * rng.sample::<f64, _>(StandardNormal)).exp();
        Self {
            country: country as u8,
            centre: (f64::from(centre.latitude), f64::from(centre.longitude)),
            size,
        }
    }
}

/// Running sums of `weights`.
pub(super) fn cumulative(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// An index drawn in proportion to the weights whose running sums are given (not empty, the last
/// above zero).
pub(super) fn pick(cumulative: &[f64], rng: &mut impl Rng) -> usize {
    let total = cumulative.last().copied().unwrap_or(0.0);
    let at = rng.random::<f64>() * total;
    cumulative
        .partition_point(|&sum| sum <= at)
        .min(cumulative.len().saturating_sub(1))
}

/// One of `list` (not empty), the density falling as 1/sqrt(rank).
fn pick_busy(list: &[u32], rng: &mut impl Rng) -> u32 {
    let u: f64 = rng.random();
    list[((u * u * list.len() as f64) as usize).min(list.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn the_distance_from_berlin_to_paris_is_known() {
        let berlin = Position {
            latitude: 52.52,
            longitude: 13.405,
        };
        let paris = Position {
            latitude: 48.8566,
            longitude: 2.3522,
        };
        assert!((berlin.distance_km(paris) - 877.5).abs() < 2.0);
        assert_eq!(paris.distance_km(paris), 0.0);
    }

    #[test]
    fn even_the_smallest_world_has_a_shop_in_every_city_and_one_online() {
        for terminals in [10, 61, 500] {
            let mut rng = stream(3, Purpose::Generation);
            let world = World::new(&mut rng, terminals);
            assert_eq!(world.terminals.len(), terminals);
            for city in 0..world.cities.len() {
                for category in 0..CATEGORIES_LEN {
                    let shop = world.terminal_in(&mut rng, city, category);
                    assert!(world.terminal(shop).position.is_some());
                    let online = world.online_merchant(&mut rng, category);
                    assert!(world.terminal(online).position.is_none());
                }
            }
            let home = world.home_city(&mut rng);
            assert!(COUNTRIES[usize::from(world.cities[home].country)].home > 0.0);
        }
    }

    #[test]
    fn a_weight_of_zero_is_never_picked() {
        let mut rng = stream(3, Purpose::Generation);
        let sums = cumulative([0.0, 1.0, 0.0, 2.0, 0.0].into_iter());
        let mut hits = [0; 5];
        for _ in 0..3_000 {
            hits[pick(&sums, &mut rng)] += 1;
        }
        assert_eq!((hits[0], hits[2], hits[4]), (0, 0, 0));
        assert!(
            (hits[3] as f64 / hits[1] as f64 - 2.0).abs() < 0.3,
            "{hits:?}"
        );
    }

    #[test]
    fn digital_goods_are_where_their_index_says() {
        assert_eq!(CATEGORIES[usize::from(DIGITAL_GOODS)].name, "digital_goods");
    }
}
