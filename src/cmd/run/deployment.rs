//! The policy of a store in service: which one steers, and what becomes of one on trial.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use anyhow::{Context as _, Result};

use super::{Running, load};
use crate::clock::Clock;
use crate::cmd::Context;
use crate::cmd::actors::{Nobody, Reacher};
use crate::cmd::policy::install::try_out;
use crate::config::RobotConfig;
use crate::control::{Actor, Demotion, Handle};
use crate::daemon::{Code, ErrorReply, Installation, Installed, Policies, PolicyReport};
use crate::engine::isolate::Isolation;
use crate::engine::{Engine, EngineError};
use crate::episode::PolicyId;
use crate::policy::store::{Entry, Started, State, TRIALS};
use crate::policy::{Claims, Cost, Store, StoreError, Trust, id_of};

/// What a run takes out of a store at its begin.
pub(super) struct First {
    store: Store,
    /// None of an empty store.
    started: Option<Started>,
    /// Who steers first.
    seated: PolicyId,
}

impl First {
    /// Takes the policy to start with out of a store, and whoever steers first: the committed policy,
    /// which a policy on trial gives way to. A policy that cannot be loaded is demoted. While the store
    /// is empty, the arm goes straight to its goals, where it can.
    pub(super) fn of(
        folder: &Path,
        robot: &RobotConfig,
        context: &Context,
    ) -> Result<(Self, Box<dyn Actor>)> {
        let (storage, clock) = (Arc::clone(&context.storage), Arc::clone(&context.clock));
        let store = Store::open(storage, clock, folder)?;
        loop {
            let started = match store.start() {
                Err(StoreError::Empty { .. }) => {
                    let actor = without_policy(robot);
                    return Ok((Self { store, started: None, seated: actor.id() }, actor));
                }
                started => started?,
            };
            let fits = load(&started.file, robot, context.clock.as_ref());
            let first = match (fits, &started.fallback) {
                (Ok(_), Some(committed)) => load(committed, robot, context.clock.as_ref())?,
                (Ok(policy), None) => policy,
                (Err(error), _) => {
                    let why = format!("it cannot be loaded: {error:#}");
                    if store.demote(started.policy, &why)? {
                        remark!("policy {}: {why}", started.policy);
                        continue;
                    }
                    return Err(error);
                }
            };
            let seated = first.id();
            return Ok((Self { store, started: Some(started), seated }, first));
        }
    }
}

/// Who steers without a policy: straight to the goals, where the arm can be told how.
fn without_policy(robot: &RobotConfig) -> Box<dyn Actor> {
    match Reacher::new(robot) {
        Ok(reacher) => Box::new(reacher),
        Err(_) => Box::new(Nobody),
    }
}

/// The store's policy in a running loop. Whoever attends to the loop watches it, clients change it.
pub(super) struct Deployment {
    store: Store,
    robot: RobotConfig,
    clock: Arc<dyn Clock>,
    handle: Handle,
    /// Held by whoever changes who steers, which takes a while.
    seat: Mutex<Seat>,
    /// Who was seated last, or came back after it failed; changed with the seat held.
    seated: Mutex<PolicyId>,
}

/// Whether whoever steers is on trial.
struct Seat {
    /// What the run is to begin with.
    first: Option<Started>,
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
    /// The deployment in a loop in which whoever steers first is seated.
    pub(super) fn new(first: First, running: &Running, context: &Context) -> Self {
        let First { store, started: first, seated } = first;
        let (on_trial, used, since, demotions, troubled) = (false, false, 0, Vec::new(), false);
        let seat = Mutex::new(Seat { first, on_trial, used, since, demotions, troubled });
        let (robot, clock) = (running.robot.clone(), Arc::clone(&context.clock));
        Self { store, robot, clock, handle: running.handle(), seat, seated: Mutex::new(seated) }
    }

    /// Lets the policy that the run begins with steer, and says who does.
    pub(super) fn begin(&self) {
        let mut seat = lock(&self.seat);
        match seat.first.take() {
            Some(started) => {
                if let Err(error) = self.seat(&mut seat, &started) {
                    log::error!("{error:#}");
                }
            }
            None if self.seated() == PolicyId::default() => {
                tell!("no policy yet: `regoal policy install` brings one");
            }
            None => {}
        }
    }

    fn seated(&self) -> PolicyId {
        *lock(&self.seated)
    }

    fn sit(&self, policy: PolicyId) {
        *lock(&self.seated) = policy;
    }

    /// Begins the trial of a policy that was staged while the loop runs, in a thread of its own: that
    /// takes a while, and whoever attends to the loop goes on. Where it fails, what steers goes on.
    pub(super) fn take_up(self: &Arc<Self>) {
        let deployment = Arc::clone(self);
        let waits = |error| log::error!("the candidate waits for the next start: {error:#}");
        let begin = move || deployment.begin_trial().unwrap_or_else(waits);
        let thread = std::thread::Builder::new().name("trial".into()).spawn(begin);
        thread.map_or_else(|error| waits(error.into()), drop);
    }

    fn begin_trial(&self) -> Result<()> {
        let mut seat = lock(&self.seat);
        // One that has been started is on trial here; a newer one takes its place.
        if self.store.state()?.candidate.is_none_or(|candidate| candidate.starts > 0) {
            return Ok(());
        }
        let started = self.store.start()?;
        if started.trial.is_none() {
            return Ok(());
        }
        self.seat(&mut seat, &started)
    }

    /// Lets a policy that the store has started steer, and says so. One on trial that the loop does not
    /// take is demoted.
    fn seat(&self, seat: &mut Seat, started: &Started) -> Result<()> {
        let policy = started.policy;
        if self.seated() != policy
            && let Err(error) = self.swap(seat, started)
        {
            if started.trial.is_some() {
                self.store.demote(policy, &format!("it was not swapped in: {error:#}"))?;
            }
            return Err(
                error.context(format!("policy {policy} was not swapped in, the one before steers"))
            );
        }
        self.sit(policy);
        (seat.on_trial, seat.used) = (started.trial.is_some(), false);
        seat.first = None;
        seat.since = self.handle.results().last().map_or(0, |result| result.id);
        match started.trial {
            None => tell!("policy {policy}"),
            Some(start) => tell!(
                "policy {policy} is on trial, start {start} of {TRIALS}: the first goal that it reaches \
                 commits it"
            ),
        }
        Ok(())
    }

    /// Swaps a policy in. Should it fail, the committed one takes over, or before there is one whoever
    /// steers without a policy; never one on trial, or one that a person went back from.
    fn swap(&self, seat: &mut Seat, started: &Started) -> Result<()> {
        let load = |file: &[u8]| load(file, &self.robot, self.clock.as_ref());
        let (swapper, candidate) = (self.handle.swapper(), load(&started.file)?);
        if let Some(committed) = &started.fallback
            && id_of(committed) != self.seated()
        {
            swapper.swap_alone(load(committed)?)?;
            self.sit(id_of(committed));
            seat.on_trial = false;
        }
        match started.fallback.is_some() || self.seated() == PolicyId::default() {
            true => swapper.swap(candidate)?,
            false => swapper.swap_alone(candidate)?,
        };
        Ok(())
    }

    /// Writes down what became of policies since the last call: failed ones are demoted, and one on
    /// trial is committed when it has reached a goal. What the disk does not take now is tried again
    /// at the next call, as is all while a client changes who steers: the arm goes on.
    pub(super) fn watch(&self) {
        let mut seat = match self.seat.try_lock() {
            Ok(seat) => seat,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        match self.note(&mut seat) {
            Ok(()) => seat.troubled = false,
            Err(error) if !seat.troubled => {
                log::error!("the policy store cannot be written: {error}");
                seat.troubled = true;
            }
            Err(_) => {}
        }
    }

    fn note(&self, seat: &mut Seat) -> Result<(), StoreError> {
        seat.demotions.extend(self.handle.swapper().demotions());
        while let Some(Demotion { failed, back, why }) = seat.demotions.first().copied() {
            self.store.demote(failed, why)?;
            if self.seated() == failed {
                seat.on_trial = false;
                self.sit(back.unwrap_or(failed));
            }
            seat.demotions.remove(0);
        }
        let seated = self.seated();
        seat.used |= self.handle.status().step.policy == seated;
        let mut results = self.handle.results().into_iter().filter(|result| result.id > seat.since);
        if seat.on_trial && seat.used && results.any(|result| result.success) {
            // Another one that was staged meanwhile has proved nothing.
            if self.store.prove(seated, "it reached a goal")? {
                tell!("policy {seated} is committed: it reached a goal");
            }
            seat.on_trial = false;
        }
        Ok(())
    }
}

impl Deployment {
    /// Whether this robot may and can use a file from elsewhere: what its signatures say of it, and what
    /// an action costs here. Nothing of it is parsed before they are checked, and nothing of it is loaded
    /// here before another process has outlived it.
    fn admit(
        &self,
        file: &[u8],
        order: &Installation,
    ) -> Result<(Option<Claims>, Cost), ErrorReply> {
        let signatures = order.signatures.concat();
        let signatures = (!signatures.is_empty()).then_some(signatures.as_str());
        let admit = || {
            let claims = Trust::of(&self.robot.policy)?.admit(file, signatures)?;
            if let Some(claims) = &claims {
                claims.check(&self.robot, self.clock.wall())?;
            }
            Isolation::of_this_program()?.try_load(file, &Engine::tract())?;
            Ok((claims, try_out(file, &self.robot, self.clock.as_ref())?))
        };
        admit().map_err(refused)
    }

    /// Makes an admitted file the policy that steers; whether it is the active one then. Nothing is done
    /// about one that is that already, or on trial.
    fn put_in(
        &self,
        file: &[u8],
        claims: Option<&Claims>,
        order: &Installation,
        who: &str,
    ) -> Result<bool, ErrorReply> {
        let mut seat = lock(&self.seat);
        let entry = Entry { policy: order.policy, version: claims.map(|claims| claims.version) };
        let State { active, candidate, .. } = self.store.state()?;
        let on_trial = candidate.map(|candidate| candidate.entry);
        let steers = self.seated() == order.policy;
        if steers && on_trial.is_none() && active == Some(entry) {
            return Ok(true);
        }
        let why = format!("installed by {who}");
        let mut trial = steers && seat.on_trial && on_trial == Some(entry);
        if !trial {
            self.store.install(file, claims, order.again, &why)?;
            let staged = on_trial.is_some() || active != Some(entry);
            let started = self.store.start().inspect_err(|error| {
                // The robot's next start is not to try it; after what passes it is asked for again.
                if staged && !matches!(error, StoreError::Busy { .. }) {
                    let _ =
                        self.store.demote(order.policy, &format!("it was not started: {error}"));
                }
            })?;
            if started.policy != order.policy {
                self.store.unused(started.policy)?;
                return Err(overtaken());
            }
            self.seat(&mut seat, &started).map_err(refused)?;
            // The active one that did not steer needs no trial.
            trial = started.trial.is_some();
        }
        if order.commit && trial {
            if !self.store.prove(order.policy, &why)? {
                return Err(overtaken());
            }
            seat.on_trial = false;
        }
        Ok(order.commit || !trial)
    }
}

/// A poisoned lock only means that a request ended badly; the values in it are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Another program has staged another policy since this one was.
fn overtaken() -> ErrorReply {
    ErrorReply::new(Code::Busy, "another policy was staged meanwhile: try again")
}

/// What passes is not held against the policy.
fn refused(error: anyhow::Error) -> ErrorReply {
    let passes = matches!(error.downcast_ref(), Some(EngineError::Untried { .. }));
    let code = if passes { Code::Other } else { Code::Refused };
    match error.downcast::<StoreError>() {
        Ok(error) => error.into(),
        Err(error) => ErrorReply::new(code, format!("{error:#}")),
    }
}

impl Policies for Deployment {
    fn report(&self) -> Result<PolicyReport, ErrorReply> {
        let seated = self.seated();
        let steering = (seated != PolicyId::default()).then(|| seated.to_string());
        Ok(PolicyReport { steering, state: self.store.state()? })
    }

    fn received(&self, policy: PolicyId) -> Result<u64, ErrorReply> {
        Ok(self.store.received(policy)?)
    }

    fn receive(
        &self,
        policy: PolicyId,
        place: (u64, u64),
        piece: &[u8],
    ) -> Result<u64, ErrorReply> {
        Ok(self.store.receive(policy, place, piece)?)
    }

    fn install(&self, order: &Installation, who: &str) -> Result<Installed, ErrorReply> {
        let file = self.store.uploaded(order.policy)?;
        let installed = self.admit(&file, order).and_then(|(claims, cost)| {
            let committed = self.put_in(&file, claims.as_ref(), order, who)?;
            Ok((claims.map(|claims| claims.version), committed, cost))
        });
        // What waits for another program is not sent again.
        if !matches!(&installed, Err(ErrorReply { code: Code::Busy | Code::Other, .. })) {
            self.store.discard(order.policy)?;
        }
        let (version, committed, cost) = installed?;
        let next = match committed {
            true => "it is the active policy and steers",
            false => "it steers, on trial: the first goal that it reaches commits it",
        };
        let unsigned = match version {
            Some(_) => "",
            None => "; this robot takes unsigned policies: policy.trusted_keys is empty",
        };
        let (policy, note) = (order.policy.to_string(), format!("{next}{unsigned}"));
        Ok(Installed { policy, version, committed, cost, note })
    }

    fn roll_back(&self, why: &str) -> Result<(), ErrorReply> {
        let mut seat = lock(&self.seat);
        let Some(back) = self.store.roll_back(why)? else {
            let first = without_policy(&self.robot);
            let seated = first.id();
            self.handle.swapper().swap_alone(first).map_err(|error| refused(error.into()))?;
            self.sit(seated);
            seat.on_trial = false;
            return Ok(());
        };
        let (started, seated) = (self.store.start()?, self.seated());
        let steers = self.seat(&mut seat, &started);
        steers
            .with_context(|| format!("{back} is the active policy, but {seated} steers on"))
            .map_err(refused)
    }
}

impl Drop for Deployment {
    /// A trial in which it never steered says nothing.
    fn drop(&mut self) {
        let seat = lock(&self.seat);
        if seat.on_trial
            && !seat.used
            && let Err(error) = self.store.unused(self.seated())
        {
            log::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_not_held_against_a_policy() {
        let busy = anyhow::Error::from(StoreError::Busy { folder: "store".into() });
        assert_eq!(refused(busy.context("it was not swapped in")).code, Code::Busy);
        let untried = EngineError::Untried { reason: "no memory".into() };
        assert_eq!(refused(untried.into()).code, Code::Other);
        assert_eq!(refused(anyhow::anyhow!("it is bad")).code, Code::Refused);
    }
}
