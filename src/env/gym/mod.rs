//! Any Gymnasium environment, in a Python process of its own (`tools/gym_bridge.py` says what it may
//! be, and how the two talk).
//!
//! Numbers stand in memory that both share; one byte over a socket pair says whose turn it is, and the
//! process that waits sleeps. The environment draws its own goals and starts, from a seed that `reset`
//! draws.

mod error;
mod process;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ActionSpace, Env, EnvError, EnvSpec, check_action};
use crate::rng::{Rng, seed_from};
use process::{Actions, Announced, Answer, Process, Request};

pub use error::GymError;

/// Which Python, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The program.
    pub program: PathBuf,
    /// How long it may take to start, for a reset and for a step (s), 1 or more.
    pub limit_s: u32,
}

impl Python {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_s.max(1).into())
    }
}

impl Default for Python {
    fn default() -> Self {
        Self { program: "python3".into(), limit_s: 60 }
    }
}

/// An environment in Python.
pub struct Gym {
    python: Python,
    announced: Announced,
    spec: EnvSpec,
    /// None once it was lost: the next reset starts another.
    process: Option<Process>,
    /// Observation, achieved and desired goal, `[o + 2 g]`.
    row: Vec<f32>,
    last: Answer,
    steps: usize,
}

/// What the names of these environments begin with.
pub const GYM: &str = "gym:";

impl Gym {
    /// Starts the environment of a name: an id that Gymnasium knows, `MODULE:ID`, or
    /// `FILE.py:CALLABLE`.
    ///
    /// # Errors
    /// There is no such Python or environment, or it is none that can be learned in.
    pub fn open(name: &str, python: &Python) -> Result<Self, GymError> {
        let (process, announced) = Process::start(name, python)?;
        let actions = match announced.actions {
            Actions::Continuous { size, limit } => ActionSpace::Continuous { size, limit },
            Actions::Discrete { choices } => ActionSpace::Discrete { choices },
        };
        let spec = EnvSpec {
            name: kept(format!("{GYM}{name}")),
            observation: announced.observation,
            goal: announced.goal,
            actions,
            horizon: announced.horizon,
            tolerance: announced.tolerance,
            ends: announced.ends,
        };
        Ok(Self {
            python: python.clone(),
            row: vec![0.0; spec.observation + 2 * spec.goal],
            announced,
            spec,
            process: Some(process),
            last: Answer::default(),
            steps: 0,
        })
    }

    fn name(&self) -> String {
        self.spec.name.strip_prefix(GYM).unwrap_or(self.spec.name).to_owned()
    }

    /// The process, started anew where it was lost.
    fn process(&mut self) -> Result<&mut Process, GymError> {
        let process = match self.process.take() {
            Some(process) => process,
            None => {
                let (process, announced) = Process::start(&self.name(), &self.python)?;
                if announced != self.announced {
                    let text = format!(
                        "expected {:?}, found {announced:?} when started anew",
                        self.announced
                    );
                    return Err(GymError::Shape { name: self.name(), text });
                }
                process
            }
        };
        Ok(self.process.insert(process))
    }

    /// One reset or step.
    fn sense(&mut self, request: Request<'_>) -> Result<(), GymError> {
        let mut row = std::mem::take(&mut self.row);
        let answer = self.ask(request, &mut row);
        self.row = row;
        self.last = answer?;
        let what = if self.last.reward.is_finite() { "what it shows" } else { "the reward" };
        if self.row.iter().chain([&self.last.reward]).all(|x| x.is_finite()) {
            return Ok(());
        }
        Err(GymError::NotFinite { name: self.name(), what, step: self.steps })
    }

    fn ask(&mut self, request: Request<'_>, row: &mut [f32]) -> Result<Answer, GymError> {
        let answer = self.process()?.ask(request, row);
        let lost =
            |error: &GymError| !matches!(error, GymError::Raised { .. } | GymError::Shape { .. });
        if answer.as_ref().is_err_and(lost) {
            self.process = None;
        }
        answer
    }

    fn part(&self, from: usize, size: usize) -> &[f32] {
        &self.row[from..from + size]
    }
}

impl Env for Gym {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Empty: the environment draws its goals itself.
    fn sample_goal(&self, _: &mut Rng) -> Vec<f32> {
        Vec::new()
    }

    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        if !goal.is_empty() {
            return Err(EnvError::Goal { expected: 0, found: goal.len() });
        }
        self.steps = 0;
        // 31 bits: what every generator of a Python environment takes.
        let seed = (seed_from(rng) >> 33) as u32;
        Ok(self.sense(Request::Reset { seed })?)
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        check_action(&self.spec, action)?;
        let limit = match self.spec.actions {
            ActionSpace::Continuous { limit, .. } => limit,
            ActionSpace::Discrete { .. } => f32::MAX,
        };
        self.steps += 1;
        Ok(self.sense(Request::Step { action, limit })?)
    }

    fn observation(&self) -> &[f32] {
        self.part(0, self.spec.observation)
    }

    fn achieved_goal(&self) -> &[f32] {
        self.part(self.spec.observation, self.spec.goal)
    }

    fn desired_goal(&self) -> &[f32] {
        self.part(self.spec.observation + self.spec.goal, self.spec.goal)
    }

    fn reward(&self) -> f32 {
        self.last.reward
    }

    /// What the environment says of itself, else by distance.
    fn succeeded(&self) -> bool {
        let (achieved, desired) = (self.achieved_goal(), self.desired_goal());
        let near = || crate::goal::reached(achieved, desired, self.spec.tolerance);
        self.spec.goal > 0 && self.last.success.unwrap_or_else(near)
    }

    /// At the horizon whoever runs the episode stops by himself.
    fn ended(&self) -> bool {
        self.last.terminated || (self.last.truncated && self.steps < self.spec.horizon)
    }

    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        if !self.announced.expert {
            return Err(EnvError::NoExpert(self.spec.name));
        }
        let mut action = vec![0.0; self.spec.actions.size()];
        self.ask(Request::Expert, &mut action)?;
        Ok(action)
    }
}

/// A name for as long as the program lives: there are few.
fn kept(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name = String::leak(name);
    names.insert(name);
    name
}
