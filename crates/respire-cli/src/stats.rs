//! The few statistics of a report.

/// The nearest-rank percentile: the smallest of the sorted values such that at least the part `p`
/// (from 0 to 1) of all values are not above it. `None` without values.
///
/// Ranks are exact for `p` with up to three decimals, the most that a report uses.
#[must_use]
pub fn nearest_rank<T: Copy>(sorted: &[T], p: f64) -> Option<T> {
    // In thousandths, so that 0.9 of 10 values is the 9th: 0.9 itself has no exact
    // representation, and a product that lies a hair above 9 would be the 10th.
    let thousandths = (p * 1000.0).round() as u128;
    let rank = (sorted.len() as u128 * thousandths).div_ceil(1000).max(1);
    sorted.get(rank as usize - 1).copied()
}

/// The arithmetic mean; `None` without values.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rank_is_always_one_of_the_values() {
        let values = [15, 20, 35, 40, 50];
        assert_eq!(nearest_rank(&values, 0.05), Some(15));
        assert_eq!(nearest_rank(&values, 0.3), Some(20));
        assert_eq!(nearest_rank(&values, 0.4), Some(20));
        assert_eq!(nearest_rank(&values, 0.5), Some(35));
        assert_eq!(nearest_rank(&values, 1.0), Some(50));
        assert_eq!(nearest_rank(&values, 0.0), Some(15));
        assert_eq!(nearest_rank(&[] as &[u8], 0.5), None);
        assert_eq!(nearest_rank(&[7], 0.999), Some(7));
    }

    #[test]
    fn ranks_are_exact_where_the_product_is_whole() {
        let values: Vec<usize> = (1..=10_000).collect();
        for (p, expected) in [(0.5, 5000), (0.9, 9000), (0.99, 9900), (0.999, 9990)] {
            assert_eq!(nearest_rank(&values, p), Some(expected));
            assert_eq!(nearest_rank(&values[..9999], p), Some(expected));
        }
        assert_eq!(nearest_rank(&values[..1001], 0.999), Some(1000));
    }

    #[test]
    fn a_mean_needs_values() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(mean(&[]), None);
    }
}
