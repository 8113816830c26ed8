//! Whoever turns observations into actions, and what the control thread gets of it.

use crate::clock::Time;
use crate::episode::PolicyId;
use crate::joints::JointVec;
use crate::policy::{ActionKind, Observation, Plan, Policy, PolicyError};

/// What the policy answered to one observation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// The tick of the observation.
    pub tick: u64,
    /// The episode of the observation.
    pub episode: u64,
    /// The action, in the unit its kind says; empty when the policy failed.
    pub action: JointVec<f32>,
    /// The actions of the ticks after it, of a policy that plans ahead.
    pub ahead: Plan,
    /// What the action means.
    pub kind: ActionKind,
    /// Who decided.
    pub policy: PolicyId,
}

impl Decision {
    /// Makes its action the one for `tick`: the planned one, or without a plan the same one while it
    /// is at most `oldest` ticks old. False when there is none.
    pub fn advance_to(&mut self, tick: u64, oldest: u64) -> bool {
        let Some(age) = tick.checked_sub(self.tick) else { return false };
        if age == 0 || self.ahead.is_empty() {
            return age <= oldest;
        }
        let planned = usize::try_from(age - 1).ok().and_then(|i| self.ahead.get(i)).cloned();
        planned.map(|action| self.action = action).is_some()
    }
}

/// Whatever turns observations into actions: a policy, a scripted expert.
pub trait Actor: Send {
    /// The action for an observation.
    ///
    /// # Errors
    /// The actor has none.
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError>;
    /// What the action means.
    fn kind(&self) -> ActionKind;
    /// Who this is.
    fn id(&self) -> PolicyId;
    /// A new episode begins: what is remembered of the one before is dropped.
    fn reset(&mut self) {}
    /// The actions of the ticks after the one acted on last, where it plans ahead.
    fn ahead(&self, plan: &mut Plan) {
        plan.clear();
    }
    /// Ticks that an answer may take beyond its own.
    fn patience(&self) -> usize {
        0
    }
}

impl Actor for Policy {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Policy::act(self, observation)
    }
    fn kind(&self) -> ActionKind {
        self.spec().action
    }
    fn id(&self) -> PolicyId {
        Policy::id(self)
    }
    fn reset(&mut self) {
        Policy::reset(self);
    }
    fn ahead(&self, plan: &mut Plan) {
        Policy::ahead(self, plan);
    }
    fn patience(&self) -> usize {
        self.spec().chunk().patience()
    }
}

/// The control thread's side of the exchange with whoever decides.
pub trait Pilot: Send {
    /// Hands over the observation and takes the newest decision there is by `deadline`.
    fn exchange(&mut self, observation: &Observation, deadline: Time) -> Option<Decision>;
    /// Whoever decides has failed: who decided before shall from now on, if there is one.
    fn demote(&mut self) {}
}

/// An actor and the episode it is in.
pub(super) struct Seated {
    pub(super) actor: Box<dyn Actor>,
    /// None makes the next observation the begin of an episode.
    pub(super) episode: Option<u64>,
}

impl Seated {
    pub(super) fn new(actor: Box<dyn Actor>) -> Self {
        Self { actor, episode: None }
    }

    pub(super) fn decide(&mut self, observation: &Observation) -> Decision {
        let Observation { tick, episode, .. } = *observation;
        if self.episode != Some(episode) {
            self.actor.reset();
            self.episode = Some(episode);
        }
        let action = self.actor.act(observation).unwrap_or_default();
        let mut ahead = Plan::new();
        if !action.is_empty() {
            self.actor.ahead(&mut ahead);
        }
        let (kind, policy) = (self.actor.kind(), self.actor.id());
        Decision { tick, episode, action, ahead, kind, policy }
    }
}

/// An actor asked in the control thread itself: for virtual time.
pub struct Inline(Seated);

impl Inline {
    /// Lets an actor steer.
    pub fn new(actor: Box<dyn Actor>) -> Self {
        Self(Seated::new(actor))
    }
}

impl Pilot for Inline {
    fn exchange(&mut self, observation: &Observation, _deadline: Time) -> Option<Decision> {
        Some(self.0.decide(observation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joints::stack;

    /// Counts its observations since the last reset.
    struct Counter(f32);
    impl Actor for Counter {
        fn act(&mut self, _: &Observation) -> Result<JointVec<f32>, PolicyError> {
            self.0 += 1.0;
            Ok(stack([self.0]))
        }
        fn kind(&self) -> ActionKind {
            ActionKind::JointDelta
        }
        fn id(&self) -> PolicyId {
            PolicyId::default()
        }
        fn reset(&mut self) {
            self.0 = 0.0;
        }
        fn ahead(&self, plan: &mut Plan) {
            *plan = [0.1, 0.2].iter().map(|x| stack([self.0 + x])).collect();
        }
    }

    #[test]
    fn an_actor_starts_every_episode_with_nothing_remembered() {
        let mut pilot = Inline::new(Box::new(Counter(5.0)));
        let mut ask = |tick, episode| {
            let observation = Observation { tick, episode, ..Observation::default() };
            pilot.exchange(&observation, Time(0)).unwrap().action[0]
        };
        let found: Vec<f32> =
            [(4, 4), (5, 4), (6, 4), (9, 9), (10, 9), (11, 4)].map(|(t, e)| ask(t, e)).to_vec();
        assert_eq!(found, [1.0, 2.0, 3.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn an_action_is_the_planned_one_or_the_same_for_a_while_or_none() {
        let planned = Inline::new(Box::new(Counter(0.0)))
            .exchange(&Observation { tick: 7, ..Observation::default() }, Time(0))
            .unwrap();
        let bare = Decision { ahead: Plan::new(), ..planned.clone() };
        let at = |decision: &Decision, tick| {
            let mut decision = decision.clone();
            decision.advance_to(tick, 3).then(|| decision.action[0])
        };
        let ticks = [6, 7, 8, 9, 10, 11];
        let expected = [None, Some(1.0), Some(1.1), Some(1.2), None, None];
        assert_eq!(ticks.map(|tick| at(&planned, tick)), expected);
        let expected = [None, Some(1.0), Some(1.0), Some(1.0), Some(1.0), None];
        assert_eq!(ticks.map(|tick| at(&bare, tick)), expected);
    }
}
