//! What a session's effects do: the loop, the device and the log behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::{Args, check_heat, check_room};
use crate::clock::Time;
use crate::cmd::run::Running;
use crate::cmd::{Context, simulate};
use crate::config::RobotConfig;
use crate::control::{Command, GoalRequest, Handle, Lead, Status};
use crate::episode::{LogStatus, Mode, Source};
use crate::joints::{GoalVec, JointVec};
use crate::teleop::{Effect, Follower, Observed, Seat, Session, State, Word};

/// Nearer than this to home is there, and nearer than this to a wish is together (rad).
const NEAR: f64 = 0.06;
/// The loop cuts a demonstration itself when the session does not (s).
const GRACE: f64 = 600.0;
/// The rate is measured over this time.
const RATE_OVER: Duration = Duration::from_secs(1);

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filed {
    /// It is on the disk.
    Saved(PathBuf),
    /// It was thrown away.
    Removed(PathBuf),
}

/// An arm with whoever steers it.
pub struct Booth<'a> {
    args: &'a Args,
    pub robot: RobotConfig,
    goal: Option<GoalVec>,
    context: &'a Context,
    handle: Handle,
    running: &'a Running,
    log: Arc<LogStatus>,
    pub seat: Seat,
    /// The files of this session that are there, oldest first.
    files: Vec<PathBuf>,
    finished: u64,
    filed: Vec<Filed>,
    /// Ticks at a time, and ticks per second since.
    rate: (Time, u64, f64),
    /// The last look.
    pub status: Status,
}

impl<'a> Booth<'a> {
    pub fn new(
        args: &'a Args,
        robot: RobotConfig,
        goal: Option<GoalVec>,
        context: &'a Context,
        running: &'a Running,
        seat: Seat,
    ) -> Self {
        let (handle, log) = (running.handle(), running.log());
        Self {
            args,
            robot,
            goal,
            context,
            status: handle.status(),
            handle,
            running,
            log,
            seat,
            files: Vec::new(),
            finished: 0,
            filed: Vec::new(),
            rate: (context.clock.now(), 0, 0.0),
        }
    }

    /// Looks at everything and lets the session go on.
    pub fn look(&mut self, session: &mut Session) -> Result<()> {
        self.status = self.handle.status();
        anyhow::ensure!(!self.status.ended, "the control loop has ended");
        let now = self.context.clock.now();
        let (since, ticks, _) = self.rate;
        if now.since(since) >= RATE_OVER {
            let run = self.status.counters.ticks;
            let rate = (run - ticks) as f64 / now.since(since).as_secs_f64();
            self.rate = (now, run, rate);
        }
        let finished = self.log.episodes();
        if finished > self.finished
            && let Some(path) = self.log.newest()
        {
            self.finished = finished;
            self.files.push(path.clone());
            self.filed.push(Filed::Saved(path));
        }
        let effects = session.observe(&self.observed(now));
        self.apply(session, effects);
        for word in self.seat.with(|device| device.words()) {
            // One button starts and stops.
            let stops = word == Word::Start && session.state() == State::Recording;
            self.say(session, if stops { Word::Stop } else { word });
        }
        Ok(())
    }

    /// Takes a word of the operator.
    pub fn say(&mut self, session: &mut Session, word: Word) {
        let effects = session.word(word);
        self.apply(session, effects);
    }

    fn observed(&self, now: Time) -> Observed {
        let step = &self.status.step;
        let near = |a: f64, b: f64| (a - b).abs() < NEAR;
        let homes = self.robot.joint.iter().map(|joint| joint.home_rad);
        let wished = step.action.iter().zip(&step.sent);
        let together = step.mode == Mode::Teleop
            && wished.clone().all(|(a, b)| near(f64::from(*a), f64::from(*b)))
            && !step.action.is_empty();
        Observed {
            now,
            mode: step.mode,
            home: homes.zip(&step.position).all(|(home, q)| near(home, f64::from(*q))),
            together,
            done: self.seat.with(|device| device.done()),
            files: self.finished,
            failures: self.log.failures(),
        }
    }

    fn apply(&mut self, session: &mut Session, effects: Vec<Effect>) {
        for effect in effects {
            if let Err(error) = self.apply_one(effect) {
                session.refused(effect, &format!("{error:#}"));
                return;
            }
        }
    }

    fn apply_one(&mut self, effect: Effect) -> Result<()> {
        let command = match effect {
            Effect::Arm => {
                check_heat(&self.robot, &self.handle)?;
                return self.running.arm();
            }
            Effect::EmergencyStop => Command::EmergencyStop,
            Effect::GoHome => {
                Command::Move(self.robot.joint.iter().map(|joint| joint.home_rad).collect())
            }
            Effect::TakeOver => return self.take_over(),
            Effect::LetGo => {
                self.engage(false);
                Command::LetGo
            }
            Effect::Record => Command::Record(self.request()?),
            Effect::Mark => Command::Mark,
            Effect::Cut => Command::Cut,
            Effect::Conclude(verdict) => Command::Conclude(verdict),
            Effect::Remove => return self.remove(),
        };
        Ok(self.handle.command(command)?)
    }

    fn follower(&self) -> Follower {
        super::look(self.handle.clone(), Arc::clone(&self.context.clock))()
    }

    fn engage(&self, engaged: bool) {
        let follower = self.follower();
        self.seat.with(|device| device.engage(engaged, &follower));
    }

    fn take_over(&mut self) -> Result<()> {
        if let Some(error) = self.seat.error() {
            anyhow::bail!(error);
        }
        let lead = self.seat.with(|device| device.lead());
        if lead == Lead::Device {
            self.check_mismatch()?;
        }
        self.handle.command(Command::TakeOver(lead))?;
        self.engage(true);
        Ok(())
    }

    /// The loop refuses a leader that is far away; here the joint has its name.
    fn check_mismatch(&mut self) -> Result<()> {
        let follower = self.follower();
        let Some(wish) = self.seat.with(|device| device.poll(&follower))? else { return Ok(()) };
        let most = self.robot.safety.max_mismatch_rad;
        let place: &JointVec<f64> = follower.place();
        for ((joint, q), at) in self.robot.joint.iter().zip(&wish.position).zip(place) {
            let off = q - at;
            anyhow::ensure!(
                off.abs() <= most,
                "the leader's `{}` is {off:+.2} rad from the arm's: bring it within {most} rad",
                joint.name
            );
        }
        Ok(())
    }

    fn request(&mut self) -> Result<GoalRequest> {
        check_room(self.context.storage.as_ref(), &self.args.episodes)?;
        check_heat(&self.robot, &self.handle)?;
        let drawn = self.seat.with(|device| device.next_goal())?;
        let goal = self.goal.clone().or(drawn).unwrap_or_default();
        Ok(GoalRequest {
            timeout: Duration::from_secs_f64(self.args.episode_time + GRACE),
            end_when_reached: false,
            ..simulate::request(&self.robot, goal, Source::Demonstration)
        })
    }

    fn remove(&mut self) -> Result<()> {
        let Some(path) = self.files.pop() else { return Ok(()) };
        self.context.storage.remove(&path)?;
        self.context.storage.sync_folder(&self.args.episodes)?;
        self.filed.push(Filed::Removed(path));
        Ok(())
    }

    /// What happened to files since the last call.
    pub fn filed(&mut self) -> Vec<Filed> {
        std::mem::take(&mut self.filed)
    }

    /// The program is to end, or its supervisor wants it to.
    pub fn is_to_end(&self) -> bool {
        self.context.check().is_err() || self.running.asked_to_stop()
    }

    /// Ticks per second.
    pub fn rate(&self) -> f64 {
        self.rate.2
    }

    /// Bytes that are free for episodes.
    pub fn free(&self) -> Option<u64> {
        self.context.storage.free(&self.args.episodes).ok()
    }

    /// What the episodes show.
    pub fn task(&self) -> &str {
        &self.args.task
    }
}
