//! What the policy gets from the discriminator.
//!
//! With the logit `z` and `D = sigmoid(z)`, expert = 1, each of these grows with `D`. They differ in
//! sign, and the sign decides whether an agent wants its episode to end:
//!
//! | reward | sign | an agent that cannot imitate yet |
//! |---|---|---|
//! | `log D` | never above 0 | ends its episodes early if it can |
//! | `-log(1 - D)` | never below 0 | keeps its episodes going if it can |
//! | `log D - log(1 - D) = z` | both | depends on `D` |

use serde::{Deserialize, Serialize};

use crate::env::Ends;

/// A reward for looking like the expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImitationReward {
    /// `log D` (goalGAIL; Ho & Ermon's code where episodes end on success).
    LogD,
    /// `-log(1 - D)` (Ho & Ermon's code where episodes end on failure).
    MinusLogOneMinusD,
    /// `log D - log(1 - D) = z` (Fu et al. 2018, AIRL).
    Logit,
}

impl ImitationReward {
    /// The reward of a logit; finite for every finite logit.
    pub fn of(self, z: f32) -> f32 {
        match self {
            Self::LogD => -softplus(-z),
            Self::MinusLogOneMinusD => softplus(z),
            Self::Logit => z,
        }
    }

    /// The reward that fits what cuts an environment's episodes short, and why.
    pub fn fitting(ends: Ends) -> (Self, &'static str) {
        match ends {
            Ends::Success => (
                Self::LogD,
                "log D: episodes end on success, and a reward that is never above 0 makes the agent \
                 hurry there",
            ),
            Ends::Failure => (
                Self::MinusLogOneMinusD,
                "-log(1 - D): episodes end on failure, and a reward that is never below 0 keeps the \
                 agent from it",
            ),
            Ends::Never => (
                Self::Logit,
                "the logit: only the time limit ends episodes, so the reward's sign cannot lead the \
                 agent astray, and the logit does not fade on either side",
            ),
        }
    }
}

/// `log(1 + exp x)` without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reward_grows_with_d_and_stays_finite_where_d_is_sure() {
        use ImitationReward as R;
        for reward in [R::LogD, R::MinusLogOneMinusD, R::Logit] {
            let rewards: Vec<f32> =
                [-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4].map(|z| reward.of(z)).to_vec();
            assert!(rewards.iter().all(|r| r.is_finite()), "{reward:?} {rewards:?}");
            assert!(rewards.is_sorted(), "{reward:?} {rewards:?}");
        }
        assert!((R::LogD.of(0.7) - sigmoid(0.7).ln()).abs() < 1e-6);
        assert!((R::MinusLogOneMinusD.of(0.7) + (1.0 - sigmoid(0.7)).ln()).abs() < 1e-6);
    }

    #[test]
    fn an_ending_on_failure_is_never_worth_it_and_one_on_success_always() {
        for z in [-5.0, 0.0, 5.0] {
            assert!(ImitationReward::fitting(Ends::Failure).0.of(z) > 0.0);
            assert!(ImitationReward::fitting(Ends::Success).0.of(z) < 0.0);
        }
    }
}
