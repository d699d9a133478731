//! Medians and percentiles, and two measurements in turns.

use std::time::Duration;

/// The `part` (0 to 1) percentile, by nearest rank.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// Microseconds.
pub fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What came of measuring two things in turns.
#[derive(Debug, Default)]
pub struct Pairs {
    pub figures: Vec<f64>,
    pub limits: Vec<f64>,
}

impl Pairs {
    /// Measures both in each of `rounds`, the other one first in every second round.
    pub fn measure(rounds: usize, mut figure: impl FnMut() -> f64, mut limit: impl FnMut() -> f64) -> Self {
        let mut pairs = Self::default();
        for round in 0..rounds {
            if round % 2 == 0 {
                pairs.figures.push(figure());
                pairs.limits.push(limit());
            } else {
                pairs.limits.push(limit());
                pairs.figures.push(figure());
            }
        }
        pairs
    }

    /// Median of figure over limit, round by round: both halves of a round saw the same machine.
    pub fn ratio(&self) -> f64 {
        let ratios: Vec<f64> = self.figures.iter().zip(&self.limits).map(|(f, l)| f / l).collect();
        median(&ratios)
    }
}
