//! A device in a thread of its own, at the loop's rate: however slow it is, no tick waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Follower, Teleoperator};
use crate::clock::Clock;
use crate::control::TeleopSender;

struct Shared {
    device: Mutex<Box<dyn Teleoperator>>,
    /// What the device said last, while it fails.
    error: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// The operator's place at a device that is polled elsewhere; may be cloned.
#[derive(Clone)]
pub struct Seat(Arc<Shared>);

/// A poisoned lock only means that a thread ended badly; the values in it are whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Has the device for a moment; it is not polled meanwhile.
    pub fn with<R>(&self, f: impl FnOnce(&mut dyn Teleoperator) -> R) -> R {
        f(lock(&self.0.device).as_mut())
    }

    /// What is wrong with the device now.
    pub fn error(&self) -> Option<String> {
        lock(&self.0.error).clone()
    }

    fn poll(&self, follower: &Follower, sender: &mut TeleopSender) {
        let polled = lock(&self.0.device).poll(follower);
        *lock(&self.0.error) = match polled {
            Ok(action) => {
                if let Some(action) = action {
                    sender.send(action);
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
    }
}

/// Polls a device until it is dropped.
pub struct TeleopThread {
    seat: Seat,
    thread: Option<JoinHandle<()>>,
}

impl TeleopThread {
    /// Polls `device` every `period` and hands on what it tells; `look` says where the arm is.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        device: Box<dyn Teleoperator>,
        mut sender: TeleopSender,
        look: impl Fn() -> Follower + Send + 'static,
        period: Duration,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let shared = Shared {
            device: Mutex::new(device),
            error: Mutex::new(None),
            stop: AtomicBool::new(false),
        };
        let seat = Seat(Arc::new(shared));
        let polled = seat.clone();
        let thread = std::thread::Builder::new().name("teleop".into()).spawn(move || {
            let mut next = clock.now();
            while !polled.0.stop.load(Ordering::Acquire) {
                polled.poll(&look(), &mut sender);
                // Who is late starts anew, and makes up for nothing.
                next = (next + period).max(clock.now());
                clock.sleep_until(next);
            }
        })?;
        Ok(Self { seat, thread: Some(thread) })
    }

    /// The operator's place.
    pub fn seat(&self) -> Seat {
        self.seat.clone()
    }
}

impl Drop for TeleopThread {
    fn drop(&mut self) {
        self.seat.0.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed by its hook.
            let _ = thread.join();
        }
    }
}
