//! What the model expected of a field: the mean of its predictions over the views that read the field.

use super::survival::SurvivalTable;
use super::types::{Category, Expected};
use crate::encode::categorical::CategoricalEncoder;
use crate::encode::numeric::{CLIP, NumericEncoder};
use crate::encode::{FieldEncoder, HOURS, ValueEncoder, WEEKDAYS};
use crate::model::heads::{FieldView, Reading};
use crate::model::likelihood::Scale;
use crate::model::likelihood::histogram::Histogram;
use crate::model::likelihood::location_scale::Family;
use crate::model::ops::math::{sigmoid, softmax};
use serde_json::Value;

/// Categories named in an explanation.
const CATEGORIES_NAMED: usize = 3;
/// The interval that an explanation gives: 5 %, 50 % and 95 %.
const QUANTILES: [f32; 3] = [0.05, 0.5, 0.95];
/// What an explanation calls the class of all values too rare for one of their own.
const RARE: &str = "(rare value)";
const DAYS: [&str; WEEKDAYS] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// What was expected of a field, given its logits in every view that reads it (at least one).
///
/// `residuals` is the reference distribution of the field's mean surprise under its first reading: the width of the
/// interval when that reading is the squared error, which has none of its own.
pub fn expected(
    field: &FieldEncoder,
    head: FieldView<'_>,
    views: &[Vec<f32>],
    residuals: &SurvivalTable,
) -> Expected {
    let value = |logits: &'_ Vec<f32>| logits[head.value_start()..].to_vec();
    match &field.value {
        ValueEncoder::Numeric(encoder) => interval(encoder, head, views, residuals),
        ValueEncoder::Categorical(encoder) => {
            let probabilities = mean_softmax(views.iter().map(value));
            likeliest(&probabilities, |class| class_name(encoder, class))
        }
        ValueEncoder::Binary(encoder) => {
            let names = encoder.names();
            likeliest(&outcomes(head, views), |upper| names[upper].clone())
        }
        ValueEncoder::Boolean => {
            likeliest(&outcomes(head, views), |truth| (truth == 1).to_string())
        }
        ValueEncoder::Timestamp { .. } => {
            let hours = mean_softmax(views.iter().map(|v| value(v)[..HOURS].to_vec()));
            let days = mean_softmax(views.iter().map(|v| value(v)[HOURS..].to_vec()));
            let joint: Vec<f32> = days
                .iter()
                .flat_map(|day| hours.iter().map(move |hour| day * hour))
                .collect();
            likeliest(&joint, |i| format!("{} {:02}h", DAYS[i / HOURS], i % HOURS))
        }
    }
}

/// Whether the field was expected to be null, so that any value is a surprise: by the mean of its views, [V, o].
pub fn expects_null(head: FieldView<'_>, views: &[Vec<f32>]) -> bool {
    let null = |logits: &Vec<f32>| sigmoid(logits[0]);
    let nulls: f32 = views.iter().map(null).sum();
    head.value_start() > 0 && nulls / views.len() as f32 > 0.5
}

/// The probabilities of a Bernoulli head's two outcomes, no first.
fn outcomes(head: FieldView<'_>, views: &[Vec<f32>]) -> [f32; 2] {
    let yes = |logits: &Vec<f32>| sigmoid(logits[head.value_start()]);
    let sum: f32 = views.iter().map(yes).sum();
    let yes = sum / views.len() as f32;
    [1.0 - yes, yes]
}

fn class_name(encoder: &CategoricalEncoder, class: usize) -> String {
    encoder.class_value(class as u32).unwrap_or(RARE).to_owned()
}

fn mean_softmax(views: impl ExactSizeIterator<Item = Vec<f32>>) -> Vec<f32> {
    let share = 1.0 / views.len() as f32;
    let mut mean = Vec::new();
    for logits in views {
        let mut probabilities = vec![0.0; logits.len()];
        softmax(&logits, &mut probabilities);
        mean.resize(logits.len(), 0.0);
        mean.iter_mut()
            .zip(probabilities)
            .for_each(|(mean, p)| *mean += share * p);
    }
    mean
}

fn likeliest(probabilities: &[f32], name: impl Fn(usize) -> String) -> Expected {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let categories = order.into_iter().take(CATEGORIES_NAMED);
    let categories = categories.map(|class| Category {
        value: name(class),
        probability: probabilities[class],
    });
    Expected::Categories {
        categories: categories.collect(),
    }
}

/// Median, 5 % and 95 % in the field's own unit, from the first reading, on its scale.
fn interval(
    encoder: &NumericEncoder,
    head: FieldView<'_>,
    views: &[Vec<f32>],
    residuals: &SurvivalTable,
) -> Expected {
    let reading = head.reading_outputs().next();
    let scale = reading.as_ref().map(|(reading, _)| reading.scale());
    let [low, value, high] = match reading {
        Some((Reading::Histogram(histogram, _), range)) => {
            let mean = mean_softmax(views.iter().map(|v| v[range.clone()].to_vec()));
            QUANTILES.map(|q| histogram_quantile(histogram, &mean, q))
        }
        Some((Reading::LocationScale(Family::SquaredError, _), range)) => {
            let mean = views.iter().map(|v| v[range.start]).sum::<f32>() / views.len() as f32;
            let reach = residuals.quantile(0.9).max(0.0).sqrt();
            [mean - reach, mean, mean + reach]
        }
        Some((Reading::LocationScale(family, _), range)) => {
            let cumulative = |z: f32| {
                let sum: f32 = views
                    .iter()
                    .map(|v| family.cumulative(&v[range.clone()], z))
                    .sum();
                sum / views.len() as f32
            };
            QUANTILES.map(|q| bisect(cumulative, q))
        }
        None => [f32::NAN; 3],
    };
    // An amount was never below zero, so that no interval of one goes there.
    let least = if encoder.non_negative {
        0.0
    } else {
        f64::NEG_INFINITY
    };
    let number = |at: f32| {
        let at = at.clamp(-CLIP as f32, CLIP as f32);
        let decoded = match scale {
            Some(Scale::Quantile) => encoder.decode_quantile(at),
            _ => encoder.decode(at),
        };
        rounded(decoded.max(least))
    };
    Expected::Interval {
        value: number(value),
        low: number(low),
        high: number(high),
    }
}

/// Where the cumulative probability of the bins reaches q, linear within a bin of the squashed scale.
fn histogram_quantile(histogram: &Histogram, probabilities: &[f32], q: f32) -> f32 {
    let mut below = 0.0;
    for (bin, &p) in probabilities.iter().enumerate() {
        if below + p >= q {
            return histogram.edge(bin as f32 + (q - below) / p.max(f32::MIN_POSITIVE));
        }
        below += p;
    }
    histogram.edge(probabilities.len() as f32)
}

/// The z within the clip at which an increasing function reaches q: 40 halvings leave less than f32 can hold.
fn bisect(cumulative: impl Fn(f32) -> f32, q: f32) -> f32 {
    let (mut low, mut high) = (-CLIP as f32, CLIP as f32);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if cumulative(middle) < q {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// A number with six significant digits: more would feign a precision that a prediction does not have.
fn rounded(x: f64) -> Value {
    let text = format!("{x:.5e}");
    text.parse::<f64>()
        .ok()
        .and_then(serde_json::Number::from_f64)
        .map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::fee_encoder;
    use crate::model::Likelihood;
    use crate::model::heads::Heads;

    #[test]
    fn quantiles_of_a_histogram_lie_where_its_mass_is() {
        let histogram = Histogram::new(64, 1.0);
        let mut probabilities = vec![0.0; 64];
        let bin = histogram.bin(1.0);
        probabilities[bin] = 1.0;
        for q in QUANTILES {
            let z = histogram_quantile(&histogram, &probabilities, q);
            assert_eq!(histogram.bin(z), bin);
        }
    }

    #[test]
    fn quantiles_of_a_mixture_are_found_by_bisection() {
        // SciPy: stats.t.ppf(.95, 4) -> 2.131847. A robust location is fitted by the same density, and has its quantiles.
        for family in [Family::StudentT, Family::RobustSquaredError] {
            let z = bisect(|z| family.cumulative(&[0.0, 0.0], z), 0.95);
            assert!((z - 2.131_847).abs() < 1e-4, "{family:?} {z}");
        }
    }

    #[test]
    fn the_likeliest_categories_come_first_and_are_three() {
        let expected = likeliest(&[0.1, 0.5, 0.15, 0.25], |i| i.to_string());
        let Expected::Categories { categories } = expected else {
            unreachable!()
        };
        let names: Vec<_> = categories.iter().map(|c| c.value.as_str()).collect();
        assert_eq!(names, ["1", "3", "2"]);
    }

    #[test]
    fn a_number_of_two_values_is_expected_to_be_one_of_them() {
        let encoder = fee_encoder();
        let heads = Heads::new(&encoder, &[Likelihood::Histogram], &Histogram::new(64, 1.0));
        // The mean of sigmoid(-2) and sigmoid(0): NumPy: (1 / (1 + np.exp([2., 0.]))).mean() -> 0.309601
        let views = [vec![-2.0], vec![0.0]];
        let table = SurvivalTable::fit(&[]);
        let found = expected(&encoder.fields()[0], heads.field(0), &views, &table);
        let Expected::Categories { categories } = found else {
            unreachable!()
        };
        let found: Vec<_> = categories
            .iter()
            .map(|c| (c.value.as_str(), (c.probability * 1e5).round()))
            .collect();
        assert_eq!(found, [("0", 69_040.0), ("2.5", 30_960.0)]);
    }

    #[test]
    fn an_interval_is_read_on_the_scale_of_its_reading() {
        use crate::encode::EncoderFitter;
        use crate::schema::{Field, Kind};
        use arrow::array::{ArrayRef, Float64Array, RecordBatch};
        // NumPy: np.exp(scipy.stats.norm.ppf((np.arange(4000) + .5) / 4000)), a log-normal
        let amounts = (0..4000).map(|i| {
            use statrs::distribution::{ContinuousCDF, Normal};
            Normal::standard()
                .inverse_cdf((f64::from(i) + 0.5) / 4000.0)
                .exp()
        });
        let column: ArrayRef = std::sync::Arc::new(Float64Array::from_iter_values(amounts));
        let batch = RecordBatch::try_from_iter([("amount", column)]);
        let mut fitter = EncoderFitter::new(&[Field::feature("amount", Kind::Numeric)], 8);
        let fitted = batch
            .ok()
            .zip(fitter.as_mut().ok())
            .and_then(|(batch, fitter)| fitter.observe(&batch).ok());
        assert!(fitted.is_some());
        let encoder = fitter.map(EncoderFitter::finish);
        let Ok(Ok(encoder)) = encoder else {
            unreachable!()
        };
        let likelihood = [Likelihood::QuantileHistogram];
        let heads = Heads::new(&encoder, &likelihood, &Histogram::new(64, 1.0));
        let head = heads.field(0);
        let mut logits = vec![0.0; head.outputs().len()];
        // All mass in the bin of q = 1.2, an amount of exp(1.2), which is 0.8 deviations above the mean.
        let bin = Histogram::new(64, 1.0).bin(1.2);
        logits[head.value_start() + bin] = 40.0;
        let found = expected(
            &encoder.fields()[0],
            head,
            &[logits],
            &SurvivalTable::fit(&[]),
        );
        let Expected::Interval { value, low, high } = found else {
            unreachable!()
        };
        let [value, low, high] = [value, low, high].map(|x| x.as_f64().unwrap_or(f64::NAN));
        assert!(
            (2.8..4.0).contains(&value) && low < value && value < high,
            "{low} {value} {high}"
        );
    }

    #[test]
    fn predictions_have_six_digits() {
        assert_eq!(rounded(1234.567_89).to_string(), "1234.57");
        assert_eq!(rounded(f64::NAN), Value::Null);
    }
}
