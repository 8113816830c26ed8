//! The rows of a training step: drawn, relabelled and laid out.

use super::gcbc::{Drawn, Gcbc, max_delta};
use super::{Layout, LearnError, Reach};
use crate::goal::{Hindsight, Mix, Sample};
use crate::onnx::{BcLoss, ValueInfo};
use crate::policy::{PolicySpec, Tensors};
use crate::rng::Rng;

/// The rows of one training step, row-major.
pub(super) struct Batch {
    layout: Layout,
    reach: Reach,
    rows: usize,
    joints: usize,
    observation: Vec<f32>,
    achieved_goal: Vec<f32>,
    desired_goal: Vec<f32>,
    target: Vec<f32>,
    weight: Vec<f32>,
    /// Actions of a row: 1, or those of a chunk.
    chunk: usize,
    /// 1 where a chunk goes on after its end, `[rows, chunk]`; empty without chunks.
    is_pad: Vec<f32>,
    names: Tensors,
    /// What its rows so far were.
    pub drawn: Drawn,
}

impl Batch {
    /// Room for one batch of a training step or a loss with these inputs.
    ///
    /// # Errors
    /// The policy does not observe what the label needs, or the loss asks for another target than the
    /// joints' actions.
    pub fn new(method: &Gcbc, spec: &PolicySpec, inputs: &[ValueInfo]) -> Result<Self, LearnError> {
        if !spec.state.is_empty() {
            return Err(LearnError::Observation {
                needs: "no state: export a recurrent policy over a window of observations",
                found: format!("state {:?}", spec.state),
            });
        }
        let joints = spec.joints.len();
        let dims = |name: &str| inputs.iter().find(|i| i.name == name).map(|i| i.dims_at(1));
        let target = dims(BcLoss::TARGET).unwrap_or_default();
        let (rows, chunk) = match target.as_slice() {
            [rows, a] if *a == joints && method.loss(spec) != BcLoss::Categorical => (*rows, 1),
            [rows, k, a] if *a == joints => (*rows, *k),
            _ => {
                let expected = format!("{joints} joints, or chunks of them");
                let found = format!("{target:?}; logged episodes hold motions of joints");
                return Err(LearnError::Target {
                    loss: method.loss(spec).to_string(),
                    expected,
                    found,
                });
            }
        };
        let padded = dims(BcLoss::IS_PAD).map_or(0, |dims| dims.iter().product());
        Ok(Self {
            layout: Layout::of(spec)?,
            reach: Reach { horizon: method.horizon, max_delta: max_delta(spec), kind: spec.action },
            rows,
            joints,
            observation: Vec::with_capacity(rows * spec.observation_size()),
            achieved_goal: Vec::with_capacity(rows * spec.goal_size()),
            desired_goal: Vec::with_capacity(rows * spec.goal_size()),
            target: vec![0.0; rows * chunk * joints],
            weight: vec![1.0; rows],
            chunk,
            is_pad: vec![0.0; padded],
            names: spec.tensors.clone(),
            drawn: Drawn::default(),
        })
    }

    /// Draws new rows: demonstrations first, then attempts.
    ///
    /// # Errors
    /// There is nothing to draw from.
    pub fn fill(&mut self, method: &Gcbc, data: Mix<'_>, rng: &mut Rng) -> Result<(), LearnError> {
        let demonstrations = data.demonstrated(self.rows, method.demonstration_share);
        self.observation.clear();
        self.achieved_goal.clear();
        self.desired_goal.clear();
        let keep = 1.0 - method.keep_desired;
        for row in 0..self.rows {
            let (buffer, probability) = if row < demonstrations {
                (data.demonstrations, keep)
            } else {
                // A goal that was wished for and missed says nothing about the actions taken.
                (data.attempts, 1.0)
            };
            let hindsight =
                Hindsight { strategy: method.strategy, probability, already_achieved: None };
            let sample = buffer.sample(&hindsight, rng).ok_or_else(|| {
                LearnError::NoData("the folder has no usable training episodes".into())
            })?;
            let begin = self.observation.len();
            self.observation.extend_from_slice(sample.trajectory.observation(sample.t));
            self.layout.wish(&mut self.observation[begin..], sample.goal);
            self.achieved_goal.extend_from_slice(sample.trajectory.achieved_goal(sample.t));
            self.desired_goal.extend_from_slice(sample.goal);
            self.label(row, &sample);
            let drawn = &mut self.drawn;
            *match (row < demonstrations, sample.relabelled()) {
                (true, false) => &mut drawn.demonstrated,
                (true, true) => &mut drawn.demonstrated_in_hindsight,
                (false, _) => &mut drawn.attempted,
            } += 1;
        }
        Ok(())
    }

    /// Writes the actions of one row: those at the sample's time and after it, until the goal is
    /// achieved.
    fn label(&mut self, row: usize, sample: &Sample<'_>) {
        let end = sample.achieved_at.unwrap_or(sample.trajectory.last());
        for ahead in 0..self.chunk {
            let place = row * self.chunk + ahead;
            // The first action is never padding: it says to hold where the goal was.
            let pad = ahead > 0 && sample.t + ahead >= end;
            let target = &mut self.target[place * self.joints..(place + 1) * self.joints];
            if pad {
                target.fill(0.0);
            } else {
                self.reach.write(&self.layout, &Sample { t: sample.t + ahead, ..*sample }, target);
            }
            if let Some(flag) = self.is_pad.get_mut(place) {
                *flag = f32::from(pad);
            }
        }
    }

    /// The rows under their names in the training step.
    pub fn inputs(&self) -> Vec<(&str, &[f32])> {
        let goals = [
            (&self.names.achieved_goal, &self.achieved_goal),
            (&self.names.desired_goal, &self.desired_goal),
        ];
        let goals = goals.into_iter().filter(|(_, rows)| !rows.is_empty());
        let goals = goals.filter_map(|(name, rows)| Some((name.as_deref()?, rows.as_slice())));
        let mut inputs: Vec<(&str, &[f32])> =
            vec![(self.names.observation.as_str(), &self.observation)];
        inputs.extend(goals);
        inputs.push((BcLoss::TARGET, &self.target));
        inputs.push((BcLoss::WEIGHT, &self.weight));
        if !self.is_pad.is_empty() {
            inputs.push((BcLoss::IS_PAD, &self.is_pad));
        }
        inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::{ReplayBuffer, Trajectory};
    use crate::joints::GoalSpace;
    use crate::onnx::{Dim, Distance, ElementType};
    use crate::policy::{ActionKind, ObservationTerm, Tensors};
    use crate::rng::{Stream, stream};

    fn spec() -> PolicySpec {
        PolicySpec {
            version: 1,
            model: "arm".into(),
            joints: vec!["a".into()],
            rate_hz: 50.0,
            observation: vec![ObservationTerm::JointPosition, ObservationTerm::SentPosition],
            goal_space: GoalSpace::EndEffectorPosition,
            action: ActionKind::JointDelta,
            tensors: Tensors::default(),
            chunk: None,
            state: Vec::new(),
            provenance: [("max_delta".into(), 1.0.into())].into(),
        }
    }

    fn input(name: &str, dims: &[usize]) -> ValueInfo {
        let dims = dims.iter().copied().map(Dim::Fixed).collect();
        ValueInfo { name: name.into(), element: ElementType::F32, dims }
    }

    #[test]
    fn a_chunk_holds_the_actions_up_to_the_end_and_marks_what_is_beyond() {
        // The joint is at its time; it is sent one tick ahead, so every action is 1.
        let rows: Vec<[f32; 2]> = (0..=9).map(|t| [t as f32, t as f32 + 1.0]).collect();
        let trajectory =
            Trajectory::new(&rows, &[[0.0; 3]; 10], &[[1.0f32]; 9], &[0.0; 3]).unwrap();
        let mut episodes = ReplayBuffer::default();
        episodes.push(&trajectory).unwrap();
        let data = Mix { demonstrations: &episodes, attempts: &ReplayBuffer::default() };
        let loss = BcLoss::Chunk(Distance::Absolute);
        let method = Gcbc { loss: Some(loss), keep_desired: 1.0, horizon: 1, ..Gcbc::default() };
        let inputs = [input(BcLoss::TARGET, &[64, 4, 1]), input(BcLoss::IS_PAD, &[64, 4])];
        let mut batch = Batch::new(&method, &spec(), &inputs).unwrap();
        batch.fill(&method, data, &mut stream(1, Stream::Training)).unwrap();
        assert!(batch.is_pad.contains(&1.0) && batch.is_pad.contains(&0.0));
        for row in 0..64 {
            let t = batch.observation[2 * row] as usize;
            for ahead in 0..4 {
                let (pad, target) = (batch.is_pad[4 * row + ahead], batch.target[4 * row + ahead]);
                assert_eq!(pad, f32::from(ahead > 0 && t + ahead >= 9), "{t} + {ahead}");
                // At the last but one time the goal is held where it was measured: 9 - 9.
                let want = if pad == 1.0 || t + ahead == 8 { 0.0 } else { 1.0 };
                assert_eq!(target, want, "{t} + {ahead}");
            }
        }
        let names: Vec<&str> = batch.inputs().iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&BcLoss::IS_PAD), "{names:?}");
    }

    #[test]
    fn a_target_that_episodes_do_not_hold_is_refused() {
        let refusal = |loss: &str, dims: &[usize]| {
            let method = Gcbc { loss: Some(loss.parse().unwrap()), ..Gcbc::default() };
            Batch::new(&method, &spec(), &[input(BcLoss::TARGET, dims)]).err().unwrap().to_string()
        };
        assert!(refusal("mse", &[8, 2]).contains("1 joints"));
        assert!(refusal("categorical", &[8, 1]).contains("loss `categorical`"));
    }
}
