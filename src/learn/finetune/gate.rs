//! Whether a candidate may take the place of the policy it was made from: it must not be worse than it,
//! by more than chance explains, on episodes that it did not learn from and in the emulator.

use serde::{Deserialize, Serialize};

use crate::learn::evaluate::Rate;

/// So many standard deviations count as chance.
const SIGMAS: f64 = 2.0;

/// The loss of both policies on the same batches of the episodes kept aside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossTest {
    /// Mean loss of the base.
    pub before: f32,
    /// Mean loss of the candidate.
    pub after: f32,
    /// Standard deviation of the mean of the differences.
    pub sigma: f32,
    /// Batches.
    pub batches: usize,
}

impl LossTest {
    /// The test of the losses of base and candidate, batch by batch.
    pub fn of(before: &[f32], after: &[f32]) -> Self {
        let n = before.len().min(after.len());
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n.max(1) as f64;
        let change = || after.iter().zip(before).map(|(a, b)| f64::from(a - b));
        let centre = mean(&mut change());
        let spread = mean(&mut change().map(|d| (d - centre).powi(2)));
        let variance = spread / n.saturating_sub(1).max(1) as f64;
        Self {
            before: mean(&mut before.iter().map(|x| f64::from(*x))) as f32,
            after: mean(&mut after.iter().map(|x| f64::from(*x))) as f32,
            sigma: variance.sqrt() as f32,
            batches: n,
        }
    }

    /// Why the candidate is refused.
    fn objection(&self) -> Option<String> {
        let Self { before, after, sigma, batches } = *self;
        // Also false where any of them is not a number.
        let passed = batches > 0 && f64::from(after - before) <= SIGMAS * f64::from(sigma);
        (!passed).then(|| {
            format!(
                "on the episodes kept aside its loss is {after:.3e}, the base's is {before:.3e}: worse by \
                 more than {SIGMAS} sigma ({:.3e})",
                SIGMAS as f32 * sigma
            )
        })
    }
}

/// The goals that both policies reached in the emulator, out of the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SuccessTest {
    /// The base's successes.
    pub before: Rate,
    /// The candidate's.
    pub after: Rate,
    /// Goals that only the candidate reached.
    pub gained: usize,
    /// Goals that only the base reached.
    pub lost: usize,
}

impl SuccessTest {
    /// The test of both policies' successes, goal by goal.
    pub fn of(before: &[bool], after: &[bool]) -> Self {
        let rate = |of: &[bool]| Rate { successes: of.iter().filter(|s| **s).count(), n: of.len() };
        let count = |gone| before.iter().zip(after).filter(|pair| *pair == gone).count();
        Self {
            before: rate(before),
            after: rate(after),
            gained: count((&false, &true)),
            lost: count((&true, &false)),
        }
    }

    /// Why the candidate is refused. Only goals that one of the two reached tell them apart (McNemar,
    /// 1947): if both were as good, gains less losses would have the variance of their sum.
    fn objection(&self) -> Option<String> {
        let (gained, lost) = (self.gained as f64, self.lost as f64);
        let passed = self.after.n > 0 && gained - lost >= -SIGMAS * (gained + lost).sqrt();
        (!passed).then(|| {
            format!(
                "in the emulator it reached {}, the base {}: {lost} goals lost and {gained} gained are \
                 more than {SIGMAS} sigma apart",
                self.after, self.before
            )
        })
    }
}

/// The tests of a candidate and what came of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// On the episodes kept aside.
    pub loss: Option<LossTest>,
    /// In the emulator.
    pub success: Option<SuccessTest>,
    /// Why the emulator was not asked.
    pub note: Option<String>,
    /// Why the candidate is refused; it passed where this is empty.
    pub objections: Vec<String>,
}

/// What came of the emulator.
#[derive(Debug, Clone, PartialEq)]
pub enum Emulated {
    /// Both policies were tried.
    Tried(SuccessTest),
    /// The candidate could not be tried to the end.
    Failed(String),
    /// There is no emulator for this task, or none was asked for.
    None(String),
}

impl Gate {
    /// The verdict. A candidate that nothing could be held against because nothing was kept aside is
    /// refused.
    pub fn judge(loss: Option<LossTest>, emulated: Emulated) -> Self {
        let unjudged =
            "no episode could be kept aside to judge it by: log at least two that differ";
        let mut objections: Vec<String> = match &loss {
            Some(test) => test.objection().into_iter().collect(),
            None => vec![unjudged.into()],
        };
        let (success, note) = match emulated {
            Emulated::Tried(test) => {
                objections.extend(test.objection());
                (Some(test), None)
            }
            Emulated::Failed(why) => {
                objections.push(format!("in the emulator it failed: {why}"));
                (None, None)
            }
            Emulated::None(why) => (None, Some(why)),
        };
        Self { loss, success, note, objections }
    }

    /// Whether the candidate may be staged.
    pub fn passed(&self) -> bool {
        self.objections.is_empty()
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.passed() {
            return write!(f, "refused: {}", self.objections.join("; "));
        }
        f.write_str("passed")?;
        if let Some(LossTest { before, after, .. }) = self.loss {
            write!(f, ": loss on episodes kept aside {before:.3e} -> {after:.3e}")?;
        }
        if let Some(SuccessTest { before, after, .. }) = self.success {
            write!(f, ", success in the emulator {before} -> {after}")?;
        }
        self.note.iter().try_for_each(|note| write!(f, " ({note})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Emulated {
        Emulated::None("no emulator".into())
    }

    fn passes(before: &[f32], after: &[f32]) -> bool {
        Gate::judge(Some(LossTest::of(before, after)), nobody()).passed()
    }

    #[test]
    fn a_loss_that_is_worse_by_more_than_chance_is_refused() {
        let base = [1.0, 1.2, 0.8, 1.1];
        assert!(passes(&base, &[0.5, 0.6, 0.4, 0.5]), "better");
        assert!(passes(&base, &base), "the same");
        assert!(passes(&base, &[1.3, 0.9, 1.1, 0.9]), "now better, now worse");
        assert!(!passes(&base, &[1.1, 1.3, 0.9, 1.2]), "worse every time");
    }

    #[test]
    fn what_is_not_a_number_never_passes() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(!passes(&[1.0; 4], &[0.5, 0.5, bad, 0.5]), "{bad}");
            assert!(!passes(&[0.5, 0.5, bad, 0.5], &[bad; 4]), "{bad}");
        }
        assert!(!passes(&[], &[]));
    }

    #[test]
    fn nothing_to_judge_by_is_a_refusal() {
        let gate = Gate::judge(None, nobody());
        assert!(!gate.passed() && gate.to_string().contains("log at least two"), "{gate}");
    }

    #[test]
    fn goals_lost_count_only_beyond_chance() {
        let tried = |lost: usize, gained: usize| {
            let before: Vec<bool> = (0..100).map(|i| i < 50).collect();
            let after = (0..100).map(|i| if i < 50 { i >= lost } else { i < 50 + gained });
            let test = SuccessTest::of(&before, &after.collect::<Vec<_>>());
            assert_eq!((test.lost, test.gained), (lost, gained));
            let loss = Some(LossTest::of(&[1.0; 4], &[0.5; 4]));
            Gate::judge(loss, Emulated::Tried(test)).passed()
        };
        assert!(tried(0, 0) && tried(0, 50) && tried(4, 0) && tried(14, 6));
        assert!(!tried(5, 0) && !tried(20, 8) && !tried(50, 0));
        let loss = Some(LossTest::of(&[1.0; 4], &[0.5; 4]));
        assert!(!Gate::judge(loss, Emulated::Failed("a fault".into())).passed());
    }
}
