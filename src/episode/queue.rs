//! From the control thread to the log writer: a ring of fixed size that neither side waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heapless::spsc::{Consumer, Producer, Queue};

use super::{Events, Inputs, Origin, Outcome, PolicyId, Source, Split, Step};
use crate::clock::WallTime;

/// Records the ring holds: 2 s of steps at 200 Hz and what begins and ends episodes.
const CAPACITY: usize = 512;
/// Places that steps leave free, so that beginnings and ends still fit when the writer lags.
const RESERVE: usize = 16;

/// What differs from episode to episode; the rest of the header is the log writer's template.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Begin {
    /// Who moves the robot.
    pub source: Source,
    /// What learning may use it for.
    pub split: Split,
    /// The policy at the beginning.
    pub policy: PolicyId,
    /// The seed that goal, start and noise were drawn with.
    pub seed: Option<u64>,
    /// The date.
    pub started: WallTime,
    /// What the loop remembered before the first step.
    pub origin: Option<Origin>,
}

/// What the control thread hands over; none of it is on the heap.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An episode begins; one that is open ends without an outcome.
    Begin(Begin),
    /// What the step that comes next was given.
    Inputs(Inputs),
    /// A step of the open episode.
    Step(Step),
    /// The open episode ends.
    End(Outcome),
}

/// The control thread's end. No call allocates, locks or waits.
pub struct LogSender {
    ring: Producer<'static, Record>,
    lost: Arc<AtomicU64>,
    /// Steps were lost since the last one that was taken.
    gap: bool,
    /// What the next step was given was lost: it is lost with it.
    blind: bool,
    /// The episode's beginning was lost: its steps would fall into the one before.
    orphaned: bool,
}

/// The log writer's end.
pub struct LogReceiver {
    ring: Consumer<'static, Record>,
    pub(super) lost: Arc<AtomicU64>,
}

/// The two ends of a new ring. It lives as long as the program: one control loop needs one.
pub fn log_queue() -> (LogSender, LogReceiver) {
    let ring: &'static mut Queue<Record, CAPACITY> = Box::leak(Box::new(Queue::new()));
    let (sender, receiver) = ring.split();
    let lost = Arc::new(AtomicU64::new(0));
    (
        LogSender { ring: sender, lost: lost.clone(), gap: false, blind: false, orphaned: false },
        LogReceiver { ring: receiver, lost },
    )
}

impl LogSender {
    /// Begins an episode. When even the reserve is full, the whole episode is lost and counted.
    pub fn begin(&mut self, begin: Begin) {
        self.gap = false;
        self.orphaned = !self.send(Record::Begin(begin));
    }

    /// Hands over a step. When the ring is full it is lost and counted, and the next one that fits
    /// carries [`Events::LOG_GAP`].
    pub fn step(&mut self, mut step: Step) {
        if self.gap {
            step.events |= Events::LOG_GAP;
        }
        let whole = !std::mem::take(&mut self.blind) && self.room();
        self.gap = if whole { !self.send(Record::Step(step)) } else { self.count_lost() };
    }

    /// Hands over what the step that comes next was given. When the ring is full, that step is lost.
    pub fn inputs(&mut self, inputs: Inputs) {
        self.blind = !(self.room() && self.ring.enqueue(Record::Inputs(inputs)).is_ok());
    }

    /// Ends the episode.
    pub fn end(&mut self, outcome: Outcome) {
        if !self.orphaned {
            self.send(Record::End(outcome));
        }
    }

    /// Records lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether a step would be taken: the rest is for ends and beginnings.
    fn room(&self) -> bool {
        !self.orphaned && self.ring.capacity() - self.ring.len() > RESERVE
    }

    fn send(&mut self, record: Record) -> bool {
        let taken = self.ring.enqueue(record).is_ok();
        if !taken {
            self.count_lost();
        }
        taken
    }

    fn count_lost(&mut self) -> bool {
        self.lost.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl LogReceiver {
    /// The oldest record.
    pub fn receive(&mut self) -> Option<Record> {
        self.ring.dequeue()
    }
}
