//! Finding the arm again after its port was lost, beside the control thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use heapless::spsc::{Consumer, Producer, Queue};

use super::event;
use super::hardware::Hardware;
use crate::hal::arm::{Arm, ArmError};

/// The control loop's way to a new arm when the port of the one it has is gone. Neither call blocks,
/// for both are made within a tick.
pub trait Reconnect: Send {
    /// The port of this arm is gone: drop it, which frees the port, and look for the arm from now on.
    fn lost(&mut self, arm: Box<dyn Hardware>);
    /// The arm, once it was found and opened again.
    fn found(&mut self) -> Option<Box<dyn Hardware>>;
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// One arm and a place to tell a full queue from an empty one.
const PLACES: usize = 2;

/// The control thread's side of the search.
pub struct Searcher {
    lost: Producer<'static, Box<dyn Hardware>>,
    found: Consumer<'static, Box<dyn Hardware>>,
    wake: Arc<OwnedFd>,
}

/// What runs in the search thread: [`run`](Search::run) returns when the control side is gone.
pub struct Search<F> {
    lost: Consumer<'static, Box<dyn Hardware>>,
    found: Producer<'static, Box<dyn Hardware>>,
    wake: Arc<OwnedFd>,
    open: F,
}

/// A search that opens the arm with `open`, which may take its time.
///
/// # Errors
/// The system gives no event descriptor.
pub fn search<F>(open: F) -> std::io::Result<(Searcher, Search<F>)>
where
    F: FnMut() -> Result<Arm, ArmError> + Send,
{
    // For the life of the program, see `exchange::connect`.
    let (lose, lost) = Box::leak(Box::new(Queue::<Box<dyn Hardware>, PLACES>::new())).split();
    let (find, found) = Box::leak(Box::new(Queue::<Box<dyn Hardware>, PLACES>::new())).split();
    let wake = Arc::new(event::new()?);
    let searcher = Searcher { lost: lose, found, wake: wake.clone() };
    Ok((searcher, Search { lost, found: find, wake, open }))
}

impl Reconnect for Searcher {
    fn lost(&mut self, arm: Box<dyn Hardware>) {
        // There is one arm at a time, so there is a place for it.
        let _ = self.lost.enqueue(arm);
        event::signal(&self.wake);
    }

    fn found(&mut self) -> Option<Box<dyn Hardware>> {
        self.found.dequeue()
    }
}

impl<F: FnMut() -> Result<Arm, ArmError>> Search<F> {
    /// Searches whenever an arm was lost, until the [`Searcher`] is dropped.
    pub fn run(mut self) {
        let mut searching = false;
        while Arc::strong_count(&self.wake) > 1 {
            event::wait(&self.wake, Some(PAUSE));
            while let Some(arm) = self.lost.dequeue() {
                drop(arm);
                log::warn!("the arm's port is gone; looking for it");
                searching = true;
            }
            if !searching {
                continue;
            }
            match (self.open)() {
                Ok(arm) => {
                    log::info!("the arm was found again; it moves after `regoal arm`");
                    let _ = self.found.enqueue(Box::new(arm));
                    searching = false;
                }
                Err(error) => log::debug!("the arm is not there yet: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, Weak};
    use std::thread::JoinHandle;

    use super::*;
    use crate::clock::{ManualClock, Time};
    use crate::config::RobotConfig;
    use crate::hal::ArmState;
    use crate::hal::bus::BusError;
    use crate::hal::{Emulator, MemoryPort, Port, PortError};

    /// A port that somebody can see is still open.
    struct Watched(MemoryPort, #[expect(dead_code, reason = "it lives as long")] Arc<()>);

    impl Port for Watched {
        fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError> {
            self.0.write(bytes, deadline)
        }
        fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
            self.0.read(buf, deadline)
        }
        fn purge(&mut self) -> Result<usize, PortError> {
            self.0.purge()
        }
    }

    fn arm() -> (Arm, Weak<()>) {
        let text = include_str!("../../firmware-config/emulated.toml");
        let robot = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
        let clock = Arc::new(ManualClock::default());
        let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 1)));
        let open = Arc::new(());
        let seen = Arc::downgrade(&open);
        let port = Watched(MemoryPort::new(emulator, clock.clone()), open);
        (Arm::open(&robot, Box::new(port), clock).unwrap(), seen)
    }

    /// A search thread that finds the arm in this try, and tells of each.
    fn searching(found_in: u32) -> (Searcher, JoinHandle<()>, Receiver<u32>) {
        let (tell, told): (Sender<u32>, _) = channel();
        let mut tries = 0;
        let open = move || {
            tries += 1;
            tell.send(tries).unwrap();
            if tries < found_in { Err(BusError::from(PortError::Lost).into()) } else { Ok(arm().0) }
        };
        let (searcher, search) = search(open).unwrap();
        (searcher, std::thread::spawn(|| search.run()), told)
    }

    fn wait_for(searcher: &mut Searcher) -> Box<dyn Hardware> {
        loop {
            match searcher.found() {
                Some(arm) => return arm,
                None => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_lost_arm_is_looked_for_until_it_is_found_and_no_longer() {
        let (mut searcher, thread, told) = searching(3);
        assert!(searcher.found().is_none());
        searcher.lost(Box::new(arm().0));
        let found = wait_for(&mut searcher).read(&mut ArmState::default(), Time(1_000_000_000));
        assert_eq!(found.unwrap(), 6);
        drop(searcher);
        thread.join().unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn an_arm_that_is_lost_again_is_found_again() {
        let (mut searcher, thread, _told) = searching(1);
        let mut arm: Box<dyn Hardware> = Box::new(arm().0);
        for _ in 0..3 {
            searcher.lost(arm);
            arm = wait_for(&mut searcher);
        }
        drop(searcher);
        thread.join().unwrap();
    }

    #[test]
    fn the_port_that_was_lost_is_free_before_it_is_opened_again() {
        let (lost, open) = arm();
        let (tell, told) = channel();
        let (mut searcher, search) = search(move || {
            tell.send(open.strong_count()).unwrap();
            Ok(arm().0)
        })
        .unwrap();
        let thread = std::thread::spawn(|| search.run());
        searcher.lost(Box::new(lost));
        assert_eq!(told.recv().unwrap(), 0);
        drop(searcher);
        thread.join().unwrap();
    }

    #[test]
    fn nothing_is_opened_while_no_arm_is_lost_and_the_thread_ends_with_the_loop() {
        let (searcher, thread, told) = searching(1);
        drop(searcher);
        thread.join().unwrap();
        assert_eq!(told.iter().count(), 0);
    }
}
