//! Which achieved goal replaces the desired one.

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Where a hindsight goal comes from (Andrychowicz et al. 2017, section 4.5). At time `t` of an
/// episode with achieved goals `ag_0 .. ag_T`:
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The desired goal stays.
    None,
    /// `ag_T`.
    Final,
    /// `ag_t'`, `t'` uniform in `t+1 ..= T`. The present is left out: a goal achieved already
    /// teaches a policy nothing.
    #[default]
    Future,
    /// `ag_t'`, `t' = min(t + 1 + Geometric(1 - gamma), T)`: near goals more often.
    Geometric {
        /// The chance to look one step further.
        gamma: f64,
    },
    /// `ag_t'`, `t'` uniform in `0 ..= T`.
    Episode,
    /// Any achieved goal of any episode.
    Random,
}

/// Not a strategy's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "expected none, final, future, episode, random or geometric:GAMMA with GAMMA from 0 to below 1, found {0}"
)]
pub struct StrategyError(String);

impl std::str::FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(name: &str) -> Result<Self, StrategyError> {
        match name {
            "none" => Ok(Self::None),
            "final" => Ok(Self::Final),
            "future" => Ok(Self::Future),
            "episode" => Ok(Self::Episode),
            "random" => Ok(Self::Random),
            _ => {
                let gamma = name.strip_prefix("geometric:").and_then(|gamma| gamma.parse().ok());
                let gamma = gamma.filter(|gamma| (0.0..1.0).contains(gamma));
                gamma.map(|gamma| Self::Geometric { gamma }).ok_or(StrategyError(name.into()))
            }
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Final => f.write_str("final"),
            Self::Future => f.write_str("future"),
            Self::Geometric { gamma } => write!(f, "geometric:{gamma}"),
            Self::Episode => f.write_str("episode"),
            Self::Random => f.write_str("random"),
        }
    }
}

/// How a batch is relabelled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hindsight {
    /// Where the goals come from.
    pub strategy: Strategy,
    /// Share of samples that are relabelled; the rest keeps the desired goal.
    pub probability: f64,
    /// Leave out samples whose new goal is achieved already, within this distance (m): for object
    /// tasks, where the object has not moved yet and any action would be 'right'.
    pub already_achieved: Option<f32>,
}

impl Default for Hindsight {
    fn default() -> Self {
        Self { strategy: Strategy::Future, probability: 1.0, already_achieved: None }
    }
}

/// A place in a replay buffer whose achieved goal is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The desired goal.
    Desired,
    /// The goal achieved at this time of the same episode.
    Same(usize),
    /// A goal achieved in any episode.
    Anywhere,
}

impl Strategy {
    /// The goal for time `t` of an episode whose last time is `last`; `t < last`.
    pub(super) fn draw(self, t: usize, last: usize, rng: &mut Rng) -> Source {
        match self {
            Self::None => Source::Desired,
            Self::Final => Source::Same(last),
            Self::Future => Source::Same(rng.random_range(t + 1..=last)),
            Self::Geometric { gamma } => {
                let gamma = gamma.clamp(0.0, 1.0 - 1e-9);
                let u: f64 = 1.0 - rng.random::<f64>();
                let ahead = if gamma > 0.0 { (u.ln() / gamma.ln()) as usize } else { 0 };
                Source::Same(t.saturating_add(1).saturating_add(ahead).min(last))
            }
            Self::Episode => Source::Same(rng.random_range(0..=last)),
            Self::Random => Source::Anywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::rng::{Stream, stream};
    use proptest::strategy::Strategy as _;
    use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest, strategy::Just};

    fn strategies() -> impl proptest::strategy::Strategy<Value = super::Strategy> {
        use super::Strategy as S;
        prop_oneof![
            Just(S::None),
            Just(S::Final),
            Just(S::Future),
            (0.0..1.0f64).prop_map(|gamma| S::Geometric { gamma }),
            Just(S::Episode),
            Just(S::Random)
        ]
    }

    proptest! {
        #[test]
        fn every_strategy_draws_from_its_own_range(
            strategy in strategies(), last in 1usize..300, part in 0.0..1.0f64, seed in 0u64..1000,
        ) {
            let t = ((last as f64) * part) as usize;
            let t = t.min(last - 1);
            let mut rng = stream(seed, Stream::Training);
            use super::Strategy as S;
            match (strategy, strategy.draw(t, last, &mut rng)) {
                (S::None, source) => prop_assert_eq!(source, Source::Desired),
                (S::Random, source) => prop_assert_eq!(source, Source::Anywhere),
                (S::Final, source) => prop_assert_eq!(source, Source::Same(last)),
                (S::Episode, Source::Same(at)) => prop_assert!(at <= last),
                (S::Future | S::Geometric { .. }, Source::Same(at)) => {
                    prop_assert!(at > t && at <= last, "t {} last {} at {}", t, last, at);
                }
                (strategy, source) => prop_assert!(false, "{strategy:?} drew {source:?}"),
            }
        }
    }

    #[test]
    fn a_strategy_is_read_by_the_name_that_it_prints() {
        use super::Strategy as S;
        let all =
            [S::None, S::Final, S::Future, S::Geometric { gamma: 0.95 }, S::Episode, S::Random];
        assert!(all.iter().all(|strategy| strategy.to_string().parse() == Ok(*strategy)));
        for name in ["", "Future", "geometric", "geometric:1", "geometric:-0.1", "geometric:NaN"] {
            assert!(name.parse::<S>().is_err(), "{name}");
        }
    }

    #[test]
    fn future_is_uniform_over_what_is_left() {
        let mut rng = stream(5, Stream::Training);
        let mut counts = [0u32; 4];
        for _ in 0..40_000 {
            let Source::Same(at) = super::Strategy::Future.draw(6, 10, &mut rng) else { panic!() };
            counts[at - 7] += 1;
        }
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    fn geometric_looks_one_over_one_minus_gamma_ahead_on_average() {
        let mut rng = stream(6, Stream::Training);
        let strategy = super::Strategy::Geometric { gamma: 0.9 };
        let n = 40_000;
        let total: usize = (0..n)
            .map(|_| match strategy.draw(0, 1_000_000, &mut rng) {
                Source::Same(at) => at,
                other => panic!("{other:?}"),
            })
            .sum();
        let mean = total as f64 / f64::from(n);
        assert!((mean - 10.0).abs() < 0.3, "{mean}");
    }
}
