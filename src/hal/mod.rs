//! The robot's hardware: port, wire codec, bus, servos, arm, and the emulator.
//!
//! [`port`] moves bytes with deadlines, [`wire`] makes packets of them without I/O, [`bus`] asks and
//! answers, [`servo`] says what the registers mean, [`arm`] speaks rad and seconds. The
//! [`emulator`] is a bus of servos that nobody can tell from a real one, in virtual time or on a
//! pseudo terminal; [`fault`] is what can go wrong on either. A tracer is another [`Port`] around a
//! port.
//!
//! # When nobody speaks to the servos any more
//! [`arm::rescue`] lets a second process hold an arm whose own has died. When both are dead, a
//! Dynamixel arm is stopped by its servos' bus watchdog, which [`Arm`] arms with torque on
//! (`bus.watchdog_ms`). Feetech servos have none: each goes on to the last goal that it was sent and
//! holds there for as long as it has power. [`Arm::open`] therefore sets their acceleration and goal
//! speed to the joints' limits, their torque limit to what `regoal robot configure` put into them,
//! and their angle limits, so that this last way is no faster, stronger or further than any other;
//! and the safety gate sends no goal that leads the measured position by more than
//! `safety.max_lead_rad`, which bounds how far it goes. A switch in the power line is the only stop
//! that depends on no program.
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
pub use emulator::{Emulator, Hand, MemoryPort, PtyServer, SocketServer, Surroundings};
pub use fault::{FaultInjector, FaultSpec};
pub use port::{Port, PortError, SerialPort};
