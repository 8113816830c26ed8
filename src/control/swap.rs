//! Another policy for a running loop: tried in the shadow by whoever brings it, then seated between
//! two decisions of the policy thread.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::actor::{Actor, Seated};
use super::event::signal;
use crate::clock::Clock;
use crate::config::RobotConfig;
use crate::episode::PolicyId;
use crate::policy::{ActionKind, Observation, Times};

/// A candidate is tried on this many of the last observations.
pub(super) const SHADOW_RUNS: usize = 100;
/// Share of a tick that a policy may take.
const LATENCY_SHARE: f64 = 0.3;
/// A candidate may ask for positions this far out of a joint's range, as a share of it: the gate
/// stops them at the limit, while an action in another unit lies far beyond.
const SLACK: f64 = 0.1;

/// Why a candidate was not swapped in.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum SwapError {
    /// The candidate failed on an observation that the arm was in lately.
    #[error(
        "the candidate gave no finite action of {expected} numbers on {failed} of {runs} recent observations"
    )]
    Shadow {
        /// Numbers per action.
        expected: usize,
        /// Observations it failed on.
        failed: usize,
        /// Observations tried.
        runs: usize,
    },
    /// The candidate asks for what the joints cannot do.
    #[error(
        "the candidate asks joint {joint} for {asked} rad, expected {low:.3} to {high:.3}: is its action in rad?"
    )]
    OutOfLimits {
        /// The joint's place.
        joint: usize,
        /// What was asked for (rad).
        asked: f32,
        /// The lowest that is taken (rad).
        low: f32,
        /// The highest (rad).
        high: f32,
    },
    /// The candidate is too slow for the loop.
    #[error("the candidate takes {took:?} (99th percentile), the loop allows {allowed:?}")]
    Slow {
        /// Measured.
        took: Duration,
        /// Allowed.
        allowed: Duration,
    },
    /// The policy thread has ended.
    #[error("the control loop has ended")]
    Gone,
}

/// How a swap went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swapped {
    /// Recent observations the candidate was tried on.
    pub shadow_runs: usize,
    /// The 99th percentile of its time per action.
    pub p99: Duration,
    /// Who steers now.
    pub policy: PolicyId,
}

/// A policy that failed in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demotion {
    /// Which.
    pub failed: PolicyId,
    /// Who steers instead; none when nobody was there before it.
    pub back: Option<PolicyId>,
    /// What it did.
    pub why: &'static str,
}

/// What is asked of the policy thread.
pub(super) enum Request {
    /// The last observations.
    Recent(mpsc::Sender<Vec<Observation>>),
    /// Who shall steer from the next observation on, and whether who steers now is kept behind it.
    Seat(Box<dyn Actor>, bool, mpsc::Sender<PolicyId>),
}

/// Demotions that nobody has asked for yet.
#[derive(Clone, Default)]
pub(super) struct Demotions(Arc<Mutex<Vec<Demotion>>>);

impl Demotions {
    pub(super) fn push(&self, demotion: Demotion) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(demotion);
    }
}

/// Swaps policies in a running loop; may be cloned.
#[derive(Clone)]
pub struct Swapper {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) times: Arc<Times>,
    pub(super) demotions: Demotions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) period: Duration,
    /// Of each joint, the lowest and the highest position that may be asked for (rad).
    pub(super) limits: Arc<[(f32, f32)]>,
}

impl Swapper {
    /// The same for one robot: a candidate that asks for what its joints cannot do is refused.
    #[must_use]
    pub fn within(mut self, robot: &RobotConfig) -> Self {
        let limits = robot.joint.iter().map(|joint| {
            let slack = SLACK * (joint.max_rad - joint.min_rad);
            ((joint.min_rad - slack) as f32, (joint.max_rad + slack) as f32)
        });
        self.limits = limits.collect();
        self
    }

    /// How long the answers have taken.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Policies that failed in use since the last call, oldest first.
    pub fn demotions(&self) -> Vec<Demotion> {
        std::mem::take(&mut *self.demotions.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs the candidate in the caller's thread on the last observations, which disturbs nobody, and
    /// lets it steer from the next one on; the policy before it is kept and takes over should the
    /// candidate fail.
    ///
    /// # Errors
    /// The candidate failed its shadow runs; the old policy steers on.
    pub fn swap(&self, candidate: Box<dyn Actor>) -> Result<Swapped, SwapError> {
        self.seat(candidate, true)
    }

    /// The same with nobody behind it: who steers now never does again, also should the candidate fail.
    ///
    /// # Errors
    /// As [`swap`](Self::swap).
    pub fn swap_alone(&self, candidate: Box<dyn Actor>) -> Result<Swapped, SwapError> {
        self.seat(candidate, false)
    }

    fn seat(&self, candidate: Box<dyn Actor>, keep: bool) -> Result<Swapped, SwapError> {
        let recent = self.ask(Request::Recent)?;
        let (candidate, p99) = self.shadow(candidate, &recent)?;
        let policy = self.ask(|reply| Request::Seat(candidate, keep, reply))?;
        Ok(Swapped { shadow_runs: recent.len(), p99, policy })
    }

    fn ask<R>(&self, request: impl FnOnce(mpsc::Sender<R>) -> Request) -> Result<R, SwapError> {
        let (reply, answer) = mpsc::channel();
        self.requests.send(request(reply)).map_err(|_| SwapError::Gone)?;
        signal(&self.wake);
        answer.recv().map_err(|_| SwapError::Gone)
    }

    /// Tries a candidate on observations: finite, inside the limits, fast.
    fn shadow(
        &self,
        candidate: Box<dyn Actor>,
        recent: &[Observation],
    ) -> Result<(Box<dyn Actor>, Duration), SwapError> {
        let (times, runs) = (Times::default(), recent.len());
        let mut candidate = Seated::new(candidate);
        let (mut failed, mut outside) = (0, None);
        for observation in recent {
            let start = self.clock.now();
            let decision = candidate.decide(observation);
            times.record(self.clock.now().since(start));
            failed += usize::from(!sound(&decision.action, observation));
            outside =
                outside.or_else(|| self.outside(&decision.action, decision.kind, observation));
        }
        if failed > 0 {
            let expected = recent.last().map_or(0, |o| o.position.len());
            return Err(SwapError::Shadow { expected, failed, runs });
        }
        if let Some(outside) = outside {
            return Err(outside);
        }
        let took = times.quantile(0.99);
        let allowed = time_allowed(self.period, candidate.actor.patience());
        if took > allowed {
            return Err(SwapError::Slow { took, allowed });
        }
        Ok((candidate.actor, took))
    }

    /// The first joint that is asked for what it cannot do.
    fn outside(&self, action: &[f32], kind: ActionKind, seen: &Observation) -> Option<SwapError> {
        let asked = action.iter().zip(&seen.sent).map(|(x, sent)| match kind {
            ActionKind::JointPosition => *x,
            ActionKind::JointDelta => sent + x,
        });
        asked.zip(self.limits.iter()).enumerate().find_map(|(joint, (asked, (low, high)))| {
            let outside = !(*low..=*high).contains(&asked);
            outside.then_some(SwapError::OutOfLimits { joint, asked, low: *low, high: *high })
        })
    }
}

/// How long an answer may take in a loop of this period: a share of a tick, and the ticks that the
/// policy's chunks leave it (`patience`).
pub(crate) fn time_allowed(period: Duration, patience: usize) -> Duration {
    period.mul_f64(LATENCY_SHARE + patience as f64)
}

/// Whether there is one finite number a joint.
pub(super) fn sound(action: &[f32], observation: &Observation) -> bool {
    action.len() == observation.position.len() && action.iter().all(|x| x.is_finite())
}
