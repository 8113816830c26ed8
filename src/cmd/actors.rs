//! Who steers in virtual time: nobody, the scripted expert, a policy that explores.

use crate::control::Actor;
use crate::env::Expert;
use crate::episode::PolicyId;
use crate::joints::JointVec;
use crate::learn::Exploration;
use crate::policy::{ActionKind, Observation, Plan, Policy, PolicyError};
use crate::rng::Rng;

/// Nobody steers yet.
pub struct Nobody;
impl Actor for Nobody {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Ok(observation.sent.clone())
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointPosition
    }
    fn id(&self) -> PolicyId {
        PolicyId::default()
    }
}

/// The scripted expert as an actor.
pub struct Demonstrator(pub Expert);

impl Actor for Demonstrator {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        let mut action: JointVec<f32> = observation.sent.iter().map(|_| 0.0).collect();
        for (slot, delta) in action.iter_mut().zip(self.0.act(&observation.sent)) {
            *slot = delta;
        }
        Ok(action)
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
    }
    fn id(&self) -> PolicyId {
        PolicyId::default()
    }
}

/// A policy that explores.
pub struct Explorer {
    /// The policy.
    pub policy: Policy,
    /// What is added to its actions.
    pub noise: Exploration,
    /// Where the noise comes from.
    pub rng: Rng,
    /// The largest action (rad per tick).
    pub unit: f32,
}

impl Actor for Explorer {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        let mut action = self.policy.act(observation)?;
        self.noise.disturb(&mut action, self.unit, &mut self.rng);
        Ok(action)
    }
    fn kind(&self) -> ActionKind {
        self.policy.spec().action
    }
    fn id(&self) -> PolicyId {
        self.policy.id()
    }
    fn reset(&mut self) {
        self.policy.reset();
    }
    fn ahead(&self, plan: &mut Plan) {
        self.policy.ahead(plan);
    }
}
