//! Finding the arm again after its port was lost, beside the control thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use heapless::spsc::{Consumer, Producer, Queue};

use super::event;
use crate::hal::arm::{Arm, ArmError};

/// The control loop's way to a new arm when the port of the one it has is gone. Neither call blocks,
/// for both are made within a tick.
pub trait Reconnect: Send {
    /// The port of this arm is gone: drop it, which frees the port, and look for the arm from now on.
    fn lost(&mut self, arm: Box<Arm>);
    /// The arm, once it was found and opened again.
    fn found(&mut self) -> Option<Box<Arm>>;
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// One arm and a place to tell a full queue from an empty one.
const PLACES: usize = 2;

/// The control thread's side of the search.
pub struct Searcher {
    lost: Producer<'static, Box<Arm>>,
    found: Consumer<'static, Box<Arm>>,
    wake: Arc<OwnedFd>,
}

/// What runs in the search thread: [`run`](Search::run) returns when the control side is gone.
pub struct Search<F> {
    lost: Consumer<'static, Box<Arm>>,
    found: Producer<'static, Box<Arm>>,
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
    let (lose, lost) = Box::leak(Box::new(Queue::<Box<Arm>, PLACES>::new())).split();
    let (find, found) = Box::leak(Box::new(Queue::<Box<Arm>, PLACES>::new())).split();
    let wake = Arc::new(event::new()?);
    let searcher = Searcher { lost: lose, found, wake: wake.clone() };
    Ok((searcher, Search { lost, found: find, wake, open }))
}

impl Reconnect for Searcher {
    fn lost(&mut self, arm: Box<Arm>) {
        // There is one arm at a time, so there is a place for it.
        let _ = self.lost.enqueue(arm);
        event::signal(&self.wake);
    }

    fn found(&mut self) -> Option<Box<Arm>> {
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
