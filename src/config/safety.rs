//! What is too hot, too hard, too far or too late, and what happens then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::in_range;

/// How an arm is brought to a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopCategory {
    /// Torque on, the goal set to where the arm is, at once.
    Hold,
    /// Slow down along the limits, then hold.
    #[default]
    Controlled,
    /// Brake with the windings shorted, without torque: the arm sinks slowly. Where a servo cannot do
    /// that: a controlled stop, then torque off.
    Damp,
    /// Go to the parking pose, then torque off.
    Park,
}

/// How a program that is told to end leaves the arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// In the parking pose without torque; held where it is when that is not reached in time.
    #[default]
    Park,
    /// Held where it is.
    Hold,
}

/// The settings of the safety checks (`[safety]`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SafetyConfig {
    /// Kept free at both ends of each joint's range (rad).
    pub limit_margin_rad: f64,
    /// The sent position leads the measured one by this much at most (rad).
    pub max_lead_rad: f64,
    /// A measured position further than this from the sent one for [`tracking_time_s`](Self::tracking_time_s)
    /// is a fault (rad).
    pub max_tracking_error: f64,
    /// How long (s).
    pub tracking_time_s: f64,
    /// A joint that drives at more than this share of its torque,
    pub stall_load: f64,
    /// this far from where it was sent (rad),
    pub stall_error_rad: f64,
    /// for this long (s), has met something: a fault, and it backs off.
    pub stall_time_s: f64,
    /// A mean load above this slows the arm down, to a fifth of its speed at full load.
    pub slow_load: f64,
    /// From here on a warm servo is marked in the log (°C).
    pub warn_temperature: f64,
    /// From here on the arm slows down, to a tenth of its speed at the highest temperature (°C).
    pub slow_temperature: f64,
    /// Servos hotter than this stop the loop (°C).
    pub max_temperature: f64,
    /// A supply lower than this, or than a joint's servo is made for, stops the loop (V).
    pub min_voltage: f64,
    /// A supply higher than this, or than a joint's servo is made for, stops the loop (V).
    pub max_voltage: f64,
    /// After arming the highest speed grows from a tenth to all of it in this time (s).
    pub startup_s: f64,
    /// The share of its highest speed that an arm goes to a person with who takes over; there it
    /// grows to all of it in [`startup_s`](Self::startup_s).
    pub takeover_speed: f64,
    /// A policy whose first position is further than this from the measured one is refused, and so is
    /// a person who takes over from further away (rad).
    pub max_mismatch_rad: f64,
    /// A policy that gives no usable action for this long is a fault (s).
    pub policy_timeout_s: f64,
    /// A control process that makes no tick for this long is ended and started again, the arm held
    /// meanwhile (s); at least four periods.
    pub heartbeat_s: f64,
    /// What a fault does.
    pub on_fault: StopCategory,
    /// What an e-stop does.
    pub on_emergency: StopCategory,
    /// How the program leaves the arm when it ends.
    pub on_exit: Exit,
    /// Parking is given up after this time; the arm is held then (s).
    pub park_timeout_s: f64,
    /// Parking is done at this share of the highest speed.
    pub park_speed: f64,
}

impl Default for SafetyConfig {
    fn default() -> Self {
        Self {
            limit_margin_rad: 0.01,
            max_lead_rad: 0.5,
            max_tracking_error: 0.3,
            tracking_time_s: 1.0,
            stall_load: 0.6,
            stall_error_rad: 0.087,
            stall_time_s: 0.3,
            slow_load: 0.7,
            warn_temperature: 55.0,
            slow_temperature: 60.0,
            max_temperature: 65.0,
            min_voltage: 4.5,
            max_voltage: 14.0,
            startup_s: 1.0,
            takeover_speed: 0.2,
            max_mismatch_rad: 1.0,
            policy_timeout_s: 0.5,
            heartbeat_s: 0.1,
            on_fault: StopCategory::default(),
            on_emergency: StopCategory::default(),
            on_exit: Exit::default(),
            park_timeout_s: 6.0,
            park_speed: 0.5,
        }
    }
}

impl SafetyConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, value, min, max) in [
            ("limit_margin_rad", self.limit_margin_rad, 0.0, 1.0),
            ("max_lead_rad", self.max_lead_rad, 0.01, 6.3),
            ("max_tracking_error", self.max_tracking_error, 0.01, self.max_lead_rad),
            ("tracking_time_s", self.tracking_time_s, 0.01, 60.0),
            ("stall_load", self.stall_load, 0.05, 10.0),
            ("stall_error_rad", self.stall_error_rad, 0.001, 6.3),
            ("stall_time_s", self.stall_time_s, 0.01, 60.0),
            ("slow_load", self.slow_load, 0.05, 10.0),
            ("warn_temperature", self.warn_temperature, 20.0, self.slow_temperature),
            ("slow_temperature", self.slow_temperature, 20.0, self.max_temperature),
            ("max_temperature", self.max_temperature, 20.0, 100.0),
            ("min_voltage", self.min_voltage, 0.0, self.max_voltage),
            ("max_voltage", self.max_voltage, 0.0, 100.0),
            ("startup_s", self.startup_s, 0.0, 60.0),
            ("takeover_speed", self.takeover_speed, 0.01, 1.0),
            ("max_mismatch_rad", self.max_mismatch_rad, 0.01, 6.3),
            ("policy_timeout_s", self.policy_timeout_s, 0.01, 600.0),
            ("heartbeat_s", self.heartbeat_s, 0.02, 60.0),
            ("park_timeout_s", self.park_timeout_s, 0.1, 60.0),
            ("park_speed", self.park_speed, 0.01, 1.0),
        ] {
            in_range(&format!("safety.{key}"), value, min, max)?;
        }
        Ok(())
    }
}
