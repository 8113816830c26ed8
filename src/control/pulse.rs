//! What a control loop and the process that watches over it tell each other, in memory that they
//! share: no system call, no lock, and readable after either has died.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::SharedPage;

/// The shared page. The loop writes its ticks, the watcher its wishes.
pub struct Pulse {
    page: SharedPage,
}

/// How the watcher wants a control process to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// Torque on, hold.
    pub arm: bool,
    /// The arm was held when the process before died: a failing start must not let it drop.
    pub again: bool,
}

impl Pulse {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { page: SharedPage::new()? })
    }

    /// The one behind an inherited descriptor.
    ///
    /// # Errors
    /// It is none.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self { page: SharedPage::of(descriptor)? })
    }

    /// Ticks so far, whether the arm was powered without a fault in the last one, whether the loop
    /// has ended as it should; to end, to arm, to attach.
    fn words(&self) -> [&AtomicU64; 6] {
        let [ticks, active, ended, stop, arm, again, ..] = &*self.page;
        [ticks, active, ended, stop, arm, again]
    }

    /// Before a control process is started.
    pub fn begin(&self, start: Start) {
        let values = [0, 0, 0, 0, u64::from(start.arm), u64::from(start.again)];
        for (word, value) in self.words().into_iter().zip(values) {
            word.store(value, Ordering::Release);
        }
    }

    /// How to begin.
    pub fn start(&self) -> Start {
        let [.., arm, again] = self.words().map(|word| word.load(Ordering::Acquire) != 0);
        Start { arm, again }
    }

    /// It shall not arm when it begins.
    pub fn do_not_arm(&self) {
        let [.., arm, _] = self.words();
        arm.store(0, Ordering::Release);
    }

    /// One more tick was done; `active`: powered, and no fault.
    pub fn beat(&self, ticks: u64, active: bool) {
        let [count, state, ..] = self.words();
        state.store(u64::from(active), Ordering::Release);
        count.store(ticks, Ordering::Release);
    }

    /// Ticks so far.
    pub fn ticks(&self) -> u64 {
        self.words()[0].load(Ordering::Acquire)
    }

    /// Whether the arm was powered, and without a fault, in the last tick.
    pub fn active(&self) -> bool {
        self.words()[1].load(Ordering::Acquire) != 0
    }

    /// The loop has left the arm as configured; there will be no more ticks.
    pub fn end(&self) {
        self.words()[2].store(1, Ordering::Release);
    }

    /// Whether it has.
    pub fn ended(&self) -> bool {
        self.words()[2].load(Ordering::Acquire) != 0
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
        self.page.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_start_forgets_the_beats_and_wishes_before_it() {
        let pulse = Pulse::new().unwrap();
        pulse.beat(9, true);
        pulse.end();
        pulse.ask_to_stop();
        assert!(pulse.ticks() == 9 && pulse.active() && pulse.ended() && pulse.asked_to_stop());
        let start = Start { arm: true, again: true };
        pulse.begin(start);
        assert!(pulse.ticks() == 0 && !pulse.active());
        assert!(!pulse.ended() && !pulse.asked_to_stop());
        assert_eq!(pulse.start(), start);
        pulse.do_not_arm();
        assert_eq!(pulse.start(), Start { arm: false, again: true });
    }
}
