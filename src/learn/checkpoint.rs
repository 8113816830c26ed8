//! Everything that decides how a training goes on, as one file.

mod bytes;

use std::collections::BTreeMap;

use crate::goal::{ReplayBuffer, Trajectory};
use crate::rng::Rng;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file is no checkpoint, or damaged.
    #[error("expected a checkpoint of regoal, found {0}")]
    Format(String),
    /// It is of another training.
    #[error("expected a checkpoint with `{0}`, found none: it belongs to another training")]
    Missing(String),
    /// It is of a training with another policy, data, engine or settings.
    #[error(
        "expected the checkpoint of this training, found one with another policy, data, engine or \
         settings: go on with what it was begun with, or begin anew without --resume"
    )]
    Foreign,
    /// A tensor has another size.
    #[error("checkpoint, `{name}`: expected {expected} numbers, found {found}")]
    Size {
        /// The tensor.
        name: String,
        /// Numbers needed.
        expected: usize,
        /// Numbers found.
        found: usize,
    },
}

/// Named tensors, counts and generators.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Vec<f32>>,
    counts: BTreeMap<String, u64>,
}

impl Checkpoint {
    /// Keeps numbers under a name.
    pub fn put(&mut self, name: &str, data: impl Into<Vec<f32>>) {
        self.tensors.insert(name.into(), data.into());
    }

    /// The numbers of a name.
    ///
    /// # Errors
    /// There are none.
    pub fn tensor(&self, name: &str) -> Result<&[f32], CheckpointError> {
        let missing = || CheckpointError::Missing(name.into());
        self.tensors.get(name).map(Vec::as_slice).ok_or_else(missing)
    }

    /// The `size` numbers of a name.
    ///
    /// # Errors
    /// There are none, or another number of them.
    pub fn tensor_of(&self, name: &str, size: usize) -> Result<Vec<f32>, CheckpointError> {
        let data = self.tensor(name)?;
        if data.len() == size {
            return Ok(data.to_vec());
        }
        Err(CheckpointError::Size { name: name.into(), expected: size, found: data.len() })
    }

    /// Keeps a count under a name.
    pub fn put_count(&mut self, name: &str, count: u64) {
        self.counts.insert(name.into(), count);
    }

    /// The count of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn count(&self, name: &str) -> Result<u64, CheckpointError> {
        self.counts.get(name).copied().ok_or_else(|| CheckpointError::Missing(name.into()))
    }

    /// All counts by name, in the order of their names.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Keeps where a generator stands.
    pub fn put_rng(&mut self, name: &str, rng: &Rng) {
        for (i, word) in rng.get_seed().as_chunks::<8>().0.iter().enumerate() {
            self.put_count(&format!("{name}.seed{i}"), u64::from_le_bytes(*word));
        }
        let place = rng.get_word_pos();
        self.put_count(&format!("{name}.stream"), rng.get_stream());
        self.put_count(&format!("{name}.place"), place as u64);
        self.put_count(&format!("{name}.place_high"), (place >> 64) as u64);
    }

    /// A generator where it stood.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn rng(&self, name: &str) -> Result<Rng, CheckpointError> {
        let mut seed = [0; 32];
        for (i, word) in seed.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = self.count(&format!("{name}.seed{i}"))?.to_le_bytes();
        }
        let mut rng: Rng = rand::SeedableRng::from_seed(seed);
        rng.set_stream(self.count(&format!("{name}.stream"))?);
        let (low, high) =
            (self.count(&format!("{name}.place"))?, self.count(&format!("{name}.place_high"))?);
        rng.set_word_pos(u128::from(high) << 64 | u128::from(low));
        Ok(rng)
    }

    /// Keeps the episodes of a replay buffer.
    pub fn put_replay(&mut self, name: &str, replay: &ReplayBuffer) {
        for (part, column) in Trajectory::PARTS.iter().zip(replay.columns()) {
            self.put(&format!("{name}.{part}"), column);
        }
        let lengths = replay.trajectories().map(|trajectory| trajectory.last() as f32);
        self.put(&format!("{name}.lengths"), lengths.collect::<Vec<_>>());
    }

    /// The episodes of a replay buffer whose rows have these sizes: observation, goal, action.
    ///
    /// # Errors
    /// There is none of this name, or its rows have other sizes.
    pub fn replay(&self, name: &str, sizes: [usize; 3]) -> Result<ReplayBuffer, CheckpointError> {
        let [o, g, a] = sizes;
        let mut parts = Vec::new();
        for rows in Trajectory::PARTS {
            parts.push(self.tensor(&format!("{name}.{rows}"))?);
        }
        let mut replay = ReplayBuffer::default();
        for length in self.tensor(&format!("{name}.lengths"))? {
            let t = *length as usize;
            let mut take = |part: usize, count: usize| {
                let wrong = CheckpointError::Size {
                    name: format!("{name}.{}", Trajectory::PARTS[part]),
                    expected: count,
                    found: parts[part].len(),
                };
                let (own, rest) = parts[part].split_at_checked(count).ok_or(wrong)?;
                parts[part] = rest;
                Ok(own)
            };
            let [seen, goals] = [take(0, (t + 1) * o)?, take(1, (t + 1) * g)?];
            let [actions, goal] = [take(2, t * a)?, take(3, g)?];
            Trajectory::of_parts([seen, goals, actions, goal], t)
                .and_then(|trajectory| replay.push(&trajectory))
                .map_err(|e| CheckpointError::Format(e.to_string()))?;
        }
        Ok(replay)
    }

    /// Takes over all of another under `prefix.`.
    pub fn put_all(&mut self, prefix: &str, other: Self) {
        let named = |name: String| format!("{prefix}.{name}");
        self.tensors.extend(other.tensors.into_iter().map(|(name, data)| (named(name), data)));
        self.counts.extend(other.counts.into_iter().map(|(name, count)| (named(name), count)));
    }

    /// What stands under `prefix.`.
    pub fn part(&self, prefix: &str) -> Self {
        fn under<T: Clone>(all: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
            let inside = all.iter().filter_map(|(name, value)| {
                let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
                Some((name.to_owned(), value.clone()))
            });
            inside.collect()
        }
        Self { tensors: under(&self.tensors, prefix), counts: under(&self.counts, prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, normal, stream};

    #[test]
    fn a_generator_goes_on_where_it_stood() {
        let mut rng = stream(3, Stream::Training);
        (0..7).for_each(|_| assert!(normal(&mut rng).is_finite()));
        let mut inner = Checkpoint::default();
        inner.put_rng("rng", &rng);
        let mut outer = Checkpoint::default();
        outer.put_all("learner", inner);
        let mut again = outer.part("learner").rng("rng").unwrap();
        assert_eq!(normal(&mut again).to_bits(), normal(&mut rng).to_bits());
        assert_eq!(outer.tensor("x").unwrap_err(), CheckpointError::Missing("x".into()));
        outer.put("x", [1.0, 2.0]);
        assert_eq!(outer.tensor_of("x", 2), Ok(vec![1.0, 2.0]));
        let error = CheckpointError::Size { name: "x".into(), expected: 3, found: 2 };
        assert_eq!(outer.tensor_of("x", 3), Err(error));
    }
}
