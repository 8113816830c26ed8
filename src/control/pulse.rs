//! What a control loop and the process that watches over it tell each other, in memory that they
//! share: no system call, no lock, and readable after either has died.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::episode::{Fault, Mode};
use crate::os::SharedMemory;

/// The shared memory. The loop writes its ticks, the watcher its wishes.
pub struct Pulse {
    memory: SharedMemory,
}

/// How the watcher wants a control process to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// Torque on, hold.
    pub arm: bool,
    /// The arm was held when the process before died: a failing start must not let it drop.
    pub again: bool,
    /// The fault that was latched then: only an operator clears it.
    pub fault: Option<Fault>,
}

/// What the loop is in, as a number: nothing, powered without a fault, or a fault.
const ACTIVE: u64 = 1;
const FAULTS: u64 = 2;

fn number(mode: Mode) -> u64 {
    match mode {
        Mode::Disarmed => 0,
        Mode::Faulted(fault) => {
            (FAULTS..).zip(Fault::all()).find(|(_, f)| *f == fault).map_or(0, |(n, _)| n)
        }
        Mode::Holding | Mode::Reaching | Mode::Teleop => ACTIVE,
    }
}

impl Pulse {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { memory: SharedMemory::new(0)? })
    }

    /// The one behind an inherited descriptor.
    ///
    /// # Errors
    /// It is none.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self { memory: SharedMemory::of(descriptor, 0)? })
    }

    /// Ticks so far, what the loop was in at the last one, whether it has ended as it should; to end,
    /// to arm, to attach; whether clients are served.
    fn words(&self) -> [&AtomicU64; 7] {
        let [ticks, active, ended, stop, arm, again, serving, ..] = self.memory.head();
        [ticks, active, ended, stop, arm, again, serving]
    }

    /// Before a control process is started.
    pub fn begin(&self, start: Start) {
        // What stays latched until the first tick is so from now on.
        let mode = number(start.fault.map_or(Mode::Disarmed, Mode::Faulted));
        let values = [0, mode, 0, 0, u64::from(start.arm), u64::from(start.again), 0];
        for (word, value) in self.words().into_iter().zip(values) {
            word.store(value, Ordering::Release);
        }
    }

    /// How to begin.
    pub fn start(&self) -> Start {
        let [.., arm, again, _] = self.words().map(|word| word.load(Ordering::Acquire) != 0);
        Start { arm, again, fault: self.fault() }
    }

    /// It shall not arm when it begins.
    pub fn do_not_arm(&self) {
        let [.., arm, _, _] = self.words();
        arm.store(0, Ordering::Release);
    }

    /// So many ticks were done, and the loop is in this mode.
    pub fn beat(&self, ticks: u64, mode: Mode) {
        let [count, state, ..] = self.words();
        state.store(number(mode), Ordering::Release);
        count.store(ticks, Ordering::Release);
    }

    /// Ticks so far.
    pub fn ticks(&self) -> u64 {
        self.words()[0].load(Ordering::Acquire)
    }

    /// Whether the arm was powered, and without a fault, in the last tick.
    pub fn active(&self) -> bool {
        self.words()[1].load(Ordering::Acquire) == ACTIVE
    }

    /// The fault that was latched in the last tick.
    pub fn fault(&self) -> Option<Fault> {
        let index = self.words()[1].load(Ordering::Acquire).checked_sub(FAULTS)?;
        Fault::all().nth(usize::try_from(index).ok()?)
    }

    /// The loop has left the arm as configured; there will be no more ticks.
    pub fn end(&self) {
        self.words()[2].store(1, Ordering::Release);
    }

    /// Whether it has.
    pub fn ended(&self) -> bool {
        self.words()[2].load(Ordering::Acquire) != 0
    }

    /// Clients are served from now on.
    pub fn serve(&self) {
        self.words()[6].store(1, Ordering::Release);
    }

    /// Whether they are.
    pub fn serving(&self) -> bool {
        self.words()[6].load(Ordering::Acquire) != 0
    }

    /// Asks the control process to leave the arm as configured and to end.
    pub fn ask_to_stop(&self) {
        self.words()[3].store(1, Ordering::Release);
    }

    /// Whether it was asked.
    pub fn asked_to_stop(&self) -> bool {
        self.words()[3].load(Ordering::Acquire) != 0
    }
}

impl AsFd for Pulse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_start_forgets_the_beats_and_wishes_before_it() {
        let pulse = Pulse::new().unwrap();
        pulse.beat(9, Mode::Reaching);
        pulse.end();
        pulse.ask_to_stop();
        pulse.serve();
        assert!(pulse.ticks() == 9 && pulse.active() && pulse.ended() && pulse.asked_to_stop());
        assert!(pulse.serving());
        let start = Start { arm: true, again: true, fault: None };
        pulse.begin(start);
        assert!(pulse.ticks() == 0 && !pulse.active());
        assert!(!pulse.ended() && !pulse.asked_to_stop() && !pulse.serving());
        assert_eq!(pulse.start(), start);
        pulse.do_not_arm();
        assert_eq!(pulse.start(), Start { arm: false, ..start });
    }

    #[test]
    fn a_fault_goes_from_one_start_to_the_next_until_a_tick_without_it() {
        let pulse = Pulse::new().unwrap();
        for fault in Fault::all() {
            pulse.beat(9, Mode::Faulted(fault));
            assert_eq!((pulse.fault(), pulse.active()), (Some(fault), false));
            // The second process may die before its first tick.
            for _ in 0..2 {
                pulse.begin(Start { arm: false, again: true, fault: pulse.fault() });
                assert_eq!(pulse.start().fault, Some(fault));
            }
        }
        pulse.beat(1, Mode::Holding);
        assert_eq!((pulse.fault(), pulse.active()), (None, true));
        pulse.beat(2, Mode::Disarmed);
        assert_eq!((pulse.fault(), pulse.active()), (None, false));
    }
}
