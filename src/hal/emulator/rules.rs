//! What makes a servo one of its kind, and what it makes of its registers.

use std::fmt::Debug;

use super::Conditions;
use super::motion::Drive;
use super::servo::Servo;
use crate::hal::servo::{Model, Register};

/// What makes a servo one of its kind.
pub(super) trait Rules: Debug + Sync {
    /// What a new servo has in its registers that the table does not say.
    fn factory(&self) -> &'static [(Register, i32)];
    /// The supply that it is made for (V).
    fn supply(&self, model: &Model) -> f64;
    /// Whether it answers requests that are neither reads nor pings.
    fn answers_all(&self, servo: &Servo) -> bool;
    /// RAM registers that begin as copies of others, and the goal, at power-up.
    fn power_up(&self, servo: &mut Servo);
    /// What the registers make of the motor.
    fn plan(&self, servo: &Servo) -> Plan;
    /// Writes what may be written and does what comes with it; the error that it answers with.
    fn write(&self, servo: &mut Servo, address: usize, data: &[u8]) -> u8;
    /// Brings the measurements up to date.
    fn measure(&self, servo: &mut Servo, conditions: &Conditions);
    /// Nobody has spoken to it for as long as its plan says.
    fn left_alone(&self, servo: &mut Servo);
}

/// What a servo does until its registers or its troubles change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub drive: Drive,
    pub protection: Protection,
    /// How many steps without a request end it.
    pub watchdog: Option<u32>,
}

/// When a servo is in trouble; trouble bits are those of [`trouble`](crate::hal::servo::trouble).
#[derive(Debug, Clone, Copy)]
pub(super) struct Protection {
    /// V.
    pub voltage: (f64, f64),
    /// °C.
    pub temperature: f64,
    /// Load, and for how many steps.
    pub overload: (f64, u32),
    /// Load that draws too much current, and for how many steps.
    pub overcurrent: (f64, u32),
    /// The troubles that stay when their cause is gone.
    pub latching: u8,
}

impl Protection {
    /// None at all.
    pub(super) const NONE: Self = Self {
        voltage: (0.0, f64::MAX),
        temperature: f64::MAX,
        overload: (f64::MAX, 0),
        overcurrent: (f64::MAX, 0),
        latching: 0,
    };
}
