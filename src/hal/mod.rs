//! The robot's hardware: port, wire codec, bus, servos, arm, and the emulator.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
