//! One verb, one file.

pub mod emulate;
pub mod episodes;
pub mod finetune;
pub mod policy;
pub mod progress;
pub mod simulate;
pub mod train;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Clock;
use crate::storage::Storage;

/// What every verb gets from `main`.
#[derive(Clone)]
pub struct Context {
    /// The files.
    pub storage: Arc<dyn Storage>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Set by Ctrl-C and the like.
    pub interrupted: Arc<AtomicBool>,
}

/// Somebody pressed Ctrl-C: everything was left in order.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Context {
    /// Ends the verb when somebody pressed Ctrl-C.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
