//! What was measured, round after round, and what it amounts to.

/// One figure per round of a run, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds the figure of the next round.
    pub fn push(&mut self, nanoseconds: f64) {
        self.0.push(nanoseconds);
    }

    /// Number of rounds so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was no round yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// How far apart the middle half of the figures is, as a share of the median:
    /// half the distance between the quartiles.
    pub fn spread(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / 2.0 / self.median()
    }

    /// How many times as long as `other` this took: the median of the ratios of
    /// the single rounds, so that what slowed a whole round down cancels out.
    pub fn ratio(&self, other: &Series) -> f64 {
        self.ratios(other).median()
    }

    /// How many times as long as `other` this took, round by round.
    #[must_use]
    pub fn ratios(&self, other: &Series) -> Series {
        self.0.iter().zip(&other.0).map(|(this, that)| this / that).collect()
    }

    /// Every figure divided by `divisor`.
    #[must_use]
    pub fn per(&self, divisor: f64) -> Series {
        Series(self.0.iter().map(|figure| figure / divisor).collect())
    }

    /// Between the two figures nearest to the place, in proportion.
    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = share * sorted.len().saturating_sub(1) as f64;
        let below = sorted.get(place.floor() as usize).copied().unwrap_or(f64::NAN);
        let above = sorted.get(place.ceil() as usize).copied().unwrap_or(f64::NAN);
        below + (above - below) * place.fract()
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// A time in the unit that suits it, with three digits or so.
pub fn nanoseconds(figure: f64) -> String {
    let (figure, unit) = match figure {
        f if f < 1e3 => (f, "ns"),
        f if f < 1e6 => (f / 1e3, "µs"),
        f => (f / 1e6, "ms"),
    };
    match figure {
        f if f < 10.0 => format!("{f:.2} {unit}"),
        f if f < 100.0 => format!("{f:.1} {unit}"),
        f => format!("{f:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: &[f64]) -> Series {
        figures.iter().copied().collect()
    }

    #[test]
    fn median_and_spread_do_not_depend_on_the_order() {
        let figures = series(&[9.0, 1.0, 5.0, 3.0, 7.0]);
        assert_eq!(figures.median(), 5.0);
        assert_eq!(figures.spread(), 0.4);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
    }

    #[test]
    fn a_slow_round_leaves_the_ratio_alone() {
        let (slow, fast) = (series(&[20.0, 200.0, 22.0]), series(&[10.0, 100.0, 11.0]));
        assert_eq!(slow.ratio(&fast), 2.0);
    }

    #[test]
    fn an_empty_series_has_no_median() {
        assert!(Series::default().median().is_nan());
    }

    #[test]
    fn times_are_printed_in_the_unit_that_suits_them() {
        assert_eq!(nanoseconds(8.912), "8.91 ns");
        assert_eq!(nanoseconds(367.2), "367 ns");
        assert_eq!(nanoseconds(15_430.0), "15.4 µs");
        assert_eq!(nanoseconds(4.17e6), "4.17 ms");
    }
}
