//! The policy of a store in service: which one steers, and what becomes of one on trial.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::{Running, load};
use crate::cmd::Context;
use crate::config::RobotConfig;
use crate::control::{Actor, Demotion};
use crate::policy::store::{Started, TRIALS};
use crate::policy::{Store, StoreError};

/// The store's policy in a running loop.
pub(super) struct Deployment {
    store: Store,
    started: Started,
    /// Its trial is under way.
    on_trial: bool,
    /// It has steered.
    used: bool,
    /// The last goal that ended before it did.
    since: u64,
    /// Not yet written down.
    demotions: Vec<Demotion>,
    /// The store could not be written at the last call.
    troubled: bool,
}

impl Deployment {
    /// Takes the policy to start with out of a store, and whoever steers first: the committed policy,
    /// which a policy on trial gives way to. A policy that cannot be loaded is demoted.
    pub(super) fn start(
        folder: &Path,
        robot: &RobotConfig,
        context: &Context,
    ) -> Result<(Self, Box<dyn Actor>)> {
        let (storage, clock) = (Arc::clone(&context.storage), Arc::clone(&context.clock));
        let store = Store::open(storage, clock, folder)?;
        loop {
            let started = store.start()?;
            let fits = load(&started.file, robot, context.clock.as_ref());
            let first = match (fits, &started.fallback) {
                (Ok(_), Some(committed)) => load(committed, robot, context.clock.as_ref())?,
                (Ok(policy), None) => policy,
                (Err(error), _) => {
                    let why = format!("it cannot be loaded: {error:#}");
                    if store.demote(started.policy, &why)? {
                        eprintln!("policy {}: {why}", started.policy);
                        continue;
                    }
                    return Err(error);
                }
            };
            let on_trial = started.trial.is_some();
            let (used, since, demotions, troubled) = (false, 0, Vec::new(), false);
            let deployment = Self { store, started, on_trial, used, since, demotions, troubled };
            return Ok((deployment, first));
        }
    }

    /// Begins the trial of a policy that was staged while the loop runs.
    ///
    /// # Errors
    /// The disk failed: what steers goes on.
    pub(super) fn take_up(&mut self, running: &Running) -> Result<()> {
        if self.on_trial {
            return Ok(());
        }
        let started = self.store.start()?;
        if started.trial.is_none() {
            return Ok(());
        }
        self.started = started;
        (self.on_trial, self.used) = (true, false);
        self.since = running.handle().results().last().map_or(0, |result| result.id);
        self.seat(running)
    }

    /// Lets a policy on trial steer, and says who does.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn seat(&mut self, running: &Running) -> Result<()> {
        let policy = self.started.policy;
        let Some(start) = self.started.trial else {
            println!("policy {policy}");
            return Ok(());
        };
        if self.started.fallback.is_some()
            && let Err(error) = running.swap(&self.started.file)
        {
            self.on_trial = false;
            self.store.demote(policy, &format!("it was not swapped in: {error:#}"))?;
            println!("policy {policy} was not swapped in, the one before steers: {error:#}");
            return Ok(());
        }
        println!(
            "policy {policy} is on trial, start {start} of {TRIALS}: the first goal that it reaches commits it"
        );
        Ok(())
    }

    /// Writes down what became of policies since the last call: failed ones are demoted, and one on
    /// trial is committed when it has reached a goal. What the disk does not take now is tried again
    /// at the next call: the arm goes on.
    pub(super) fn watch(&mut self, running: &Running) {
        let handle = running.handle();
        self.demotions.extend(handle.swapper().demotions());
        self.used |= handle.status().step.policy == self.started.policy;
        let mut results = handle.results().into_iter().filter(|result| result.id > self.since);
        let reached = self.used && results.any(|result| result.success);
        match self.note(self.on_trial && reached) {
            Ok(()) => self.troubled = false,
            Err(error) if !self.troubled => {
                log::error!("the policy store cannot be written: {error}");
                self.troubled = true;
            }
            Err(_) => {}
        }
    }

    fn note(&mut self, proven: bool) -> Result<(), StoreError> {
        let policy = self.started.policy;
        while let Some(demotion) = self.demotions.last() {
            self.store.demote(demotion.failed, demotion.why)?;
            self.on_trial &= demotion.failed != policy;
            self.demotions.pop();
        }
        if proven && self.on_trial {
            self.store.commit("it reached a goal")?;
            self.on_trial = false;
            println!("policy {policy} is committed: it reached a goal");
        }
        Ok(())
    }
}

impl Drop for Deployment {
    /// A trial in which it never steered says nothing.
    fn drop(&mut self) {
        if self.on_trial
            && !self.used
            && let Err(error) = self.store.unused(self.started.policy)
        {
            log::warn!("{error}");
        }
    }
}
