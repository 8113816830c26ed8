//! The policy thread and the slots between it and the control thread: observations out, decisions in,
//! neither side ever waits for a lock. A policy is exchanged in the policy thread, so between two decisions.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use heapless::spsc::{Consumer, Producer, Queue};

use super::actor::{Actor, Decision, Pilot, Seated};
use super::event::{self, signal, wait};
use super::swap::{Demotion, Demotions, Request, SHADOW_RUNS, Swapper, sound};
use crate::clock::{Clock, Time};
use crate::policy::{Observation, Times};

/// The queue lengths: the control thread is never more than a few ticks ahead.
const SLOTS: usize = 8;

/// The control thread's side of a policy thread.
pub struct Threaded {
    observations: Producer<'static, Observation>,
    decisions: Consumer<'static, Decision>,
    wake: Arc<OwnedFd>,
    answered: Arc<OwnedFd>,
    clock: Arc<dyn Clock>,
    /// The policy that steers shall give way to the one before.
    demoted: Arc<AtomicBool>,
    /// The decision exchanged last, so that a slow policy's action is used until it is too old.
    newest: Option<Decision>,
}

/// What runs in the policy thread: [`run`](PolicyThread::run) returns when the control side is gone.
pub struct PolicyThread {
    active: Seated,
    fallback: Option<Seated>,
    observations: Consumer<'static, Observation>,
    decisions: Producer<'static, Decision>,
    requests: mpsc::Receiver<Request>,
    wake: Arc<OwnedFd>,
    answered: Arc<OwnedFd>,
    demoted: Arc<AtomicBool>,
    recent: VecDeque<Observation>,
    clock: Arc<dyn Clock>,
    times: Arc<Times>,
    demotions: Demotions,
}

/// Connects a control loop of this period with a policy thread.
///
/// # Errors
/// The system gives no event descriptors.
pub fn connect(
    actor: Box<dyn Actor>,
    clock: Arc<dyn Clock>,
    period: Duration,
) -> std::io::Result<(Threaded, PolicyThread, Swapper)> {
    let (wake, answered) = (Arc::new(event::new()?), Arc::new(event::new()?));
    let demoted = Arc::new(AtomicBool::new(false));
    let (requests, inbox) = mpsc::channel();
    // Two small queues for the life of the program: what is shared by two threads without a lock and
    // without a reference count must not end.
    let (observe, observed) = Box::leak(Box::new(Queue::<Observation, SLOTS>::new())).split();
    let (decide, decided) = Box::leak(Box::new(Queue::<Decision, SLOTS>::new())).split();
    let control = Threaded {
        observations: observe,
        decisions: decided,
        wake: wake.clone(),
        answered: answered.clone(),
        clock: clock.clone(),
        demoted: demoted.clone(),
        newest: None,
    };
    let times = Arc::<Times>::default();
    let demotions = Demotions::default();
    let swapper = Swapper {
        requests,
        wake: wake.clone(),
        times: times.clone(),
        demotions: demotions.clone(),
        clock: clock.clone(),
        period,
        limits: Arc::default(),
    };
    let thread = PolicyThread {
        active: Seated::new(actor),
        fallback: None,
        observations: observed,
        decisions: decide,
        requests: inbox,
        wake,
        answered,
        demoted,
        recent: VecDeque::with_capacity(SHADOW_RUNS),
        clock,
        times,
        demotions,
    };
    Ok((control, thread, swapper))
}

impl Threaded {
    fn take_newest(&mut self) {
        while let Some(decision) = self.decisions.dequeue() {
            self.newest = Some(decision);
        }
    }
}

impl Pilot for Threaded {
    fn exchange(&mut self, observation: &Observation, deadline: Time) -> Option<Decision> {
        // A full queue means that the policy is far behind: it has newer ones than it can use.
        let _ = self.observations.enqueue(observation.clone());
        signal(&self.wake);
        loop {
            self.take_newest();
            let fresh = self.newest.as_ref().is_some_and(|d| d.tick >= observation.tick);
            let left = deadline.since(self.clock.now());
            if fresh || left.is_zero() || !wait(&self.answered, Some(left)) {
                self.take_newest();
                return self.newest.clone();
            }
        }
    }

    fn demote(&mut self) {
        self.demoted.store(true, Ordering::Release);
        signal(&self.wake);
    }
}

impl PolicyThread {
    /// Serves until every [`Swapper`] and the control side are dropped.
    pub fn run(mut self) {
        crate::os::become_realtime(crate::os::Priority::Policy);
        // The other side holds one reference to the wake event, each swapper one more.
        while Arc::strong_count(&self.wake) > 1 {
            wait(&self.wake, Some(Duration::from_millis(200)));
            while let Ok(request) = self.requests.try_recv() {
                self.serve(request);
            }
            if self.demoted.swap(false, Ordering::AcqRel) {
                self.fall_back("the arm was stopped: no finite action, or none in time");
            }
            let mut newest = None;
            while let Some(observation) = self.observations.dequeue() {
                newest = Some(observation);
            }
            if let Some(observation) = newest {
                self.answer(observation);
            }
        }
    }

    /// What is not heard any more is not sent: nobody waits for it.
    fn serve(&mut self, request: Request) {
        match request {
            Request::Recent(reply) => {
                let _ = reply.send(self.recent.iter().cloned().collect());
            }
            Request::Seat(candidate, keep, reply) => {
                let policy = candidate.id();
                let seated = std::mem::replace(&mut self.active, Seated::new(candidate));
                self.fallback = keep.then_some(seated);
                let _ = reply.send(policy);
            }
        }
    }

    fn answer(&mut self, observation: Observation) {
        let start = self.clock.now();
        let mut decision = self.active.decide(&observation);
        if !sound(&decision.action, &observation)
            && self.fallback.is_some()
            && self.fall_back("it gave no finite action")
        {
            decision = self.active.decide(&observation);
        }
        self.times.record(self.clock.now().since(start));
        let _ = self.decisions.enqueue(decision);
        signal(&self.answered);
        if self.recent.len() == SHADOW_RUNS {
            self.recent.pop_front();
        }
        self.recent.push_back(observation);
    }

    /// The policy before steers again; false when there is none.
    fn fall_back(&mut self, why: &'static str) -> bool {
        let (failed, previous) = (self.active.actor.id(), self.fallback.take());
        let back = previous.as_ref().map(|seated| seated.actor.id());
        self.demotions.push(Demotion { failed, back, why });
        let Some(previous) = previous else { return false };
        log::error!(
            "policy {failed} failed in use: {why}; {} takes over again",
            previous.actor.id()
        );
        // What it remembers ended when the other one took over.
        self.active = Seated::new(previous.actor);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::control::SwapError;
    use crate::episode::PolicyId;
    use crate::joints::{JointVec, stack};
    use crate::policy::{ActionKind, PolicyError};

    struct Constant(f32, u8);
    impl Actor for Constant {
        fn act(&mut self, _: &Observation) -> Result<JointVec<f32>, PolicyError> {
            Ok(stack([self.0; 6]))
        }
        fn kind(&self) -> ActionKind {
            ActionKind::JointDelta
        }
        fn id(&self) -> PolicyId {
            PolicyId([self.1; 16])
        }
    }

    fn ask(pilot: &mut Threaded, tick: u64) -> Decision {
        let observation = Observation { tick, position: stack([0.0; 6]), ..Default::default() };
        let deadline = SystemClock.now() + Duration::from_secs(5);
        pilot.exchange(&observation, deadline).unwrap()
    }

    fn pair(actor: Constant) -> (Threaded, Swapper, std::thread::JoinHandle<()>) {
        let clock = Arc::new(SystemClock);
        let (pilot, thread, swapper) =
            connect(Box::new(actor), clock, Duration::from_secs(10)).unwrap();
        (pilot, swapper, std::thread::spawn(|| thread.run()))
    }

    #[test]
    fn a_fast_policy_answers_in_the_same_tick_and_a_swap_is_seen_in_the_next() {
        let (mut pilot, swapper, thread) = pair(Constant(0.1, 1));
        for tick in 1..=20 {
            assert_eq!(ask(&mut pilot, tick).tick, tick);
        }
        let swapped = swapper.swap(Box::new(Constant(0.2, 2))).unwrap();
        assert_eq!((swapped.shadow_runs, swapped.policy), (20, PolicyId([2; 16])));
        assert_eq!(ask(&mut pilot, 21).policy, PolicyId([2; 16]));
        drop((pilot, swapper));
        thread.join().unwrap();
    }

    #[test]
    fn a_candidate_that_fails_its_shadow_runs_never_steers() {
        let (mut pilot, swapper, _thread) = pair(Constant(0.1, 1));
        ask(&mut pilot, 1);
        let refused = swapper.swap(Box::new(Constant(f32::NAN, 2)));
        assert!(matches!(refused, Err(SwapError::Shadow { failed: 1, .. })), "{refused:?}");
        assert_eq!(ask(&mut pilot, 2).policy, PolicyId([1; 16]));
    }

    #[test]
    fn a_policy_that_fails_in_use_gives_way_to_the_one_before_in_the_same_tick() {
        let (mut pilot, swapper, _thread) = pair(Constant(0.1, 1));
        // Nothing was observed yet, so the shadow runs cannot catch it.
        swapper.swap(Box::new(Constant(f32::INFINITY, 2))).unwrap();
        let decision = ask(&mut pilot, 1);
        assert_eq!((decision.policy, decision.action[0]), (PolicyId([1; 16]), 0.1));
        let [Demotion { failed, back, .. }] = swapper.demotions()[..] else { panic!("one") };
        assert_eq!((failed, back), (PolicyId([2; 16]), Some(PolicyId([1; 16]))));
        assert_eq!(swapper.demotions(), []);
    }

    #[test]
    fn a_demoted_policy_gives_way_to_the_one_before() {
        let (mut pilot, swapper, _thread) = pair(Constant(0.1, 1));
        swapper.swap(Box::new(Constant(0.2, 2))).unwrap();
        assert_eq!(ask(&mut pilot, 1).policy, PolicyId([2; 16]));
        pilot.demote();
        assert_eq!(ask(&mut pilot, 2).policy, PolicyId([1; 16]));
        // Nobody is before the first.
        pilot.demote();
        assert_eq!(ask(&mut pilot, 3).policy, PolicyId([1; 16]));
    }

    #[test]
    fn a_policy_that_is_swapped_in_alone_gives_way_to_nobody() {
        let (mut pilot, swapper, _thread) = pair(Constant(0.1, 1));
        swapper.swap(Box::new(Constant(0.2, 2))).unwrap();
        swapper.swap_alone(Box::new(Constant(0.3, 3))).unwrap();
        assert_eq!(ask(&mut pilot, 1).policy, PolicyId([3; 16]));
        pilot.demote();
        assert_eq!(ask(&mut pilot, 2).policy, PolicyId([3; 16]));
        let [Demotion { failed, back, .. }] = swapper.demotions()[..] else { panic!("one") };
        assert_eq!((failed, back), (PolicyId([3; 16]), None));
    }

    struct Short;
    impl Actor for Short {
        fn act(&mut self, _: &Observation) -> Result<JointVec<f32>, PolicyError> {
            Ok(stack([0.1; 5]))
        }
        fn kind(&self) -> ActionKind {
            ActionKind::JointDelta
        }
        fn id(&self) -> PolicyId {
            PolicyId([3; 16])
        }
    }

    #[test]
    fn an_action_of_another_length_is_no_action() {
        let (mut pilot, swapper, _thread) = pair(Constant(0.1, 1));
        ask(&mut pilot, 1);
        let refused = swapper.swap(Box::new(Short));
        assert!(matches!(refused, Err(SwapError::Shadow { expected: 6, failed: 1, .. })));
    }
}
