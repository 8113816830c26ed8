//! What a servo keeps about itself: gains and protections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::in_range;

/// Settings that `regoal robot configure` puts into a servo. What is not set stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Proportional gain, in the servo's own unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_gain: Option<u16>,
    /// Integral gain, in the servo's own unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub i_gain: Option<u16>,
    /// Derivative gain, in the servo's own unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_gain: Option<u16>,
    /// The most torque, as a share of what the servo can: more than 0, up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_torque: Option<f64>,
    /// More current than this for long is an over-current, to the servo and to the control loop (A).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_current: Option<f64>,
    /// More load than this for long is an overload, as a share of what the servo can: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overload_torque: Option<f64>,
    /// The torque left after an overload, as a share of what the servo can: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protective_torque: Option<f64>,
    /// Hotter than this, the servo itself lets go (°C).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_temperature: Option<u8>,
}

impl Tuning {
    pub(super) fn check(&self) -> Result<(), String> {
        let each = [
            ("max_torque", self.max_torque, 1e-3, 1.0),
            ("max_current", self.max_current, 1e-3, 10.0),
            ("overload_torque", self.overload_torque, 0.0, 1.0),
            ("protective_torque", self.protective_torque, 0.0, 1.0),
            ("max_temperature", self.max_temperature.map(f64::from), 20.0, 100.0),
        ];
        let given =
            each.into_iter().filter_map(|(key, value, min, max)| Some((key, value?, min, max)));
        given.into_iter().try_for_each(|(key, value, min, max)| in_range(key, value, min, max))
    }
}
