//! Goals reached one after the other.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Code, Ending, ErrorReply, Goal, GoalResult};
use super::lease::Held;

/// Goals for the end of the queue: the body of `POST /v1/queue`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueRequest {
    /// In this order.
    pub goals: Vec<Goal>,
}

/// The queue: goals that have ended lately, the one on its way, those that wait.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueReply {
    /// In their order.
    pub entries: Vec<Queued>,
}

/// A goal in the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queued {
    /// Its place since the daemon started.
    pub entry: u64,
    /// What shall be reached.
    pub goal: Goal,
    /// Names it in `GET /v1/goal/{id}`; none before its turn, or when it was refused.
    pub id: Option<u64>,
    /// How it ended; none before it has.
    pub result: Option<GoalResult>,
    /// Why it was refused when its turn came, or before.
    pub refusal: Option<ErrorReply>,
}

impl Queued {
    fn has_ended(&self) -> bool {
        self.result.is_some() || self.refusal.is_some()
    }
}

/// The most goals that wait.
const WAITING: usize = 256;
/// So many that have ended are remembered.
const ENDED: usize = 64;

/// The goals; at most one is on its way, and those before it have ended.
#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Queued>,
    next: u64,
    /// Of whoever filled it last: a goal is not begun when the lease has ended meanwhile.
    held: Held,
    /// Somebody sees to it that each goal is begun.
    pub(super) served: bool,
}

impl Queue {
    /// Puts goals at the end.
    ///
    /// # Errors
    /// A goal is malformed, or there are too many: none is taken.
    pub(super) fn add(&mut self, goals: Vec<Goal>, held: Held) -> Result<(), ErrorReply> {
        let waiting = self.entries.iter().filter(|entry| !entry.has_ended()).count();
        if goals.is_empty() || waiting + goals.len() > WAITING {
            let (found, room) = (goals.len(), WAITING.saturating_sub(waiting));
            let error = format!("goals: expected 1 to {room}, found {found}");
            return Err(ErrorReply::new(Code::BadRequest, error));
        }
        goals.iter().try_for_each(Goal::check)?;
        self.held = held;
        for goal in goals {
            self.next += 1;
            let (entry, id, result, refusal) = (self.next, None, None, None);
            self.entries.push_back(Queued { entry, goal, id, result, refusal });
        }
        let ended = self.entries.iter().filter(|entry| entry.has_ended()).count();
        // Those that have ended come first.
        self.entries.drain(..ended.saturating_sub(ENDED));
        Ok(())
    }

    fn first(&mut self) -> Option<&mut Queued> {
        self.entries.iter_mut().find(|entry| !entry.has_ended())
    }

    /// The goal whose turn it is, and the lease it was given with.
    pub(super) fn due(&mut self) -> Option<(Goal, Held)> {
        let held = self.held;
        self.first().filter(|entry| entry.id.is_none()).map(|entry| (entry.goal.clone(), held))
    }

    /// The goal on its way.
    pub(super) fn under_way(&mut self) -> Option<u64> {
        self.first()?.id
    }

    /// What became of the goal that was due.
    pub(super) fn begun(&mut self, answer: Result<u64, ErrorReply>) {
        let Some(entry) = self.first() else { return };
        match answer {
            Ok(id) => entry.id = Some(id),
            Err(refusal) => {
                // A goal that cannot be reached says nothing about the next one.
                let goes_on =
                    matches!(refusal.code, Code::OutOfReach | Code::OutOfLimits | Code::BadRequest);
                entry.refusal = Some(refusal.clone());
                if !goes_on {
                    self.refuse(&refusal);
                }
            }
        }
    }

    /// How the goal on its way ended: missed or not, the next one follows; taken back or replaced, or
    /// by a fault, none does.
    pub(super) fn ended(&mut self, result: GoalResult) {
        let goes_on = matches!(result.ending, Ending::Reached | Ending::TimedOut);
        let error = match result.ending {
            Ending::Faulted => ErrorReply::new(Code::Faulted, "a fault stopped the arm before"),
            _ => ErrorReply::new(Code::Cancelled, "the goal before was taken back"),
        };
        if let Some(entry) = self.first() {
            entry.result = Some(result);
        }
        if !goes_on {
            self.refuse(&error);
        }
    }

    /// Takes back all that wait; the one on its way stays.
    pub(super) fn cancel(&mut self) {
        self.refuse(&ErrorReply::new(Code::Cancelled, "taken back before its turn"));
    }

    fn refuse(&mut self, why: &ErrorReply) {
        for entry in self.entries.iter_mut().filter(|e| !e.has_ended() && e.id.is_none()) {
            entry.refusal = Some(why.clone());
        }
    }

    /// All that is known.
    pub(super) fn reply(&self) -> QueueReply {
        QueueReply { entries: self.entries.iter().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goals(n: usize) -> Vec<Goal> {
        vec![Goal { goal: vec![0.1, -0.2, 0.1], ..Goal::default() }; n]
    }

    fn result(ending: Ending) -> GoalResult {
        let (fault, success, distance, unit, ticks) = (None, false, None, "m".into(), 1);
        GoalResult { ending, fault, success, distance, unit, ticks }
    }

    fn codes(queue: &Queue) -> Vec<Option<Code>> {
        queue.reply().entries.iter().map(|e| Some(e.refusal.as_ref()?.code)).collect()
    }

    #[test]
    fn one_goal_follows_the_other_whether_it_was_reached_or_missed() {
        let mut queue = Queue::default();
        queue.add(goals(3), Held::default()).unwrap();
        for (id, ending) in [(7, Ending::Reached), (8, Ending::TimedOut), (9, Ending::Reached)] {
            assert!(queue.due().is_some());
            queue.begun(Ok(id));
            assert!(queue.due().is_none(), "one at a time");
            assert_eq!(queue.under_way(), Some(id));
            queue.ended(result(ending));
        }
        assert!(queue.due().is_none() && queue.under_way().is_none());
        assert!(queue.reply().entries.iter().all(|e| e.result.is_some()));
    }

    #[test]
    fn a_goal_out_of_reach_is_passed_over_and_a_mode_that_takes_none_ends_the_queue() {
        let mut queue = Queue::default();
        queue.add(goals(3), Held::default()).unwrap();
        queue.begun(Err(ErrorReply::new(Code::OutOfReach, "far")));
        assert!(queue.due().is_some());
        queue.begun(Err(ErrorReply::new(Code::Faulted, "hot")));
        assert!(queue.due().is_none());
        assert_eq!(
            codes(&queue),
            [Some(Code::OutOfReach), Some(Code::Faulted), Some(Code::Faulted)]
        );
    }

    #[test]
    fn after_a_stop_a_fault_or_another_goal_nothing_follows() {
        for (ending, code) in [
            (Ending::Stopped, Code::Cancelled),
            (Ending::Replaced, Code::Cancelled),
            (Ending::Faulted, Code::Faulted),
        ] {
            let mut queue = Queue::default();
            queue.add(goals(2), Held::default()).unwrap();
            queue.begun(Ok(1));
            queue.ended(result(ending));
            assert!(queue.due().is_none());
            assert_eq!(codes(&queue), [None, Some(code)]);
        }
    }

    #[test]
    fn what_waits_can_be_taken_back_and_what_is_on_its_way_goes_on() {
        let mut queue = Queue::default();
        queue.add(goals(2), Held::default()).unwrap();
        queue.begun(Ok(1));
        queue.cancel();
        assert_eq!(
            (queue.under_way(), codes(&queue)),
            (Some(1), vec![None, Some(Code::Cancelled)])
        );
    }

    #[test]
    fn a_queue_holds_only_so_many_and_forgets_the_oldest_that_ended() {
        let mut queue = Queue::default();
        assert!(queue.add(goals(257), Held::default()).is_err());
        assert!(queue.add(vec![], Held::default()).is_err());
        for _ in 0..10 {
            queue.add(goals(256), Held::default()).unwrap();
            queue.cancel();
        }
        queue.add(goals(1), Held::default()).unwrap();
        assert_eq!(queue.reply().entries.len(), ENDED + 1);
        let nan = Goal { tolerance: Some(f32::NAN), ..Goal::default() };
        assert_eq!(queue.add(vec![nan], Held::default()).unwrap_err().code, Code::BadRequest);
    }
}
