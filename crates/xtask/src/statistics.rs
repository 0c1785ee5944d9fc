//! Medians and percentiles.

/// The value below which `share` (0 to 1) of the samples lie, by the nearest rank; sorts `samples`.
///
/// # Panics
/// Where there are no samples.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    assert!(!samples.is_empty(), "a percentile needs samples");
    samples.sort_unstable_by(f64::total_cmp);
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1]
}

/// The middle sample, the mean of the two middle ones where their number is even; sorts `samples`.
pub(crate) fn median(samples: &mut [f64]) -> f64 {
    let upper = percentile(samples, 0.5);
    if samples.len().is_multiple_of(2) {
        f64::midpoint(upper, samples[samples.len() / 2])
    } else {
        upper
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "the samples are small whole numbers and halves, exact in binary"
)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut [7.0]), 7.0);
    }

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut samples, 0.99), 99.0);
        assert_eq!(percentile(&mut samples, 0.5), 50.0);
        assert_eq!(percentile(&mut samples, 1.0), 100.0);
        assert_eq!(percentile(&mut samples, 0.0), 1.0);
    }
}
