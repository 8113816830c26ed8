//! An episode's motion on the arm, steered through the same gate as a person's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Args, fit};
use crate::clock::Time;
use crate::cmd::actors::Nobody;
use crate::cmd::progress::Bar;
use crate::cmd::record::{check_heat, look};
use crate::cmd::robot::operator::{Operator as _, Terminal};
use crate::cmd::robot::{EMULATED, Which, calibrated};
use crate::cmd::run::{Crew, Running};
use crate::cmd::{Context, say, say_json};
use crate::config::RobotConfig;
use crate::control::{Command, CommandError, Handle, Lead, Refusal, teleop_queue};
use crate::episode::{Episode, Mode, Step};
use crate::joints::JointVec;
use crate::teleop::{Course, Recorded, TeleopThread, Track};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// Nearer than this to the beginning is there (rad): servos hold with play.
const NEAR: f64 = 0.06;
/// The way to the beginning is given up after this time.
const APPROACH: Duration = Duration::from_secs(20);
/// The device's first wish comes within this time.
const FIRST_WISH: Duration = Duration::from_secs(1);

/// Plays the part of an episode between two times (s).
///
/// # Errors
/// As the verb.
pub fn play(args: &Args, span: (f64, f64), context: &Context) -> Result<()> {
    let robot = args.robot.clone().unwrap_or_else(|| "firmware-config/emulated.toml".into());
    let which = Which { robot, port: args.port.clone() };
    let robot = calibrated(&which, context)?;
    let course = course(args, span, &robot, context)?;
    let (sender, receiver) = teleop_queue();
    let crew = Crew { actor: Box::new(Nobody), teleop: Some(receiver), episodes: None, task: "" };
    let running = Running::with(&robot, crew, context)?;
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, running.handle().emergency())?;
    running.wait_for_arm();
    check_heat(&robot, &running.handle())?;
    if !args.arm && robot.bus.port != EMULATED {
        consent(args, &robot, context)?;
    }
    running.arm()?;
    let pause = Duration::from_secs_f64(robot.safety.startup_s);
    let mut player = Player {
        handle: running.handle(),
        context,
        tracking: Tracking::of(robot.joint.len()),
        seconds: course.seconds() / args.speed,
        pause,
    };
    player.approach(&course.at(0.0))?;
    let device = Recorded::new(course, args.speed, pause);
    let clock = Arc::clone(&context.clock);
    let look = look(running.handle(), Arc::clone(&clock));
    let teleop = TeleopThread::start(Box::new(device), sender, look, robot.period(), clock)?;
    let ended = player.follow(&teleop);
    // Refused by a fault, which has stopped the arm already.
    let _ = player.handle.command(Command::LetGo);
    player.tracking.tell(args, &robot, ended.is_ok())?;
    ended
}

fn course(args: &Args, span: (f64, f64), robot: &RobotConfig, context: &Context) -> Result<Course> {
    let path = &args.episode;
    let episode = Episode::read(context.storage.as_ref(), path)?;
    if let Some(damage) = episode.damage {
        bail!(
            "expected a whole episode, found {}: {damage}; `regoal episodes repair` it first",
            path.display()
        );
    }
    fit::check_robot(&episode.header, robot, args.anyway)
        .with_context(|| path.display().to_string())?;
    let track = if args.measured { Track::Measured } else { Track::Sent };
    let course = Course::of(&episode.steps, robot.joint.len(), track, span)?;
    if !args.anyway {
        fit::check_limits(&course, robot)?;
    }
    Ok(course)
}

/// Waits until whoever stands at the arm says that it may move.
fn consent(args: &Args, robot: &RobotConfig, context: &Context) -> Result<()> {
    ensure!(!args.json, "--json: expected --arm too, as nobody is asked");
    let mut operator = Terminal::new(true);
    operator.say(&format!(
        "`{}` will be powered and go to where the motion begins: clear its way, then press Enter",
        robot.name
    ))?;
    while !operator.pressed()? {
        context.check()?;
        context.clock.sleep_until(context.clock.now() + Duration::from_millis(20));
    }
    Ok(())
}

/// An armed arm on which a course is played.
struct Player<'a> {
    handle: Handle,
    context: &'a Context,
    tracking: Tracking,
    /// How long the course takes.
    seconds: f64,
    /// How long it waits at its beginning.
    pause: Duration,
}

impl Player<'_> {
    /// A look after a while.
    fn look(&self) -> Result<Step> {
        self.context.check()?;
        self.context.clock.sleep_until(self.context.clock.now() + LOOK);
        let status = self.handle.status();
        ensure!(!status.ended, "the control loop has ended");
        match status.step.mode {
            Mode::Faulted(fault) => bail!("stopped by a fault: {fault}"),
            Mode::Disarmed => bail!("the arm was disarmed"),
            _ => Ok(status.step),
        }
    }

    /// Goes to where the course begins.
    fn approach(&self, pose: &JointVec<f64>) -> Result<()> {
        self.handle.command(Command::Move(pose.clone()))?;
        let until = self.context.clock.now() + APPROACH;
        let far = |step: &Step| {
            step.position.iter().zip(pose).position(|(q, p)| (f64::from(*q) - p).abs() > NEAR)
        };
        while let Some(joint) = far(&self.look()?) {
            ensure!(
                self.context.clock.now() < until,
                "joint {} (from the base) does not get to where the motion begins: is something in its \
                 way, or is that beyond its limits?",
                joint + 1
            );
        }
        Ok(())
    }

    /// The device has the arm from now on, once it was heard.
    fn take_over(&self, teleop: &TeleopThread) -> Result<Time> {
        let until = self.context.clock.now() + FIRST_WISH;
        loop {
            self.look()?;
            match self.handle.command(Command::TakeOver(Lead::Device)) {
                Err(CommandError::Refused(Refusal::NobodySteers))
                    if self.context.clock.now() < until => {}
                answer => break answer?,
            }
        }
        let follower = look(self.handle.clone(), Arc::clone(&self.context.clock))();
        teleop.seat().with(|device| device.engage(true, &follower));
        Ok(follower.now)
    }

    fn follow(&mut self, teleop: &TeleopThread) -> Result<()> {
        let engaged = self.take_over(teleop)?;
        let bar = Bar::new("replaying (0.1 s)", (self.seconds * 10.0).ceil() as usize);
        let mut last = 0;
        let ended = loop {
            let step = match self.look() {
                Ok(step) => step,
                Err(error) => break Err(error),
            };
            if step.mode != Mode::Teleop {
                break Err(anyhow::anyhow!("somebody else has taken the arm"));
            }
            let played = step.time.since(engaged).as_secs_f64() - self.pause.as_secs_f64();
            if step.tick > last && (0.0..=self.seconds).contains(&played) {
                self.tracking.add(&step);
                bar.set((played * 10.0) as usize, "");
            }
            last = step.tick;
            if teleop.seat().with(|device| device.done()) {
                break Ok(());
            }
        };
        bar.finish();
        ended
    }
}

/// How far the joints were from where they were wished.
struct Tracking {
    ticks: u64,
    /// Sum of squares (rad²) and the furthest (rad).
    joints: Vec<(f64, f64)>,
}

impl Tracking {
    fn of(joints: usize) -> Self {
        Self { ticks: 0, joints: vec![(0.0, 0.0); joints] }
    }

    fn add(&mut self, step: &Step) {
        if step.action.len() != self.joints.len() {
            return;
        }
        self.ticks += 1;
        for ((squares, worst), (q, wish)) in
            self.joints.iter_mut().zip(step.position.iter().zip(&step.action))
        {
            let error = f64::from(*q) - f64::from(*wish);
            *squares += error * error;
            *worst = worst.max(error.abs());
        }
    }

    /// Root mean square and worst of each joint (degrees).
    fn degrees(&self) -> impl Iterator<Item = (f64, f64)> {
        let n = self.ticks.max(1) as f64;
        self.joints
            .iter()
            .map(move |(squares, worst)| ((squares / n).sqrt().to_degrees(), worst.to_degrees()))
    }

    fn tell(&self, args: &Args, robot: &RobotConfig, completed: bool) -> Result<()> {
        let joints = robot.joint.iter().map(|joint| joint.name.as_str()).zip(self.degrees());
        if args.json {
            let joints: Vec<Value> = joints
                .map(|(name, (rms, worst))| {
                    json!({ "joint": name, "rms_deg": rms, "worst_deg": worst })
                })
                .collect();
            return say_json(&json!({
                "episode": args.episode, "robot": robot.name, "completed": completed,
                "ticks": self.ticks, "tracking": joints,
            }));
        }
        say(format!("{:<16} {:>9} {:>9}   measured less wished", "joint", "RMS", "worst"))?;
        for (name, (rms, worst)) in joints {
            say(format!("{name:<16} {rms:>8.2}° {worst:>8.2}°"))?;
        }
        Ok(say(format!("{} ticks", self.ticks))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joints::stack;

    #[test]
    fn tracking_errors_are_the_root_of_the_mean_square_and_the_furthest() {
        let mut tracking = Tracking::of(2);
        for (q, wish) in [([0.1, 0.0], [0.0, 0.0]), ([0.0, 0.3], [0.0, 0.7])] {
            tracking.add(&Step { position: stack(q), action: stack(wish), ..Step::default() });
        }
        // Without a wish there is nothing to be off.
        tracking.add(&Step { position: stack([9.0, 9.0]), ..Step::default() });
        let found: Vec<(f64, f64)> = tracking.degrees().collect();
        let expected = [(0.1 / 2f64.sqrt(), 0.1), (0.4 / 2f64.sqrt(), 0.4)];
        for ((rms, worst), (a, b)) in found.into_iter().zip(expected) {
            assert!((rms.to_radians() - a).abs() < 1e-6 && (worst.to_radians() - b).abs() < 1e-6);
        }
        assert_eq!(tracking.ticks, 2);
    }
}
