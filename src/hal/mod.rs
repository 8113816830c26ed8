//! The robot's hardware: port, wire codec, bus, servos, arm, and the emulator.
//!
//! [`port`] moves bytes with deadlines, [`wire`] makes packets of them without I/O, [`bus`] asks and
//! answers, [`servo`] says what the registers mean, [`arm`] speaks rad and seconds. The
//! [`emulator`] is a bus of servos that nobody can tell from a real one, in virtual time or on a
//! pseudo terminal; [`fault`] is what can go wrong on either. A tracer is another [`Port`] around a
//! port.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod arm;
pub mod bus;
pub mod calibration;
pub mod emulator;
pub mod fault;
mod plausibility;
pub mod port;
pub mod servo;
pub mod settings;
pub mod wire;

pub use arm::{Arm, ArmError, ArmState, JointState};
pub use bus::{Bus, BusError};
pub use emulator::{Emulator, MemoryPort, PtyServer, SocketServer, Surroundings};
pub use fault::{FaultInjector, FaultSpec};
pub use port::{Port, PortError, SerialPort};
