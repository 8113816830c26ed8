//! A policy in the control loop: observations in, actions out.

use super::chunk::Chunks;
use super::tensors::{Binding, Sink, Source};
use super::{ActionKind, MAX_TENSORS, Observation, PolicyError, PolicySpec, Senses, id_of};
use crate::config::RobotConfig;
use crate::engine::{Engine, Session};
use crate::episode::PolicyId;
use crate::joints::JointVec;
use crate::onnx::Verified;

/// The most actions that are handed out ahead of their ticks.
pub const MAX_AHEAD: usize = 15;

/// Actions for the ticks to come; never allocates.
pub type Plan = heapless::Vec<JointVec<f32>, MAX_AHEAD>;

/// A loaded policy, ready to act on one robot.
pub struct Policy {
    spec: PolicySpec,
    id: PolicyId,
    places: Vec<usize>,
    robot_joints: usize,
    binding: Binding,
    session: Session,
    chunks: Chunks,
    /// The state tensors, and where the next ones are written.
    state: Vec<Vec<f32>>,
    next: Vec<Vec<f32>>,
    /// The tick acted on last, and what joints get then that the policy does not move.
    tick: u64,
    others: JointVec<f32>,
}

impl Policy {
    /// Verifies a policy file, checks it against the robot and loads it.
    ///
    /// # Errors
    /// Not valid ONNX, no or another description, another robot, or the engine refuses it.
    pub fn load(file: &[u8], robot: &RobotConfig, engine: &Engine) -> Result<Self, PolicyError> {
        let graph = Verified::from_bytes(file)?;
        let spec = PolicySpec::of(&graph)?;
        let places = spec.joint_places(robot)?;
        let zeros: Vec<Vec<f32>> = spec.state.iter().map(|s| vec![0.0; s.size()]).collect();
        Ok(Self {
            id: id_of(file),
            places,
            robot_joints: robot.joint.len(),
            binding: Binding::of(&spec, &graph)?,
            session: engine.load(&graph)?,
            chunks: Chunks::new(spec.chunk(), spec.joints.len()),
            state: zeros.clone(),
            next: zeros,
            tick: 0,
            others: JointVec::new(),
            spec,
        })
    }

    /// What the policy is for.
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// The policy file's id.
    pub fn id(&self) -> PolicyId {
        self.id
    }

    /// One action per joint of the robot, in the unit that [`PolicySpec::action`] says; joints that
    /// the policy does not move get a zero change, or their last sent position. A policy that
    /// answers in chunks is asked only when its [`Chunk`](super::Chunk) says so. Nothing is
    /// allocated but by the engine.
    ///
    /// # Errors
    /// The observation does not fit, or the engine failed.
    pub fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        self.tick = observation.tick;
        if self.chunks.due(self.tick) {
            self.ask(observation)?;
        }
        self.others = match self.spec.action {
            ActionKind::JointPosition => observation.sent.clone(),
            ActionKind::JointDelta => observation.sent.iter().map(|_| 0.0).collect(),
        };
        // `due` leaves no tick without a chunk.
        Ok(self.at(self.tick).unwrap_or_default())
    }

    /// The actions after the one given last, one a tick: for when the next answer is late. Empty
    /// without chunks.
    pub fn ahead(&self, plan: &mut Plan) {
        plan.clear();
        plan.extend((1..=MAX_AHEAD as u64).map_while(|later| self.at(self.tick + later)));
    }

    /// Forgets what was remembered: the state is zero again and chunks are dropped.
    pub fn reset(&mut self) {
        self.chunks.reset();
        self.state.iter_mut().for_each(|tensor| tensor.fill(0.0));
    }

    /// The action of all joints for a tick.
    fn at(&self, tick: u64) -> Option<JointVec<f32>> {
        let action = self.chunks.at(tick)?;
        let mut all = self.others.clone();
        for (place, value) in self.places.iter().zip(&action) {
            *all.get_mut(*place)? = *value;
        }
        Some(all)
    }

    /// Runs the graph: a new chunk, and the next state.
    fn ask(&mut self, o: &Observation) -> Result<(), PolicyError> {
        let goal = self.spec.goal_size();
        let goals = goal == 0 || (o.achieved_goal.len() == goal && o.desired_goal.len() == goal);
        let senses = Senses {
            position: &o.position,
            velocity: &o.velocity,
            sent: &o.sent,
            achieved_goal: &o.achieved_goal,
            desired_goal: &o.desired_goal,
        };
        let row = senses.row(&self.spec.observation, &self.places);
        let Some(row) = row.filter(|_| goals && o.sent.len() == self.robot_joints) else {
            return Err(PolicyError::BadObservation { expected: self.robot_joints, goal });
        };
        let inputs: heapless::Vec<&[f32], MAX_TENSORS> = (self.binding.inputs.iter())
            .map(|source| match source {
                Source::Observation => row.as_slice(),
                Source::AchievedGoal => o.achieved_goal.as_slice(),
                Source::DesiredGoal => o.desired_goal.as_slice(),
                Source::State(i) => self.state.get(*i).map_or(&[][..], Vec::as_slice),
            })
            .collect();
        let mut outputs: heapless::Vec<&mut [f32], MAX_TENSORS> =
            self.binding.outputs.iter().map(|_| &mut [][..]).collect();
        let mut place = |sink: Sink, buffer| {
            let found = self.binding.outputs.iter().position(|s| *s == sink);
            if let Some(slot) = found.and_then(|i| outputs.get_mut(i)) {
                *slot = buffer;
            }
        };
        place(Sink::Action, self.chunks.buffer());
        for (i, tensor) in self.next.iter_mut().enumerate() {
            place(Sink::State(i), tensor.as_mut_slice());
        }
        self.session.run_all_into(&inputs, &mut outputs)?;
        drop((inputs, outputs));
        std::mem::swap(&mut self.state, &mut self.next);
        self.chunks.take(o.tick);
        Ok(())
    }
}
