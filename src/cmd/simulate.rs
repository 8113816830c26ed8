//! The control loop, the codec and the emulator in memory and virtual time: the same loop that runs
//! over a port, thousands of times faster. What joins `learn` and `control` stands here.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::actors::{Explorer, Nobody, Reacher};
use super::goals::Goals;
use crate::clock::{Clock as _, ManualClock};
use crate::config::RobotConfig;
use crate::control::{Actor, Command, ControlLoop, GoalRequest, GoalResult, Inline};
use crate::env::start_pose;
use crate::episode::{EpisodeHeader, LogStatus, LogWriter, Source, Split, WriterConfig, log_queue};
use crate::hal::{Arm, Emulator, MemoryPort};
use crate::joints::{GoalVec, JointVec};
use crate::learn::Exploration;
use crate::learn::evaluate::{Rate, median};
use crate::policy::Policy;
use crate::rng::{self, Stream};
use crate::storage::Storage;

/// The emulated robot with its loop, armed.
pub struct Simulation {
    robot: RobotConfig,
    clock: ManualClock,
    control: ControlLoop,
    log: Option<LogWriter>,
    tick: u64,
    goals: u64,
}

/// Ticks between two looks into the log queue.
const DRAIN_EVERY: u64 = 100;
/// The arm goes to a start pose for at most this long.
const SETTLE: Duration = Duration::from_secs(3);
/// Measured positions this near to the start pose count as there (rad).
const SETTLED: f64 = 0.01;

impl Simulation {
    /// Powers up an emulated robot; `log` is the folder that episodes go to.
    ///
    /// # Errors
    /// The robot does not open, or another program records into the folder.
    pub fn new(
        robot: &RobotConfig,
        seed: u64,
        log: Option<(Arc<dyn Storage>, &Path)>,
    ) -> Result<Self> {
        let clock = ManualClock::default();
        let emulator = Arc::new(Mutex::new(Emulator::new(robot, seed)));
        let port = MemoryPort::new(emulator, Arc::new(clock.clone()));
        let arm = Arm::open(robot, Box::new(port), Arc::new(clock.clone()))?;
        let (sender, writer) = match log {
            None => (None, None),
            Some((storage, folder)) => {
                let (sender, receiver) = log_queue();
                let config = WriterConfig::default();
                let writer = LogWriter::new(
                    storage,
                    Arc::new(clock.clone()),
                    folder.into(),
                    header_template(robot),
                    config,
                    receiver,
                )?;
                (Some(sender), Some(writer))
            }
        };
        let pilot = Box::new(Inline::new(Box::new(Nobody)));
        let control = ControlLoop::new(robot, arm, pilot, sender, Arc::new(clock.clone()))?;
        let mut simulation =
            Self { robot: robot.clone(), clock, control, log: writer, tick: 0, goals: 0 };
        simulation.run_tick();
        simulation.control.command(&Command::Arm)?;
        Ok(simulation)
    }

    /// From the next attempt on, `actor` steers.
    pub fn steer(&mut self, actor: Box<dyn Actor>) {
        self.control.set_pilot(Box::new(Inline::new(actor)));
    }

    /// Goes to a start pose, then reaches for a goal until the episode ends.
    ///
    /// # Errors
    /// The loop refuses, because a fault stopped it, or the episode could not be logged.
    pub fn attempt(&mut self, request: GoalRequest, start: &JointVec<f64>) -> Result<GoalResult> {
        self.go_to(start)?;
        self.goals += 1;
        let request = GoalRequest { id: self.goals, ..request };
        self.control.command(&Command::Reach(request))?;
        loop {
            self.run_tick();
            if let Some(result) = self.control.take_result() {
                self.drain();
                if let Some(log) = &self.log {
                    logged(&log.status())?;
                }
                return Ok(result);
            }
        }
    }

    /// Ticks run.
    pub fn ticks(&self) -> u64 {
        self.tick
    }

    /// Writes what is left of the log.
    ///
    /// # Errors
    /// The log could not be written.
    pub fn finish(mut self) -> Result<()> {
        let Some(log) = self.log.take() else { return Ok(()) };
        let status = log.status();
        log.close();
        logged(&status)
    }

    fn go_to(&mut self, pose: &JointVec<f64>) -> Result<()> {
        self.control.command(&Command::Move(pose.clone()))?;
        let until = self.clock.now() + SETTLE;
        while self.clock.now() < until {
            self.run_tick();
            let there = self.control.step().position.iter().zip(pose);
            if there.into_iter().all(|(q, p)| (f64::from(*q) - p).abs() < SETTLED) {
                break;
            }
        }
        Ok(())
    }

    fn run_tick(&mut self) {
        self.tick += 1;
        let start = self.clock.now();
        self.control.tick(self.tick, start);
        self.clock.sleep_until(start + self.robot.period());
        if self.tick.is_multiple_of(DRAIN_EVERY) {
            self.drain();
        }
    }

    fn drain(&mut self) {
        if let Some(log) = &mut self.log {
            log.drain();
        }
    }
}

fn logged(log: &LogStatus) -> Result<()> {
    match log.last_error() {
        Some(error) => anyhow::bail!("an episode was not logged: {error}"),
        None => Ok(()),
    }
}

/// What all episodes of a robot have in common.
pub fn header_template(robot: &RobotConfig) -> EpisodeHeader {
    EpisodeHeader {
        robot: robot.name.clone(),
        joints: robot.joint.iter().map(|j| j.name.clone()).collect(),
        rate_hz: robot.control.rate_hz,
        goal_space: robot.control.goal_space.name().into(),
        goal_tolerance: robot.control.goal_tolerance as f32,
        calibration: robot.calibration.clone(),
        // A configuration has no map whose keys are no text, which is all that JSON refuses.
        config: serde_json::to_string(robot).unwrap_or_default(),
        ..EpisodeHeader::default()
    }
}

/// A request for one goal with the robot's own tolerance and timeout.
pub fn request(robot: &RobotConfig, goal: GoalVec, source: Source) -> GoalRequest {
    GoalRequest {
        id: 0,
        goal,
        tolerance: robot.control.goal_tolerance as f32,
        timeout: Duration::from_secs_f64(robot.control.goal_timeout_s),
        stream: None,
        end_when_reached: true,
        source,
        split: Split::Training,
        seed: None,
    }
}

/// One evaluated goal.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The goal.
    pub goal: GoalVec,
    /// How it went.
    pub result: GoalResult,
}

/// A policy's success over goals.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Each goal.
    pub trials: Vec<Trial>,
    /// Ticks run.
    pub ticks: u64,
}

impl Evaluation {
    /// The success rate.
    pub fn rate(&self) -> Rate {
        let successes = self.trials.iter().filter(|t| t.result.success).count();
        Rate { successes, n: self.trials.len() }
    }

    /// The median distance at the end (m or rad).
    pub fn median_distance(&self) -> f32 {
        median(self.trials.iter().map(|t| t.result.distance).collect()).unwrap_or(f32::NAN)
    }
}

/// Evaluates a policy, noise-free, on `n` goals of a stream.
///
/// # Errors
/// The policy does not fit the robot, a fault, or `interrupted`.
pub fn evaluate(
    context: &super::Context,
    robot: &RobotConfig,
    policy: Policy,
    wanted: (Stream, u64, usize),
    on_goal: &dyn Fn(),
) -> Result<Evaluation> {
    let (stream, seed, n) = wanted;
    let goals = Goals::of(robot)?;
    let mut simulation = Simulation::new(robot, seed, None)?;
    simulation.steer(Box::new(policy));
    let mut trials = Vec::with_capacity(n);
    for i in 0..n as u64 {
        context.check()?;
        let mut rng = rng::item(seed, stream, i);
        let goal = goals.sample(&mut rng);
        let start = start_pose(robot, &mut rng);
        let asked = request(robot, goal.clone(), Source::Evaluation);
        let result = simulation.attempt(asked, &start)?;
        trials.push(Trial { goal, result });
        on_goal();
    }
    Ok(Evaluation { trials, ticks: simulation.ticks() })
}

/// How the robot practises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Practice {
    /// Attempts.
    pub attempts: usize,
    /// The first attempt's number: rounds do not repeat each other's goals.
    pub first: u64,
    /// Seed of goals, starts and noise.
    pub seed: u64,
    /// Stationary deviation of the exploration noise, in largest actions.
    pub noise: f64,
    /// Share of itself that the noise forgets each tick.
    pub forget: f64,
    /// One in this many attempts is kept aside for validation.
    pub validation_every: usize,
}

/// Lets the policy try all goals that the arm can reach with exploration noise and logs every attempt,
/// failures included. Gives the rate of attempts that succeeded, and the ticks run.
///
/// # Errors
/// The policy does not fit the robot, a fault, the log cannot be written, or `interrupted`.
pub fn practise(
    context: &super::Context,
    robot: &RobotConfig,
    policy: Policy,
    how: &Practice,
    folder: &Path,
    on_goal: &dyn Fn(),
) -> Result<(Rate, u64)> {
    let goals = Goals::of(robot)?;
    let log = Some((context.storage.clone(), folder));
    let mut simulation = Simulation::new(robot, how.seed, log)?;
    let mut noise_rng = rng::item(how.seed, Stream::Exploration, how.first);
    let joints = policy.spec().joints.len();
    simulation.steer(Box::new(Explorer {
        unit: crate::learn::gcbc::max_delta(policy.spec()),
        noise: Exploration::new(how.noise, how.forget, joints, &mut noise_rng),
        rng: noise_rng,
        policy,
    }));
    let mut rate = Rate::default();
    for i in how.first..how.first + how.attempts as u64 {
        context.check()?;
        let mut rng = rng::item(how.seed, Stream::Attempts, i);
        let goal = goals.sample(&mut rng);
        let start = start_pose(robot, &mut rng);
        let validation =
            how.validation_every > 0 && (i as usize + 1).is_multiple_of(how.validation_every);
        let asked = GoalRequest {
            end_when_reached: false,
            split: if validation { Split::Validation } else { Split::Training },
            seed: Some(how.seed),
            ..request(robot, goal, Source::Attempt)
        };
        let result = simulation.attempt(asked, &start)?;
        rate.n += 1;
        rate.successes += usize::from(result.success);
        on_goal();
    }
    let ticks = simulation.ticks();
    simulation.finish().with_context(|| format!("attempts in {}", folder.display()))?;
    Ok((rate, ticks))
}

/// Logs scripted demonstrations, of places those on the arm's right side.
///
/// # Errors
/// A fault, the log cannot be written, or `interrupted`.
pub fn demonstrate(
    context: &super::Context,
    robot: &RobotConfig,
    n: usize,
    seed: u64,
    folder: &Path,
) -> Result<Rate> {
    let goals = Goals::of(robot)?;
    let mut simulation = Simulation::new(robot, seed, Some((context.storage.clone(), folder)))?;
    simulation.steer(Box::new(Reacher::new(robot)?));
    let mut rate = Rate::default();
    for i in 0..n as u64 {
        context.check()?;
        let mut rng = rng::item(seed, Stream::Demonstrations, i);
        let start = start_pose(robot, &mut rng);
        let asked = GoalRequest {
            end_when_reached: false,
            seed: Some(seed),
            ..request(robot, goals.sample_shown(&mut rng), Source::Demonstration)
        };
        let result = simulation.attempt(asked, &start)?;
        rate.n += 1;
        rate.successes += usize::from(result.success);
    }
    simulation.finish()?;
    Ok(rate)
}
