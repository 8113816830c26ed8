//! Forward kinematics of a serial chain and damped least-squares inverse kinematics.

use nalgebra::{Isometry3, Matrix3, Translation3, UnitQuaternion, Vector3};

use crate::joints::{JointVec, MAX_JOINTS};

/// Why a pose could not be computed.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum KinematicsError {
    /// No model of this name.
    #[error("unknown kinematic model `{0}`: expected `so101`")]
    UnknownModel(String),
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
}

/// One revolute joint: a fixed transform from the joint before, then a turn about its z axis.
#[derive(Debug, Clone)]
struct Link {
    origin: Isometry3<f64>,
    min: f64,
    max: f64,
}

/// A serial chain from the base frame (m, z up; the SO-101 points along -y) to the tool's tip.
#[derive(Debug, Clone)]
pub struct Chain {
    links: Vec<Link>,
    tip: Isometry3<f64>,
}

/// Position Jacobian: one column (m/rad) per joint of the chain.
type Columns = JointVec<Vector3<f64>>;

const MAX_ITERATIONS: usize = 200;
const DAMPING: f64 = 0.02;
const MAX_STEP_RAD: f64 = 0.3;
const REST_PULL: f64 = 0.2;
const REST_FADE: f64 = 0.9;

/// Where the inverse starts again when the way from the rest pose ends in a corner (rad).
const STARTS: [[f64; 4]; 6] = [
    [0.0, -1.2, 1.2, 0.3],
    [1.2, -1.2, 1.2, 0.3],
    [-1.2, -1.2, 1.2, 0.3],
    [0.0, 0.4, -0.6, 0.9],
    [1.2, 0.4, -0.6, 0.9],
    [-1.2, 0.4, -0.6, 0.9],
];

impl Chain {
    /// The chain of a robot model.
    ///
    /// # Errors
    /// No such model.
    pub fn named(model: &str) -> Result<Self, KinematicsError> {
        match model {
            "so101" => Ok(Self::so101()),
            other => Err(KinematicsError::UnknownModel(other.into())),
        }
    }

    /// SO-ARM101: the five joints that move the tip between the jaws. Frames and limits as in the
    /// URDF of TheRobotStudio's SO-ARM100 repository (`Simulation/SO101/so101_new_calib.urdf`).
    pub fn so101() -> Self {
        use std::f64::consts::{FRAC_PI_2, PI};
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

    /// How many joints move the tip.
    pub fn joints(&self) -> usize {
        self.links.len()
    }

    /// Lowest and highest angle of joint `i` of the chain (rad).
    pub fn limits(&self, i: usize) -> Option<(f64, f64)> {
        self.links.get(i).map(|link| (link.min, link.max))
    }

    /// The tip's position in the base frame (m) at joint angles `q` (rad). Missing angles count as
    /// zero, surplus ones (a gripper) are ignored.
    pub fn position(&self, q: &[f64]) -> Vector3<f64> {
        self.frames(q).0.translation.vector
    }

    /// The origin of each joint and the tip (m), base first: the arm as a polyline.
    pub fn polyline(&self, q: &[f64]) -> heapless::Vec<Vector3<f64>, { MAX_JOINTS + 2 }> {
        let mut points = heapless::Vec::new();
        let mut frame = Isometry3::identity();
        let _ = points.push(Vector3::zeros());
        for (i, link) in self.links.iter().enumerate() {
            frame *= link.origin * turn(q.get(i));
            let _ = points.push(frame.translation.vector);
        }
        let _ = points.push((frame * self.tip).translation.vector);
        points
    }

    /// The frame that the last joint of the chain turns (base frame): the hand, its fingers along
    /// `-z`, on the SO-101 its moving jaw on the side of `x`.
    pub fn hand(&self, q: &[f64]) -> Isometry3<f64> {
        self.frames(q).0 * self.tip.inverse()
    }

    /// The axis that each joint of the chain turns about: a point of it (m) and its direction.
    pub fn axes(&self, q: &[f64]) -> JointVec<(Vector3<f64>, Vector3<f64>)> {
        let axis =
            |frame: &Isometry3<f64>| (frame.translation.vector, frame.rotation * Vector3::z());
        self.frames(q).1.iter().map(axis).collect()
    }

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

    fn jacobian(&self, q: &[f64]) -> (Vector3<f64>, Columns) {
        let (tip, axes) = self.frames(q);
        let tip = tip.translation.vector;
        let columns = axes
            .iter()
            .map(|frame| (frame.rotation * Vector3::z()).cross(&(tip - frame.translation.vector)))
            .collect();
        (tip, columns)
    }

    /// Joint angles (rad) inside the limits that bring the tip to `goal` (m), near `rest`.
    ///
    /// Damped least squares (Wampler 1986; Nakamura and Hanafusa 1986):
    /// `dq = Jᵀ(JJᵀ + λ²I)⁻¹ e + (I - J⁺J) k (rest - q)`, from `rest` and, should that end in a
    /// corner, from a few fixed poses.
    ///
    /// # Errors
    /// No pose within `tolerance` (m) was found.
    pub fn inverse(
        &self,
        goal: &Vector3<f64>,
        rest: &[f64],
        tolerance: f64,
    ) -> Result<JointVec<f64>, KinematicsError> {
        let rest: JointVec<f64> =
            (0..self.joints()).map(|i| rest.get(i).copied().unwrap_or(0.0)).collect();
        let mut closest = f64::INFINITY;
        for start in std::iter::once(None).chain(STARTS.iter().map(Some)) {
            let mut q = rest.clone();
            for (to, from) in q.iter_mut().zip(start.into_iter().flatten()) {
                *to = *from;
            }
            let distance = self.descend(goal, &rest, &mut q, tolerance);
            if distance <= tolerance {
                return Ok(q);
            }
            closest = closest.min(distance);
        }
        Err(KinematicsError::Unreachable { x: goal.x, y: goal.y, z: goal.z, closest })
    }

    fn descend(&self, goal: &Vector3<f64>, rest: &[f64], q: &mut [f64], tolerance: f64) -> f64 {
        let mut distance = f64::INFINITY;
        for iteration in 0..MAX_ITERATIONS {
            let (tip, columns) = self.jacobian(q);
            let error = goal - tip;
            distance = error.norm();
            if !distance.is_finite() || distance < tolerance * 0.1 {
                break;
            }
            // The pull toward the rest pose fades, or it would hold the tip off the goal.
            let pull = REST_PULL * REST_FADE.powi(iteration as i32);
            self.newton_step(&error, &columns, rest, pull, q);
        }
        distance
    }

    fn newton_step(
        &self,
        error: &Vector3<f64>,
        columns: &Columns,
        rest: &[f64],
        rest_pull: f64,
        q: &mut [f64],
    ) {
        let gram: Matrix3<f64> = columns.iter().map(|c| c * c.transpose()).sum();
        let damped = gram + Matrix3::identity() * DAMPING * DAMPING;
        let Some(inverse) = damped.try_inverse() else { return };
        let to_rest: JointVec<f64> =
            rest.iter().zip(&*q).map(|(r, x)| rest_pull * (r - x)).collect();
        let drift: Vector3<f64> = columns.iter().zip(&to_rest).map(|(c, d)| c * *d).sum();
        let pull = inverse * (error - drift);
        for (((x, column), d), link) in q.iter_mut().zip(columns).zip(&to_rest).zip(&self.links) {
            let step = (column.dot(&pull) + d).clamp(-MAX_STEP_RAD, MAX_STEP_RAD);
            *x = (*x + step).clamp(link.min, link.max);
        }
    }
}

/// A fixed frame from a URDF `<origin xyz rpy>`.
fn pose(xyz: [f64; 3], [roll, pitch, yaw]: [f64; 3]) -> Isometry3<f64> {
    Isometry3::from_parts(
        Translation3::new(xyz[0], xyz[1], xyz[2]),
        UnitQuaternion::from_euler_angles(roll, pitch, yaw),
    )
}

fn turn(angle: Option<&f64>) -> Isometry3<f64> {
    Isometry3::rotation(Vector3::z() * angle.copied().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, stream};
    use rand::RngExt as _;

    fn random_pose(chain: &Chain, rng: &mut crate::rng::Rng) -> JointVec<f64> {
        chain.links.iter().map(|l| rng.random_range(0.9 * l.min..0.9 * l.max)).collect()
    }

    /// Worked out by multiplying the URDF's frames in another language, term by term.
    #[test]
    fn positions_agree_with_an_independent_product_of_the_urdf_frames() {
        for (q, tip) in [
            ([0.0; 5], [0.020_395, -0.375_601, 0.258_952]),
            ([0.0, -0.6, 0.6, 0.6, 0.0], [0.020_395, -0.274_877, 0.166_573]),
            ([0.3, -1.0, 0.8, 0.5, 1.0], [-0.054_666, -0.243_511, 0.214_404]),
        ] {
            let found = Chain::so101().position(&q);
            assert!((found - Vector3::from(tip)).norm() < 1e-5, "{q:?}: {found:?}");
        }
    }

    #[test]
    fn the_jacobian_is_the_derivative_of_the_position() {
        let (chain, mut rng) = (Chain::so101(), stream(3, Stream::Training));
        for _ in 0..50 {
            let q = random_pose(&chain, &mut rng);
            let (_, columns) = chain.jacobian(&q);
            for (i, column) in columns.iter().enumerate() {
                let (mut a, mut b) = (q.clone(), q.clone());
                a[i] -= 1e-6;
                b[i] += 1e-6;
                let slope = (chain.position(&b) - chain.position(&a)) / 2e-6;
                assert!((slope - column).norm() < 1e-7, "joint {i}: {slope:?} {column:?}");
            }
        }
    }

    #[test]
    fn inverse_of_forward_reaches_the_same_point_inside_the_limits() {
        let (chain, mut rng) = (Chain::so101(), stream(4, Stream::Training));
        let (mut solved, n) = (0, 500);
        for _ in 0..n {
            let goal = chain.position(&random_pose(&chain, &mut rng));
            let Ok(q) = chain.inverse(&goal, &[0.0, -0.6, 0.6, 0.6, 0.0], 1e-3) else { continue };
            assert!((chain.position(&q) - goal).norm() <= 1e-3);
            assert!(q.iter().zip(&chain.links).all(|(x, l)| (l.min..=l.max).contains(x)));
            solved += 1;
        }
        assert!(solved >= n * 95 / 100, "solved {solved} of {n} (seed 4)");
    }

    #[test]
    fn a_point_out_of_reach_says_how_close_the_arm_gets() {
        let error = Chain::so101().inverse(&Vector3::new(1.0, 0.0, 0.0), &[0.0; 5], 1e-3);
        let Err(KinematicsError::Unreachable { closest, .. }) = error else { panic!("{error:?}") };
        assert!((0.4..0.8).contains(&closest), "{closest}");
    }
}
