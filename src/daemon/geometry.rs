//! What an arm looks like, for whoever draws it.

use nalgebra::Isometry3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::RobotConfig;
use crate::kinematics::Chain;

/// A frame within the one before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// x, y, z (m).
    pub position: [f64; 3],
    /// The turn as a unit quaternion: x, y, z, w.
    pub rotation: [f64; 4],
}

/// A joint of the arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JointGeometry {
    /// Its name.
    pub name: String,
    /// The lowest position that a goal may have (rad).
    pub lowest_rad: f64,
    /// The highest (rad).
    pub highest_rad: f64,
    /// Where it is in the frame that the joint before turns, the first in the base's; it turns about
    /// its own z axis. None where that is not known, and for a gripper.
    pub origin: Option<Frame>,
}

/// The arm as a chain of joints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Geometry {
    /// In the order of the status, base first; z of the base points up.
    pub joints: Vec<JointGeometry>,
    /// The tool's tip in the frame that the last joint with an origin turns; none where that is not
    /// known.
    pub tip: Option<Frame>,
}

impl Geometry {
    /// A robot's; without origins where its model has no geometry.
    pub fn of(robot: &RobotConfig) -> Self {
        let chain = Chain::of(robot).ok();
        let margin = robot.safety.limit_margin_rad;
        let joint = |(i, joint): (usize, &crate::config::JointConfig)| JointGeometry {
            name: joint.name.clone(),
            lowest_rad: joint.min_rad + margin,
            highest_rad: joint.max_rad - margin,
            origin: chain.as_ref().and_then(|chain| chain.origin(i)).map(Frame::from),
        };
        Self {
            joints: robot.joint.iter().enumerate().map(joint).collect(),
            tip: chain.as_ref().map(|chain| Frame::from(chain.tip())),
        }
    }
}

impl From<&Isometry3<f64>> for Frame {
    fn from(pose: &Isometry3<f64>) -> Self {
        Self { position: pose.translation.vector.into(), rotation: pose.rotation.coords.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use nalgebra::{Quaternion, Translation3, UnitQuaternion, Vector3};
    use std::path::Path;

    fn pose(frame: &Frame) -> Isometry3<f64> {
        let rotation = UnitQuaternion::new_normalize(Quaternion::from(frame.rotation));
        Isometry3::from_parts(Translation3::from(frame.position), rotation)
    }

    #[test]
    fn the_tip_drawn_is_where_the_tip_is() {
        let robot = RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap();
        let (geometry, chain) = (Geometry::of(&robot), Chain::of(&robot).unwrap());
        let q = [0.3, -0.5, 0.7, 0.2, -0.4, 0.1];
        let mut frame = Isometry3::identity();
        for (joint, q) in geometry.joints.iter().zip(q) {
            let Some(origin) = &joint.origin else { continue };
            let turn = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), q);
            frame = frame * pose(origin) * turn;
        }
        frame *= pose(&geometry.tip.unwrap());
        assert!((frame.translation.vector - chain.position(&q)).norm() < 1e-9);
    }
}
