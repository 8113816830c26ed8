//! Action chunks: a policy that answers with its next `k` actions at once.

use serde::{Deserialize, Serialize};

use super::{MAX_AHEAD, PolicyError};
use crate::joints::{JointVec, stack};

/// The longest chunk.
pub const MAX_HORIZON: usize = 512;

/// What is done with chunks of `horizon` actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Actions in a chunk, one a tick, the first for the tick of the observation.
    pub horizon: usize,
    /// How they become one action a tick.
    pub mode: ChunkMode,
    /// With [`ChunkMode::Replan`]: this many actions are used before the policy is asked again.
    #[serde(default = "one")]
    pub execute: usize,
    /// With [`ChunkMode::Ensemble`]: how fast newer chunks lose weight, `m`.
    #[serde(default)]
    pub decay: f32,
}

/// How chunks become one action a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkMode {
    /// Some actions of a chunk are used, then the policy is asked again.
    Replan,
    /// The policy is asked every tick and the action is the mean of all chunks' actions for that
    /// tick, weighted `w_i = exp(-m i)` with the oldest at `i = 0` (Zhao et al. 2023, *Learning
    /// Fine-Grained Bimanual Manipulation with Low-Cost Hardware*, section IV).
    Ensemble,
}

fn one() -> usize {
    1
}

impl Default for Chunk {
    /// One action at a time.
    fn default() -> Self {
        Self { horizon: 1, mode: ChunkMode::Replan, execute: 1, decay: 0.0 }
    }
}

impl Chunk {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let bad = |expected: String| Err(PolicyError::BadSpec(expected));
        if !(1..=MAX_HORIZON).contains(&self.horizon) {
            return bad(format!(
                "chunk.horizon: expected 1 to {MAX_HORIZON}, found {}",
                self.horizon
            ));
        }
        if !(1..=self.horizon).contains(&self.execute) {
            let Self { horizon, execute, .. } = self;
            return bad(format!("chunk.execute: expected 1 to {horizon}, found {execute}"));
        }
        if !(0.0..=10.0).contains(&self.decay) {
            return bad(format!("chunk.decay: expected 0 to 10, found {}", self.decay));
        }
        Ok(())
    }

    /// Ticks that an answer may take while the chunk before still has actions.
    pub fn patience(&self) -> usize {
        let left = match self.mode {
            ChunkMode::Replan => self.horizon - self.execute.min(self.horizon),
            ChunkMode::Ensemble => self.horizon - 1,
        };
        left.min(MAX_AHEAD)
    }
}

/// Turns chunks into one action a tick; allocates only when it is made.
pub(super) struct Chunks {
    how: Chunk,
    width: usize,
    /// The chunk given last, `[k, a]`.
    newest: Vec<f32>,
    /// Its tick.
    asked: Option<u64>,
    /// Weights of the chunks for one tick by their age, the oldest first.
    weights: Vec<f32>,
    /// The weighted sums for the coming ticks: tick `t` stands at `t mod k`.
    coming: Vec<Coming>,
}

/// What the chunks so far say about one tick.
#[derive(Clone, Default)]
struct Coming {
    tick: u64,
    chunks: usize,
    weight: f32,
    sum: JointVec<f32>,
}

impl Chunks {
    pub(super) fn new(how: Chunk, width: usize) -> Self {
        let kept = if how.mode == ChunkMode::Ensemble { how.horizon } else { 0 };
        Self {
            width,
            newest: vec![0.0; how.horizon * width],
            asked: None,
            weights: (0..kept).map(|i| (-how.decay * i as f32).exp()).collect(),
            coming: vec![Coming::default(); kept],
            how,
        }
    }

    /// Forgets all chunks.
    pub(super) fn reset(&mut self) {
        self.asked = None;
        self.coming.iter_mut().for_each(|c| c.chunks = 0);
    }

    /// Whether the policy is asked at this tick. One that is asked about a tick again gets to see
    /// the new observation.
    pub(super) fn due(&self, tick: u64) -> bool {
        let inside = |asked: u64| asked < tick && tick - asked < self.how.execute as u64;
        self.how.mode == ChunkMode::Ensemble || !self.asked.is_some_and(inside)
    }

    /// Where the policy's answer goes, before it is [taken](Self::take).
    pub(super) fn buffer(&mut self) -> &mut [f32] {
        // While it is written it is nobody's chunk: the run may fail.
        self.asked = None;
        &mut self.newest
    }

    /// The buffer now holds the chunk for `tick` and those after it.
    pub(super) fn take(&mut self, tick: u64) {
        self.asked = Some(tick);
        if self.coming.is_empty() {
            return;
        }
        for (tick, action) in (tick..).zip(self.newest.chunks_exact(self.width)) {
            let place = (tick % self.how.horizon as u64) as usize;
            let Some(coming) = self.coming.get_mut(place) else { continue };
            if coming.tick != tick || coming.chunks == 0 {
                *coming =
                    Coming { tick, sum: stack(action.iter().map(|_| 0.0)), ..Coming::default() };
            }
            let weight = self.weights.get(coming.chunks).copied().unwrap_or(0.0);
            coming.chunks += 1;
            coming.weight += weight;
            for (sum, x) in coming.sum.iter_mut().zip(action) {
                *sum += weight * x;
            }
        }
    }

    /// The action for a tick, if a chunk reaches that far.
    pub(super) fn at(&self, tick: u64) -> Option<JointVec<f32>> {
        if self.how.mode == ChunkMode::Replan {
            let age = usize::try_from(tick.checked_sub(self.asked?)?).ok()?;
            let start = age.checked_mul(self.width)?;
            return Some(stack(self.newest.get(start..start + self.width)?.iter().copied()));
        }
        let coming = self.coming.get((tick % self.how.horizon as u64) as usize)?;
        let known = coming.tick == tick && coming.chunks > 0;
        known.then(|| coming.sum.iter().map(|x| x / coming.weight).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(mode: ChunkMode, execute: usize, decay: f32) -> Chunks {
        Chunks::new(Chunk { horizon: 4, mode, execute, decay }, 2)
    }

    /// The chunk that a policy gives at `tick`: element j is (tick, j).
    fn answer(chunks: &mut Chunks, tick: u64) {
        for (j, action) in chunks.buffer().chunks_exact_mut(2).enumerate() {
            action.copy_from_slice(&[tick as f32, j as f32]);
        }
        chunks.take(tick);
    }

    #[test]
    fn replanning_uses_so_many_actions_and_asks_again_and_missed_ticks_are_skipped() {
        let mut chunks = chunks(ChunkMode::Replan, 3, 0.0);
        let mut found = Vec::new();
        for tick in [10, 11, 12, 13, 15, 16, 40] {
            if chunks.due(tick) {
                answer(&mut chunks, tick);
            }
            found.push(chunks.at(tick).unwrap().to_vec());
        }
        let expected =
            [[10., 0.], [10., 1.], [10., 2.], [13., 0.], [13., 2.], [16., 0.], [40., 0.]];
        assert_eq!(found, expected);
        assert_eq!(chunks.at(43).unwrap().to_vec(), [40.0, 3.0]);
        assert_eq!(chunks.at(44), None);
        chunks.reset();
        assert!(chunks.due(41) && chunks.at(41).is_none());
    }

    #[test]
    fn ensembling_is_the_weighted_mean_of_all_chunks_for_a_tick() {
        let decay = 0.3_f32;
        let mut chunks = chunks(ChunkMode::Ensemble, 1, decay);
        let asked = [5_u64, 6, 8, 9, 10, 11, 12];
        for (n, now) in asked.iter().enumerate() {
            assert!(chunks.due(*now));
            answer(&mut chunks, *now);
            // The definition, from the whole history.
            let of_now: Vec<u64> = asked[..=n].iter().copied().filter(|t| now - t < 4).collect();
            let weights: Vec<f32> = (0..of_now.len()).map(|i| (-decay * i as f32).exp()).collect();
            let mean = |value: &dyn Fn(u64) -> f32| {
                let sum: f32 = of_now.iter().zip(&weights).map(|(t, w)| w * value(*t)).sum();
                sum / weights.iter().sum::<f32>()
            };
            let found = chunks.at(*now).unwrap();
            assert!((found[0] - mean(&|t| t as f32)).abs() < 1e-5, "{now}: {found:?}");
            assert!((found[1] - mean(&|t| (now - t) as f32)).abs() < 1e-5, "{now}: {found:?}");
        }
        // What only the newest chunk reaches is its last action.
        assert_eq!(chunks.at(15).unwrap().to_vec(), [12.0, 3.0]);
        chunks.reset();
        assert_eq!(chunks.at(12), None);
    }
}
