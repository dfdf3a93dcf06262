//! Who has its turn when, and what came of it.

/// The order of so many sides in a round: another one first each time, so that none always comes after the same.
pub fn order(round: usize, sides: usize) -> impl Iterator<Item = usize> {
    (0..sides).map(move |place| (round + place) % sides)
}

/// A side's result on a workload.
#[derive(Clone, Debug)]
pub enum Outcome<F> {
    /// It did everything right.
    Measured(F),
    /// It could not take part, or did something wrong.
    Fails(String),
}

impl<F> Outcome<F> {
    /// The figures, if there are any.
    pub fn figures(&self) -> Option<&F> {
        match self {
            Self::Measured(figures) => Some(figures),
            Self::Fails(_) => None,
        }
    }
}

impl<F> From<anyhow::Result<F>> for Outcome<F> {
    fn from(result: anyhow::Result<F>) -> Self {
        match result {
            Ok(figures) => Self::Measured(figures),
            Err(error) => Self::Fails(format!("{error:#}")),
        }
    }
}

/// The figures of a side that took part and did not fail.
pub fn figures<S: PartialEq + Copy, F>(sides: &[(S, Outcome<F>)], side: S) -> Option<&F> {
    sides
        .iter()
        .find(|(candidate, _)| *candidate == side)
        .and_then(|(_, outcome)| outcome.figures())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_first_in_turn_and_nobody_twice_in_a_round() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(round, 3).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(order(5, 0).count(), 0);
    }

    #[test]
    fn only_sides_that_did_not_fail_have_figures() {
        let sides = [('a', Outcome::from(Ok(1))), ('b', Outcome::from(Err(anyhow::anyhow!("no"))))];
        assert_eq!(figures(&sides, 'a'), Some(&1));
        assert_eq!(figures(&sides, 'b'), None);
        assert_eq!(figures(&sides, 'c'), None);
    }
}
