//! What was measured: values by name, of which the median is told, and single ones of which the worst is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

/// All figures of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    values: BTreeMap<&'static str, Vec<f64>>,
    worst: BTreeMap<&'static str, f64>,
}

impl Samples {
    /// One more value; the median of all is what is told.
    pub(crate) fn add(&mut self, name: &'static str, value: f64) {
        self.values.entry(name).or_default().push(value);
    }

    /// A value of which the largest is told.
    pub(crate) fn worst(&mut self, name: &'static str, value: f64) {
        let there = self.worst.entry(name).or_insert(value);
        *there = there.max(value);
    }

    /// What is told under a name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let values = self.values.get(name).map(|values| median(values));
        values.or_else(|| self.worst.get(name).copied())
    }

    /// Lowest and highest value, and how many there are.
    pub(crate) fn spread(&self, name: &str) -> Option<(f64, f64, usize)> {
        let values = self.values.get(name)?;
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some((low, high, values.len()))
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> Value {
        let names = self.values.keys().chain(self.worst.keys());
        let told = names.filter_map(|name| {
            let value = (self.get(name)? * 1000.0).round() / 1000.0;
            Some(((*name).to_owned(), Value::from(value)))
        });
        Value::Object(told.collect::<Map<_, _>>())
    }
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// The time that 99 of 100 stay below, in milliseconds.
pub(crate) fn p99_ms(times: &[Duration]) -> f64 {
    percentile_ms(times, 99)
}

/// The time that `percent` of 100 stay below, in milliseconds.
pub(crate) fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |time| ms(*time))
}

/// As milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// As MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_told_and_of_single_values_the_worst() {
        let mut samples = Samples::default();
        for value in [3.0, 1.0, 2.0, 10.0] {
            samples.add("rate", value);
            samples.worst("errors", value);
        }
        assert_eq!(samples.get("rate"), Some(2.5));
        assert_eq!(samples.get("errors"), Some(10.0));
        assert_eq!(samples.spread("rate"), Some((1.0, 10.0, 4)));
        assert_eq!(samples.json().to_string(), r#"{"errors":10.0,"rate":2.5}"#);
    }

    #[test]
    fn the_99th_of_100_times() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert!((p99_ms(&times) - 99.0).abs() < 1e-9);
        assert!((p99_ms(&times[..1]) - 100.0).abs() < 1e-9);
    }
}
