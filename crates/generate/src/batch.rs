//! Payments as Arrow batches: the columns, their order and types, and the endless source of them.
//!
//! Invariant: the columns are those that `schemas/payments.toml` describes, in its order, and a
//! batch's rows do not depend on how the rows before were cut into batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::config::GeneratorConfig;
use super::error::GenerateError;
use super::origin::Origin;
use super::payment::{CARD_TYPES, DEVICES, Payment};
use super::simulation::Simulation;
use super::world::{CATEGORIES, COUNTRIES, World};

/// The Arrow schema of generated payments.
pub fn payment_schema() -> SchemaRef {
    let column = |name: &str, kind: DataType| Field::new(name, kind, false);
    let optional = |name: &str, kind: DataType| Field::new(name, kind, true);
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        column("payment_id", DataType::Utf8),
        column("time", time),
        column("customer_id", DataType::Utf8),
        column("terminal_id", DataType::Utf8),
        column("amount", DataType::Float64),
        column("amount_ratio", DataType::Float64),
        column("currency", DataType::Utf8),
        column("channel", DataType::Utf8),
        column("entry_mode", DataType::Utf8),
        column("merchant_category", DataType::Utf8),
        column("merchant_country", DataType::Utf8),
        column("home_country", DataType::Utf8),
        column("card_type", DataType::Utf8),
        optional("device", DataType::Utf8),
        optional("new_device", DataType::Boolean),
        optional("device_payments", DataType::Int64),
        optional("ip_country", DataType::Utf8),
        optional("address_match", DataType::Boolean),
        optional("pin_verified", DataType::Boolean),
        column("new_terminal", DataType::Boolean),
        optional("distance_km", DataType::Float64),
        column("seconds_since_last", DataType::Int64),
        column("payments_24h", DataType::Int64),
        column("payments_1h", DataType::Int64),
        column("amount_24h_ratio", DataType::Float64),
        column("new_terminals_1h", DataType::Int64),
        column("declines_24h", DataType::Int64),
        column("profile_age_days", DataType::Float64),
        optional("speed_kmh", DataType::Float64),
        column("terminal_manual_24h", DataType::Int64),
        column("is_fraud", DataType::Boolean),
        optional("fraud_scenario", DataType::Utf8),
    ]))
}

/// The source of payments: endless, in time order, fixed by its configuration.
#[derive(Debug)]
pub struct Generator {
    simulation: Simulation,
    /// The world, and the payments made or left out.
    origin: Origin,
    schema: SchemaRef,
}

impl Generator {
    /// Builds customers and terminals and lives through the days before the start, about 10
    /// payments a customer.
    ///
    /// # Errors
    /// [`GenerateError::OutOfRange`] for a value of the configuration that is.
    pub fn new(config: &GeneratorConfig) -> Result<Self, GenerateError> {
        let simulation = Simulation::new(config)?;
        Ok(Self {
            simulation,
            origin: Origin {
                config: config.clone(),
                payments: 0,
            },
            schema: payment_schema(),
        })
    }

    /// The next `rows` payments, in time order. Time is never before the configuration's start.
    ///
    /// # Errors
    /// [`GenerateError::Batch`] if Arrow refuses the columns.
    pub fn next_batch(&mut self, rows: usize) -> Result<RecordBatch, GenerateError> {
        let mut columns = Columns::with_capacity(rows);
        for _ in 0..rows {
            if let Some(payment) = self.simulation.next_payment() {
                columns.append(self.origin.config.seed, self.simulation.world(), &payment);
            }
        }
        self.origin.payments += rows as u64;
        columns.finish(&self.schema)
    }

    /// Leaves out the next `payments`, which take their time all the same: what follows knows of them.
    pub fn skip(&mut self, payments: u64) {
        for _ in 0..payments {
            self.simulation.next_payment();
        }
        self.origin.payments += payments;
    }

    /// The world, and how many of its payments were made or left out.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// An iterator of batches of `batch_rows` (at least 1) payments that ends only when dropped.
    pub fn batches(self, batch_rows: usize) -> Batches {
        Batches {
            generator: self,
            batch_rows: batch_rows.max(1),
        }
    }
}

/// Endless batches: the iterator of [`Generator::batches`].
#[derive(Debug)]
pub struct Batches {
    generator: Generator,
    batch_rows: usize,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.generator.next_batch(self.batch_rows))
    }
}

/// One builder a column.
struct Columns {
    payment_id: StringBuilder,
    time: TimestampMillisecondBuilder,
    customer_id: StringBuilder,
    terminal_id: StringBuilder,
    amount: Float64Builder,
    amount_ratio: Float64Builder,
    currency: StringBuilder,
    channel: StringBuilder,
    entry_mode: StringBuilder,
    merchant_category: StringBuilder,
    merchant_country: StringBuilder,
    home_country: StringBuilder,
    card_type: StringBuilder,
    device: StringBuilder,
    new_device: BooleanBuilder,
    device_payments: Int64Builder,
    ip_country: StringBuilder,
    address_match: BooleanBuilder,
    pin_verified: BooleanBuilder,
    new_terminal: BooleanBuilder,
    distance_km: Float64Builder,
    seconds_since_last: Int64Builder,
    payments_24h: Int64Builder,
    payments_1h: Int64Builder,
    amount_24h_ratio: Float64Builder,
    new_terminals_1h: Int64Builder,
    declines_24h: Int64Builder,
    profile_age_days: Float64Builder,
    speed_kmh: Float64Builder,
    terminal_manual_24h: Int64Builder,
    is_fraud: BooleanBuilder,
    fraud_scenario: StringBuilder,
}

impl Columns {
    fn with_capacity(rows: usize) -> Self {
        let text = || StringBuilder::with_capacity(rows, rows * 12);
        let number = || Float64Builder::with_capacity(rows);
        let integer = || Int64Builder::with_capacity(rows);
        let flag = || BooleanBuilder::with_capacity(rows);
        Self {
            payment_id: text(),
            time: TimestampMillisecondBuilder::with_capacity(rows),
            customer_id: text(),
            terminal_id: text(),
            amount: number(),
            amount_ratio: number(),
            currency: text(),
            channel: text(),
            entry_mode: text(),
            merchant_category: text(),
            merchant_country: text(),
            home_country: text(),
            card_type: text(),
            device: text(),
            new_device: flag(),
            device_payments: integer(),
            ip_country: text(),
            address_match: flag(),
            pin_verified: flag(),
            new_terminal: flag(),
            distance_km: number(),
            seconds_since_last: integer(),
            payments_24h: integer(),
            payments_1h: integer(),
            amount_24h_ratio: number(),
            new_terminals_1h: integer(),
            declines_24h: integer(),
            profile_age_days: number(),
            speed_kmh: number(),
            terminal_manual_24h: integer(),
            is_fraud: flag(),
            fraud_scenario: text(),
        }
    }

    fn append(&mut self, seed: u64, world: &World, payment: &Payment) {
        let draft = &payment.draft;
        let place = world.terminal(draft.terminal);
        let country = &COUNTRIES[usize::from(place.country)];
        let online = draft.online.as_ref();
        self.payment_id
            .append_value(format!("{:016x}", payment_id(seed, payment.number)));
        self.time.append_value(payment.time_ms);
        self.customer_id
            .append_value(format!("c{:07}", payment.customer));
        self.terminal_id
            .append_value(format!("t{:07}", draft.terminal));
        self.amount.append_value(payment.amount);
        self.amount_ratio.append_value(payment.amount_ratio);
        self.currency.append_value(country.currency);
        self.channel.append_value(draft.entry_mode.channel());
        self.entry_mode.append_value(draft.entry_mode.name());
        self.merchant_category
            .append_value(CATEGORIES[usize::from(place.category)].name);
        self.merchant_country.append_value(country.code);
        self.home_country
            .append_value(COUNTRIES[usize::from(payment.home_country)].code);
        self.card_type
            .append_value(CARD_TYPES[usize::from(payment.card_type)].0);
        self.device
            .append_option(online.map(|o| DEVICES[usize::from(o.device)].0));
        self.new_device.append_option(online.map(|o| o.new_device));
        self.device_payments
            .append_option(online.map(|o| i64::from(o.device_payments)));
        self.ip_country
            .append_option(online.map(|o| COUNTRIES[usize::from(o.ip_country)].code));
        self.address_match
            .append_option(online.map(|o| o.address_match));
        self.pin_verified.append_option(draft.pin_verified);
        self.new_terminal.append_value(payment.new_terminal);
        self.distance_km.append_option(payment.distance_km);
        self.seconds_since_last
            .append_value(payment.seconds_since_last);
        self.payments_24h.append_value(payment.payments_24h);
        self.payments_1h.append_value(payment.payments_1h);
        self.amount_24h_ratio.append_value(payment.amount_24h_ratio);
        self.new_terminals_1h.append_value(payment.new_terminals_1h);
        self.declines_24h.append_value(payment.declines_24h);
        self.profile_age_days.append_value(payment.profile_age_days);
        self.speed_kmh.append_option(payment.speed_kmh);
        self.terminal_manual_24h
            .append_value(payment.terminal_manual_24h);
        self.is_fraud.append_value(payment.scenario.is_some());
        self.fraud_scenario
            .append_option(payment.scenario.map(|scenario| scenario.name()));
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch, GenerateError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.payment_id.finish()),
            Arc::new(self.time.finish().with_timezone("UTC")),
            Arc::new(self.customer_id.finish()),
            Arc::new(self.terminal_id.finish()),
            Arc::new(self.amount.finish()),
            Arc::new(self.amount_ratio.finish()),
            Arc::new(self.currency.finish()),
            Arc::new(self.channel.finish()),
            Arc::new(self.entry_mode.finish()),
            Arc::new(self.merchant_category.finish()),
            Arc::new(self.merchant_country.finish()),
            Arc::new(self.home_country.finish()),
            Arc::new(self.card_type.finish()),
            Arc::new(self.device.finish()),
            Arc::new(self.new_device.finish()),
            Arc::new(self.device_payments.finish()),
            Arc::new(self.ip_country.finish()),
            Arc::new(self.address_match.finish()),
            Arc::new(self.pin_verified.finish()),
            Arc::new(self.new_terminal.finish()),
            Arc::new(self.distance_km.finish()),
            Arc::new(self.seconds_since_last.finish()),
            Arc::new(self.payments_24h.finish()),
            Arc::new(self.payments_1h.finish()),
            Arc::new(self.amount_24h_ratio.finish()),
            Arc::new(self.new_terminals_1h.finish()),
            Arc::new(self.declines_24h.finish()),
            Arc::new(self.profile_age_days.finish()),
            Arc::new(self.speed_kmh.finish()),
            Arc::new(self.terminal_manual_24h.finish()),
            Arc::new(self.is_fraud.finish()),
            Arc::new(self.fraud_scenario.finish()),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

/// The name of a payment: its number, mixed by the finaliser of SplitMix64 (Steele et al. 2014),
/// which maps 64-bit numbers one to one, so that no two payments of a seed share one and none tells
/// its place in the order.
fn payment_id(seed: u64, number: u64) -> u64 {
    let mut z = (number + 1).wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use arrow::array::{Array, AsArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};

    use super::*;

    fn generate(config: &GeneratorConfig, rows: usize) -> RecordBatch {
        Generator::new(config).unwrap().next_batch(rows).unwrap()
    }

    fn small() -> GeneratorConfig {
        GeneratorConfig {
            customers: 400,
            terminals: 300,
            ..Default::default()
        }
    }

    fn median(mut numbers: Vec<f64>) -> f64 {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    }

    #[test]
    fn the_same_seed_gives_the_same_payments_however_they_are_cut() {
        let whole = generate(&small(), 2_000);
        let mut generator = Generator::new(&small()).unwrap();
        let parts: Vec<_> = [1, 999, 0, 1_000]
            .map(|rows| generator.next_batch(rows).unwrap())
            .into();
        assert_eq!(whole, concat_batches(&payment_schema(), &parts).unwrap());
        let mut later = Generator::new(&small()).unwrap();
        later.skip(1_000);
        assert_eq!(later.next_batch(1_000).unwrap(), parts[3]);
        let other = generate(&GeneratorConfig { seed: 1, ..small() }, 2_000);
        assert_ne!(whole, other);
    }

    #[test]
    fn payments_come_in_time_order_from_the_start_with_names_of_their_own() {
        let batch = generate(&small(), 20_000);
        let times = batch["time"]
            .as_primitive::<TimestampMillisecondType>()
            .values();
        assert!(times.is_sorted());
        assert!(times[0] >= small().start_unix_s * 1_000);
        let ids = batch["payment_id"].as_string::<i32>();
        let distinct: HashSet<&str> = ids.iter().flatten().collect();
        assert_eq!(distinct.len(), batch.num_rows());
        assert!(distinct.iter().all(|id| id.len() == 16));
    }

    #[test]
    fn the_fraud_share_is_the_configured_one_and_every_scenario_occurs() {
        for share in [0.0, 0.005, 0.1] {
            let batch = generate(
                &GeneratorConfig {
                    fraud_share: share,
                    ..small()
                },
                40_000,
            );
            let found = batch["is_fraud"].as_boolean().true_count() as f64 / 40_000.0;
            // Frauds come in groups of up to two dozen, so the count is some groups off.
            assert!(
                (found - share).abs() <= 0.2 * share + 0.0005,
                "{found} of {share}"
            );
            let scenarios = batch["fraud_scenario"].as_string::<i32>();
            assert_eq!(
                scenarios.null_count(),
                40_000 - batch["is_fraud"].as_boolean().true_count()
            );
            let mut counts = HashMap::new();
            for name in scenarios.iter().flatten() {
                *counts.entry(name).or_insert(0) += 1;
            }
            assert_eq!(counts.len(), if share > 0.0 { 4 } else { 0 }, "{counts:?}");
        }
    }

    #[test]
    fn the_smallest_world_with_the_most_fraud_still_runs() {
        let config = GeneratorConfig {
            customers: 10,
            terminals: 10,
            fraud_share: 0.2,
            ..Default::default()
        };
        let batch = generate(&config, 5_000);
        assert_eq!(batch.num_rows(), 5_000);
        assert!(batch["is_fraud"].as_boolean().true_count() > 500);
    }

    #[test]
    fn nulls_are_where_they_mean_something() {
        let batch = generate(&small(), 5_000);
        let channel = batch["channel"].as_string::<i32>();
        for row in 0..batch.num_rows() {
            let online = channel.value(row) == "online";
            for name in ["distance_km", "speed_kmh", "pin_verified"] {
                assert_eq!(batch[name].is_null(row), online, "{name} {row}");
            }
            for name in [
                "device",
                "new_device",
                "device_payments",
                "ip_country",
                "address_match",
            ] {
                assert_eq!(batch[name].is_null(row), !online, "{name} {row}");
            }
        }
        let amounts = batch["amount"].as_primitive::<Float64Type>();
        assert!(amounts.values().iter().all(|&a| a >= 0.01 && a.is_finite()));
    }

    #[test]
    fn every_column_is_in_the_shipped_schema() {
        let text = include_str!("../../../schemas/payments.toml");
        let schema = maskwatch_core::schema::Schema::parse(text, "schemas/payments.toml").unwrap();
        let mut paths: Vec<String> = schema.fields().iter().map(|f| f.path.to_string()).collect();
        paths.dedup();
        let columns: Vec<String> = payment_schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        assert_eq!(paths, columns);
        assert_eq!(schema.features().count(), 23);
    }

    /// Whole weeks of payments, as weekdays differ: the rows from day `from` to day `to`.
    fn days(batch: &RecordBatch, from: i64, to: i64) -> RecordBatch {
        let times = batch["time"]
            .as_primitive::<TimestampMillisecondType>()
            .values();
        let row = |day: i64| {
            times.partition_point(|&t| t < (small().start_unix_s + day * 86_400) * 1_000)
        };
        batch.slice(row(from), row(to) - row(from))
    }

    #[test]
    fn the_first_days_look_like_later_ones() {
        let config = GeneratorConfig {
            fraud_share: 0.0,
            customers: 1_500,
            ..small()
        };
        let batch = generate(&config, 150_000);
        let (first, later) = (days(&batch, 0, 14), days(&batch, 28, 42));
        assert!(later.num_rows() > 30_000);
        let ratio = |batch: &RecordBatch| {
            median(
                batch["amount_ratio"]
                    .as_primitive::<Float64Type>()
                    .values()
                    .to_vec(),
            )
        };
        let gap = |batch: &RecordBatch| {
            let gaps = batch["seconds_since_last"].as_primitive::<Int64Type>();
            median(gaps.values().iter().map(|&g| g as f64).collect())
        };
        let daily = |batch: &RecordBatch| {
            let counts = batch["payments_24h"].as_primitive::<Int64Type>();
            counts.values().iter().sum::<i64>() as f64 / batch.num_rows() as f64
        };
        let new = |batch: &RecordBatch| {
            batch["new_terminal"].as_boolean().true_count() as f64 / batch.num_rows() as f64
        };
        let far = |batch: &RecordBatch| {
            let distances = batch["distance_km"].as_primitive::<Float64Type>();
            let far = distances.iter().flatten().filter(|&d| d > 50.0).count();
            far as f64 / batch.num_rows() as f64
        };
        let device = |batch: &RecordBatch| {
            let payments = batch["device_payments"].as_primitive::<Int64Type>();
            median(payments.iter().flatten().map(|p| p as f64).collect())
        };
        let fast = |batch: &RecordBatch| {
            let speeds = batch["speed_kmh"].as_primitive::<Float64Type>();
            let fast = speeds.iter().flatten().filter(|&s| s > 20.0).count();
            fast as f64 / batch.num_rows() as f64
        };
        for (name, statistic, tolerance) in [
            ("amount_ratio", &ratio as &dyn Fn(&RecordBatch) -> f64, 0.05),
            ("seconds_since_last", &gap, 0.07),
            ("payments_24h", &daily, 0.07),
            ("device_payments", &device, 0.15),
            ("speed_kmh", &fast, 0.2),
            ("new_terminal", &new, 0.07),
            ("distance_km", &far, 0.2),
        ] {
            let (a, b) = (statistic(&first), statistic(&later));
            assert!(
                (a / b - 1.0).abs() < tolerance,
                "{name}: first {a}, later {b}"
            );
        }
    }

    #[test]
    fn frauds_differ_from_genuine_payments_in_no_single_sure_way() {
        let batch = generate(
            &GeneratorConfig {
                fraud_share: 0.05,
                ..small()
            },
            30_000,
        );
        let fraud = batch["is_fraud"].as_boolean();
        let share = |name: &str, odd: &dyn Fn(usize) -> bool, of: bool| {
            let rows: Vec<usize> = (0..30_000).filter(|&row| fraud.value(row) == of).collect();
            let share = rows.iter().filter(|&&row| odd(row)).count() as f64 / rows.len() as f64;
            assert!(share > 0.0, "{name} never among {of}");
            share
        };
        let ratio = batch["amount_ratio"].as_primitive::<Float64Type>();
        let distance = batch["distance_km"].as_primitive::<Float64Type>();
        let entry = batch["entry_mode"].as_string::<i32>();
        let device = batch["new_device"].as_boolean();
        let speed = batch["speed_kmh"].as_primitive::<Float64Type>();
        let hourly = batch["payments_1h"].as_primitive::<Int64Type>();
        let age = batch["device_payments"].as_primitive::<Int64Type>();
        let places = batch["new_terminals_1h"].as_primitive::<Int64Type>();
        let spent = batch["amount_24h_ratio"].as_primitive::<Float64Type>();
        let declines = batch["declines_24h"].as_primitive::<Int64Type>();
        let profile = batch["profile_age_days"].as_primitive::<Float64Type>();
        let address = batch["address_match"].as_boolean();
        let typed = batch["terminal_manual_24h"].as_primitive::<Int64Type>();
        let odd: [(&str, &dyn Fn(usize) -> bool); 13] = [
            ("fast", &|row| {
                speed.is_valid(row) && speed.value(row) > 500.0
            }),
            ("busy", &|row| hourly.value(row) > 2),
            ("young device", &|row| {
                age.is_valid(row) && age.value(row) < 5
            }),
            ("strange places", &|row| places.value(row) > 2),
            ("typed in", &|row| typed.value(row) > 0),
            ("declined", &|row| declines.value(row) > 1),
            ("new profile", &|row| profile.value(row) < 1.0),
            ("other address", &|row| {
                address.is_valid(row) && !address.value(row)
            }),
            ("a dear day", &|row| spent.value(row) > 20.0),
            ("dear", &|row| ratio.value(row) > 4.0),
            ("far", &|row| {
                distance.is_valid(row) && distance.value(row) > 100.0
            }),
            ("magstripe", &|row| entry.value(row) == "magstripe"),
            ("new device", &|row| {
                device.is_valid(row) && device.value(row)
            }),
        ];
        for (name, odd) in odd {
            let (genuine, planted) = (share(name, odd, false), share(name, odd, true));
            assert!(planted > 2.0 * genuine, "{name}: {planted} and {genuine}");
            assert!(planted < 0.6, "{name} gives {planted} of all frauds away");
        }
    }
}
