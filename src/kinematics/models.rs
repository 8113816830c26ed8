//! The geometry of arms that are known by name.

use std::f64::consts::{FRAC_PI_2, PI};

use nalgebra::{Isometry3, Unit, Vector3};

use super::{Chain, KinematicsError, Link, pose};

/// The built-in models.
pub const MODELS: [&str; 2] = ["so101", "so100"];

/// A joint of a model as its URDF states it: where it is, its axis, and its range (rad).
type Joint = ([f64; 3], [f64; 3], [f64; 3], [f64; 2]);

impl Chain {
    /// The chain of a built-in model, see [`MODELS`].
    ///
    /// # Errors
    /// No such model.
    pub fn named(model: &str) -> Result<Self, KinematicsError> {
        match model {
            "so101" => Ok(Self::so101()),
            "so100" => Ok(Self::so100()),
            other => Err(KinematicsError::UnknownModel(other.into())),
        }
    }

    /// SO-ARM101: the five joints that move the tip between the jaws. Frames and limits as in the
    /// URDF of TheRobotStudio's SO-ARM100 repository (`Simulation/SO101/so101_new_calib.urdf`).
    pub fn so101() -> Self {
        let link = |xyz, rpy, limit: f64| Link { origin: pose(xyz, rpy), min: -limit, max: limit };
        Self {
            links: vec![
                link([0.020_790_9, -0.023_074_5, 0.094_881_7], [-PI, 0.0, FRAC_PI_2], 1.919_86),
                link(
                    [-0.030_399_2, -0.018_277_8, -0.054_2],
                    [-FRAC_PI_2, -FRAC_PI_2, 0.0],
                    1.745_33,
                ),
                link([-0.112_57, -0.028, 0.0], [0.0, 0.0, FRAC_PI_2], 1.69),
                link([-0.134_9, 0.005_2, 0.0], [0.0, 0.0, -FRAC_PI_2], 1.658_06),
                link([0.0, -0.061_1, 0.018_1], [FRAC_PI_2, 0.0, PI], 2.792_53),
            ],
            tip: pose([-0.007_9, -0.000_218_121, -0.098_127_4], [FRAC_PI_2, 0.0, FRAC_PI_2]),
        }
    }

    /// SO-ARM100: the five joints that move the tip between the jaws. Frames and ranges as in the
    /// URDF of the same repository (`Simulation/SO100/so100.urdf`), but counted as on the SO-101:
    /// 0 rad is the middle of each range, and the pan's sign is turned round, so that both arms
    /// take the same angles. That file names no tip; it is put where the SO-101's is, measured
    /// from the moving jaw's hinge. Its 1.57079 and 3.14158 are quarter and half turns.
    pub fn so100() -> Self {
        let joints: [Joint; 5] = [
            ([0.0, -0.0452, 0.0165], [FRAC_PI_2, 0.0, 0.0], [0.0, -1.0, 0.0], [-2.0, 2.0]),
            ([0.0, 0.1025, 0.0306], [-1.8, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 3.5]),
            ([0.0, 0.112_57, 0.028], [FRAC_PI_2, 0.0, 0.0], [1.0, 0.0, 0.0], [-PI, 0.0]),
            ([0.0, 0.0052, 0.1349], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-2.5, 1.2]),
            ([0.0, -0.0601, 0.0], [0.0, FRAC_PI_2, 0.0], [0.0, 1.0, 0.0], [-PI, PI]),
        ];
        let mut links = Vec::new();
        let mut rest = Isometry3::identity();
        for (xyz, rpy, axis, [min, max]) in joints {
            let middle = f64::midpoint(min, max);
            let axis = Unit::new_normalize(Vector3::from(axis));
            let origin = rest * pose(xyz, rpy) * Isometry3::rotation(axis.into_inner() * middle);
            let link = Link::about(&axis, &origin, (min - middle, max - middle), &mut rest);
            links.push(link);
        }
        Self { links, tip: rest * pose([0.0079, -0.099_13, 0.000_2], [0.0; 3]) }
    }
}

impl Link {
    /// A joint about any axis of its frame `origin`; `rest` becomes what leads from the link's own
    /// frame, which turns about z, back to the one that `origin` was meant for.
    pub(super) fn about(
        axis: &Unit<Vector3<f64>>,
        origin: &Isometry3<f64>,
        (min, max): (f64, f64),
        rest: &mut Isometry3<f64>,
    ) -> Self {
        let to_axis = nalgebra::UnitQuaternion::rotation_between(&Vector3::z(), axis)
            // Opposite directions: any half turn about a perpendicular will do.
            .unwrap_or_else(|| nalgebra::UnitQuaternion::from_axis_angle(&Vector3::x_axis(), PI));
        let to_axis = Isometry3::from_parts(nalgebra::Translation3::identity(), to_axis);
        *rest = to_axis.inverse();
        Self { origin: origin * to_axis, min, max }
    }
}
