//! Faults on demand: what a servo bus can do wrong, as data, seeded and repeatable.
//!
//! A [`FaultSpec`] (TOML) lists faults. Those of the line damage bytes: [`FaultInjector`] is a
//! [`Port`](super::Port) around any port that does it. Those of a servo change what it does and
//! says: the [`Emulator`](super::Emulator) does them. The same seed, specification and requests
//! give the same bytes.
//!
//! ```
//! use regoal::hal::fault::{FaultSpec, Kind};
//! # use std::path::Path;
//! let text = "
//!     [[fault]]           # a hundredth of the answers loses a byte
//!     kind = 'drop'
//!     rate = 0.01
//!     [[fault]]           # servo 3 answers the 12th request with byte 5 damaged
//!     kind = 'flip'
//!     transaction = 12
//!     id = 3
//!     byte = 5
//! ";
//! let spec = FaultSpec::parse(text, Path::new("faults.toml"))?;
//! assert_eq!(spec.fault[1].kind, Kind::Flip);
//! # Ok::<(), regoal::config::ConfigError>(())
//! ```

mod damage;
mod frame;
mod injector;
mod spec;
mod trigger;

pub use injector::FaultInjector;
pub use spec::{Fault, FaultSpec, Kind, Side};
pub(crate) use trigger::{Occasion, Trigger};
