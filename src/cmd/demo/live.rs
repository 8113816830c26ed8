//! The arm over its pseudo terminal, in real time.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Demo, note};
use crate::cmd::progress::Bar;
use crate::cmd::run::Running;
use crate::cmd::simulate;
use crate::control::{Command, GoalRequest};
use crate::env::{Workspace, start_pose};
use crate::episode::{Episode, Mode, Source};
use crate::joints::JointVec;
use crate::kinematics::Chain;
use crate::rng::{self, Stream};

impl Demo<'_> {
    /// Goals over the pseudo terminal in real time; how many were reached.
    pub(super) fn live(&self, running: &Running, what: &str) -> Result<usize> {
        let bar = Bar::new(&format!("over the pty, {what}"), self.args.live_goals);
        let workspace = Workspace::new(&Chain::of(&self.robot)?);
        let mut reached = 0;
        for i in 0..self.args.live_goals as u64 {
            let mut rng = rng::item(self.args.seed, Stream::HeldOut, i);
            let goal = workspace.sample(&mut rng);
            let start = start_pose(&self.robot, &mut rng);
            self.go_to(running, &start)?;
            let request = simulate::request(&self.robot, goal, Source::Evaluation);
            let id = running.handle().reach(request)?;
            reached += usize::from(self.wait_for(running, id)?);
            bar.inc();
        }
        bar.finish();
        note(format!("{reached} of {} goals reached over the pty", self.args.live_goals));
        Ok(reached)
    }

    /// Waits for a goal's end; whether it was reached.
    fn wait_for(&self, running: &Running, id: u64) -> Result<bool> {
        loop {
            self.stop_if_interrupted(running)?;
            if let Some(result) = running.handle().wait_for(id, Duration::from_millis(100)) {
                return Ok(result.success);
            }
            if running.handle().status().ended {
                bail!("the control loop has ended");
            }
        }
    }

    fn go_to(&self, running: &Running, pose: &JointVec<f64>) -> Result<()> {
        self.clear_fault(running)?;
        running.handle().command(Command::Move(pose.clone()))?;
        let clock = &self.context.clock;
        let until = clock.now() + Duration::from_secs(3);
        loop {
            self.stop_if_interrupted(running)?;
            let step = running.handle().status().step;
            let there = step.position.iter().zip(pose);
            let there = there.into_iter().all(|(q, p)| (f64::from(*q) - p).abs() < 0.02);
            if there || clock.now() > until {
                return Ok(());
            }
            clock.sleep_until(clock.now() + Duration::from_millis(10));
        }
    }

    /// The demo is its own operator: it says what stopped the arm, and clears it.
    fn clear_fault(&self, running: &Running) -> Result<()> {
        if let Mode::Faulted(fault) = running.handle().status().step.mode {
            note(format!("the arm was stopped by a fault ({fault}); clearing it"));
            self.faults.fetch_add(1, Ordering::Relaxed);
            running.handle().command(Command::Arm)?;
        }
        Ok(())
    }

    /// Ctrl-C: the arm is held; dropping what runs closes the log.
    fn stop_if_interrupted(&self, running: &Running) -> Result<()> {
        if self.context.check().is_err() {
            running.handle().command(Command::Stop)?;
        }
        Ok(self.context.check()?)
    }

    /// Swaps the candidate in while the arm reaches for a goal, and reads back from the episode's
    /// file that two consecutive ticks were steered by the old and the new policy.
    pub(super) fn swap_while_reaching(&self, running: &Running, candidate: &[u8]) -> Result<bool> {
        let id = self.set_out(running)?;
        let swapped = running.swap(candidate)?;
        note(format!(
            "swapped in after {} shadow runs (p99 {:?} per action)",
            swapped.shadow_runs, swapped.p99
        ));
        self.wait_for(running, id)?;
        let file = self.newest_episode(running)?;
        let episode = Episode::read(self.context.storage.as_ref(), &file)?;
        let (old, new) = (crate::policy::id_of(&self.base), swapped.policy);
        let seen = episode.steps.windows(2).any(|pair| {
            pair[0].policy == old && pair[1].policy == new && pair[1].tick == pair[0].tick + 1
        });
        note(format!("{}: old and new policy in consecutive ticks: {seen}", file.display()));
        Ok(seen)
    }

    /// Starts toward a goal and gives its id while the arm is moving; a fault is cleared and tried
    /// over.
    fn set_out(&self, running: &Running) -> Result<u64> {
        let workspace = Workspace::new(&Chain::of(&self.robot)?);
        let mut rng = rng::item(self.args.seed, Stream::Validation, u64::from(u32::MAX));
        let clock = &self.context.clock;
        for _ in 0..3 {
            self.go_to(running, &start_pose(&self.robot, &mut rng))?;
            let goal = workspace.sample(&mut rng);
            let asked = GoalRequest {
                end_when_reached: false,
                ..simulate::request(&self.robot, goal, Source::Evaluation)
            };
            let id = running.handle().reach(asked)?;
            clock.sleep_until(clock.now() + Duration::from_millis(500));
            if running.handle().status().step.mode == Mode::Reaching {
                return Ok(id);
            }
        }
        bail!("the arm was stopped by a fault three times: is this computer too busy?")
    }

    /// Waits until so many live episodes are closed.
    pub(super) fn wait_for_log(&self, running: &Running, episodes: usize) -> Result<()> {
        let log = running.log();
        let clock = &self.context.clock;
        let until = clock.now() + Duration::from_secs(5);
        while (log.episodes() as usize) < episodes && clock.now() < until {
            clock.sleep_until(clock.now() + Duration::from_millis(20));
        }
        match log.last_error() {
            Some(error) => bail!("an episode was not logged: {error}"),
            None => Ok(()),
        }
    }

    /// The file of the last goal's episode, once it is closed.
    fn newest_episode(&self, running: &Running) -> Result<PathBuf> {
        self.wait_for_log(running, running.handle().results().len())?;
        let folder = self.args.out.join("episodes/live");
        let listed = crate::episode::list(self.context.storage.as_ref(), &folder)?;
        listed.last().map(|s| s.path.clone()).context("no episode was logged")
    }
}
