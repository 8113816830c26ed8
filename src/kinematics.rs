//! Kinematics of a serial chain: where the tip is, how it moves with each joint, and which joint
//! angles bring it somewhere.
//!
//! The geometry is a built-in model's or a URDF's ([`Chain::of`]). An arm without a known geometry
//! has no Cartesian goals: that is an error with its remedy, never a guess.

mod inverse;
mod models;
mod urdf;

#[cfg(test)]
mod tests;

use nalgebra::{Isometry3, Rotation3, Translation3, UnitQuaternion, Vector3};

use crate::config::RobotConfig;
use crate::joints::{GoalSpace, GoalVec, JointVec, LEVER, MAX_JOINTS, stack};

pub use models::MODELS;
pub use urdf::UrdfError;

/// Why a pose could not be computed.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum KinematicsError {
    /// No model of this name.
    #[error("expected `model` to be so101, so100, none or a file `*.urdf`, found `{0}`")]
    UnknownModel(String),
    /// Where this arm's links are is not known.
    #[error(
        "`{0}` has no geometry (model = \"none\"), so it takes no Cartesian goals: name the arm's \
         file with model = \"arm.urdf\", base_link and tip_link"
    )]
    NoGeometry(String),
    /// The URDF is not of a serial arm.
    #[error(transparent)]
    Urdf(#[from] UrdfError),
    /// The goal is outside the workspace.
    #[error(
        "position ({x:.3}, {y:.3}, {z:.3}) m is out of reach: the arm gets within {closest:.3} m"
    )]
    Unreachable {
        /// The goal (m).
        x: f64,
        /// The goal (m).
        y: f64,
        /// The goal (m).
        z: f64,
        /// The smallest distance found (m).
        closest: f64,
    },
    /// The point may be in reach, but not with the tip turned so.
    #[error(
        "the pose at ({x:.3}, {y:.3}, {z:.3}) m is out of reach: the arm gets within {closest:.3} m \
         and {turn:.3} rad of it at once"
    )]
    PoseUnreachable {
        /// The goal (m).
        x: f64,
        /// The goal (m).
        y: f64,
        /// The goal (m).
        z: f64,
        /// The distance left where both errors together are least (m).
        closest: f64,
        /// The turn left there (rad).
        turn: f64,
    },
}

/// One revolute joint: a fixed transform from the joint before, then a turn about its z axis.
#[derive(Debug, Clone, PartialEq)]
struct Link {
    origin: Isometry3<f64>,
    min: f64,
    max: f64,
}

/// A serial chain from the base frame (m, z up; the SO arms point along -y) to the tool's tip.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    links: Vec<Link>,
    tip: Isometry3<f64>,
}

/// How the tip moves with one joint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Of the tip's position (m/rad).
    pub linear: Vector3<f64>,
    /// Of the tip's orientation (rad/rad), in the base frame.
    pub angular: Vector3<f64>,
}

impl Chain {
    /// The chain of a robot: its model's, within the model's and the robot's own joint limits. The
    /// chain's joints are the robot's first ones; those that follow are its tool's.
    ///
    /// # Errors
    /// The model is unknown or has no geometry, the URDF is not of a serial arm, or it has more
    /// joints than the robot.
    pub fn of(robot: &RobotConfig) -> Result<Self, KinematicsError> {
        let mut chain = match robot.urdf() {
            Some((text, base, tip)) => Self::from_urdf(text, base, tip)?,
            None if robot.model == "none" => {
                return Err(KinematicsError::NoGeometry(robot.name.clone()));
            }
            None => Self::named(&robot.model)?,
        };
        if chain.joints() > robot.joint.len() {
            return Err(UrdfError::Joints { most: robot.joint.len(), found: chain.joints() }.into());
        }
        for (link, joint) in chain.links.iter_mut().zip(&robot.joint) {
            link.min = link.min.max(joint.min_rad).min(link.max);
            link.max = link.max.min(joint.max_rad).max(link.min);
        }
        Ok(chain)
    }

    /// How many joints move the tip.
    pub fn joints(&self) -> usize {
        self.links.len()
    }

    /// Lowest and highest angle of joint `i` of the chain (rad).
    pub fn limits(&self, i: usize) -> Option<(f64, f64)> {
        self.links.get(i).map(|link| (link.min, link.max))
    }

    /// Where joint `i` of the chain is in the frame that the joint before turns (m).
    pub fn origin(&self, i: usize) -> Option<&Isometry3<f64>> {
        self.links.get(i).map(|link| &link.origin)
    }

    /// Where the tip is in the frame that the last joint turns (m).
    pub fn tip(&self) -> &Isometry3<f64> {
        &self.tip
    }

    /// The tip's position in the base frame (m) at joint angles `q` (rad). Missing angles count as
    /// zero, surplus ones (a gripper) are ignored.
    pub fn position(&self, q: &[f64]) -> Vector3<f64> {
        self.pose(q).translation.vector
    }

    /// The tip's pose in the base frame (m) at joint angles `q` (rad), as for
    /// [`position`](Self::position).
    pub fn pose(&self, q: &[f64]) -> Isometry3<f64> {
        self.frames(q).0
    }

    /// The origin of each joint and the tip (m), base first: the arm as a polyline.
    pub fn polyline(&self, q: &[f64]) -> heapless::Vec<Vector3<f64>, { MAX_JOINTS + 2 }> {
        let (tip, axes) = self.frames(q);
        let joints = axes.iter().map(|frame| frame.translation.vector);
        let base = std::iter::once(Vector3::zeros());
        base.chain(joints).chain(std::iter::once(tip.translation.vector)).collect()
    }

    /// The frame that the last joint of the chain turns (base frame): the hand, its fingers along
    /// `-z`, on the SO-101 its moving jaw on the side of `x`.
    pub fn hand(&self, q: &[f64]) -> Isometry3<f64> {
        self.pose(q) * self.tip.inverse()
    }

    /// The axis that each joint of the chain turns about: a point of it (m) and its direction.
    pub fn axes(&self, q: &[f64]) -> JointVec<(Vector3<f64>, Vector3<f64>)> {
        let axis =
            |frame: &Isometry3<f64>| (frame.translation.vector, frame.rotation * Vector3::z());
        self.frames(q).1.iter().map(axis).collect()
    }

    /// The goal of a Cartesian space that is achieved at joint angles `q` (rad); empty in others.
    pub fn goal(&self, space: GoalSpace, q: &[f64]) -> GoalVec {
        let short = |x: &f64| *x as f32;
        match space {
            GoalSpace::EndEffectorPosition => stack(self.position(q).iter().map(short)),
            GoalSpace::EndEffectorPose => stack(pose_goal(&self.pose(q)).iter().map(short)),
            _ => GoalVec::new(),
        }
    }

    /// The tip's Jacobian at joint angles `q` (rad): one column per joint of the chain.
    pub fn jacobian(&self, q: &[f64]) -> JointVec<Column> {
        let (tip, axes) = self.frames(q);
        columns(&tip, &axes)
    }

    /// The tip's pose, and the frame that each joint turns in.
    fn frames(&self, q: &[f64]) -> (Isometry3<f64>, JointVec<Isometry3<f64>>) {
        let mut frame = Isometry3::identity();
        let mut axes = JointVec::new();
        for (i, link) in self.links.iter().enumerate() {
            frame *= link.origin;
            let _ = axes.push(frame);
            frame *= turn(q.get(i));
        }
        (frame * self.tip, axes)
    }
}

/// A pose as a goal: the position (m), then the z and x axes, each [`LEVER`] long.
pub fn pose_goal(pose: &Isometry3<f64>) -> [f64; 9] {
    let [p, z, x] = [
        pose.translation.vector,
        pose.rotation * Vector3::z() * LEVER,
        pose.rotation * Vector3::x() * LEVER,
    ];
    [p.x, p.y, p.z, z.x, z.y, z.z, x.x, x.y, x.z]
}

/// The pose that a goal of [`pose_goal`]'s form stands for; none when its axes say no orientation.
/// Axes that are not quite at right angles are put right, the z axis counting first.
pub fn goal_pose(goal: &[f32]) -> Option<Isometry3<f64>> {
    let numbers: heapless::Vec<f64, 9> = goal.iter().map(|x| f64::from(*x)).take(9).collect();
    let [px, py, pz, zx, zy, zz, xx, xy, xz] = numbers.into_array().ok()?;
    const LEAST: f64 = 0.1 * LEVER;
    let z = Vector3::new(zx, zy, zz).try_normalize(LEAST)?;
    let along = Vector3::new(xx, xy, xz);
    let x = (along - z * z.dot(&along)).try_normalize(LEAST)?;
    let axes = Rotation3::from_basis_unchecked(&[x, z.cross(&x), z]);
    let turn = UnitQuaternion::from_rotation_matrix(&axes);
    Some(Isometry3::from_parts(Translation3::new(px, py, pz), turn))
}

fn columns(tip: &Isometry3<f64>, axes: &[Isometry3<f64>]) -> JointVec<Column> {
    let column = |frame: &Isometry3<f64>| {
        let axis = frame.rotation * Vector3::z();
        let lever = tip.translation.vector - frame.translation.vector;
        Column { linear: axis.cross(&lever), angular: axis }
    };
    axes.iter().map(column).collect()
}

/// A frame from its origin (m) and its roll, pitch and yaw (rad): turns about the fixed x, then y,
/// then z axis, as in a URDF's `<origin xyz rpy>`.
pub fn pose(xyz: [f64; 3], [roll, pitch, yaw]: [f64; 3]) -> Isometry3<f64> {
    Isometry3::from_parts(
        Translation3::new(xyz[0], xyz[1], xyz[2]),
        UnitQuaternion::from_euler_angles(roll, pitch, yaw),
    )
}

fn turn(angle: Option<&f64>) -> Isometry3<f64> {
    Isometry3::rotation(Vector3::z() * angle.copied().unwrap_or(0.0))
}
