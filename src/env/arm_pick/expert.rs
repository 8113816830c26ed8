//! The scripted expert: above the cube, down, close, carry. An action from what is measured now,
//! nothing remembered.

use nalgebra::{SMatrix, SVector, UnitQuaternion, Vector3};

use super::world::{CLOSED, EDGE, grasp, ray};
use crate::joints::{JointVec, stack};
use crate::kinematics::Chain;

/// The most iterations and the damping of the inverse kinematics.
const ITERATIONS: usize = 60;
const DAMPING: f64 = 1e-3;
/// What a radian of tilt counts against a metre of distance (m).
const TILT: f64 = 0.1;
/// A pose is found within this (m, and tilt as above).
const FOUND: f64 = 5e-4;

/// How far the jaws are open on the way down (rad).
const OPEN: f64 = 0.6;
/// A gripper held off by more than this (rad) has something between its jaws.
const SQUEEZED: f64 = 0.1;
/// The hand comes from this high above the cube, and carries it this high over the table (m).
const ABOVE: f64 = 0.05;
/// Straight above the cube, and at it, are within this (m).
const CENTRED: f64 = 0.006;
const AT: f64 = 0.008;

/// Where the arm can take a cube: the hand pointing down, its jaws closing along the ray from the
/// shoulder's axis. Joint angles (rad) that bring the place between the jaws to `goal` (m), from
/// `start`, and how far they are from doing so (m).
///
/// Damped least squares on position and orientation: `dq = (JᵀJ + λ²I)⁻¹ Jᵀ e`.
pub(super) fn inverse(chain: &Chain, goal: &Vector3<f64>, start: &[f64]) -> (JointVec<f64>, f64) {
    let mut q: JointVec<f64> = stack(start.iter().copied().take(chain.joints()));
    let mut error = f64::INFINITY;
    let upright = pointing_down(chain, goal);
    for _ in 0..ITERATIONS {
        let hand = chain.hand(&q);
        let at = hand * nalgebra::Point3::from(grasp());
        let off = goal - at.coords;
        let tilt = TILT * (upright * hand.rotation.inverse()).scaled_axis();
        let residual = SVector::<f64, 6>::from_fn(|i, _| if i < 3 { off[i] } else { tilt[i - 3] });
        error = residual.norm();
        if error < 0.1 * FOUND {
            break;
        }
        let mut jacobian = SMatrix::<f64, 6, 5>::zeros();
        for (mut column, (point, axis)) in jacobian.column_iter_mut().zip(chain.axes(&q)) {
            column.fixed_rows_mut::<3>(0).copy_from(&axis.cross(&(at.coords - point)));
            column.fixed_rows_mut::<3>(3).copy_from(&(TILT * axis));
        }
        let gram = jacobian.tr_mul(&jacobian) + SMatrix::identity() * DAMPING * DAMPING;
        let Some(inverse) = gram.try_inverse() else { break };
        let step = inverse * jacobian.tr_mul(&residual);
        for (i, (angle, change)) in q.iter_mut().zip(&step).enumerate() {
            let (min, max) = chain.limits(i).unwrap_or((0.0, 0.0));
            *angle = (*angle + change.clamp(-0.3, 0.3)).clamp(min, max);
        }
    }
    (q, error)
}

/// Whether a cube can be held there (m).
pub(super) fn in_reach(chain: &Chain, goal: &Vector3<f64>, start: &[f64]) -> bool {
    inverse(chain, goal, start).1 < FOUND
}

fn pointing_down(chain: &Chain, goal: &Vector3<f64>) -> UnitQuaternion<f64> {
    let (x, z) = (ray(chain, goal), Vector3::z());
    UnitQuaternion::from_basis_unchecked(&[x, z.cross(&x), z])
}

/// What the expert sees (rad, m).
pub(super) struct Sight<'a> {
    pub chain: &'a Chain,
    pub measured: &'a [f64],
    pub sent: &'a [f64],
    pub cube: Vector3<f64>,
    pub goal: Vector3<f64>,
    /// The largest change of a goal position per tick (rad).
    pub max_delta: f64,
}

impl Sight<'_> {
    /// The changes of the goal positions (rad), gripper last.
    pub(super) fn act(&self) -> JointVec<f32> {
        let (to, gripper) = self.wish();
        let (target, _) = inverse(self.chain, &to, self.sent);
        let mut change: JointVec<f64> =
            target.iter().zip(self.sent).map(|(to, from)| to - from).collect();
        // All joints slow down with the one that has the longest way, and arrive together.
        let most = change.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let slower = (self.max_delta / most.max(1e-12)).min(1.0);
        change.iter_mut().for_each(|x| *x *= slower);
        let way = gripper - self.gripper(self.sent);
        let _ = change.push(way.clamp(-self.max_delta, self.max_delta));
        change.iter().map(|x| *x as f32).collect()
    }

    fn between_jaws(&self, q: &[f64]) -> Vector3<f64> {
        (self.chain.hand(q) * nalgebra::Point3::from(grasp())).coords
    }

    fn gripper(&self, q: &[f64]) -> f64 {
        q.get(self.chain.joints()).copied().unwrap_or(0.0)
    }

    /// Where the place between the jaws should be (m), and the gripper's angle (rad).
    fn wish(&self) -> (Vector3<f64>, f64) {
        let at = self.between_jaws(self.measured);
        let off = self.cube - at;
        let aside = off.xy().norm();
        let sent = self.gripper(self.sent);
        let squeezed = sent < CLOSED + 0.01 && self.gripper(self.measured) - sent > SQUEEZED;
        if squeezed && off.norm() < EDGE {
            return (self.carry() - off, CLOSED);
        }
        if aside < 2.0 * CENTRED && off.z.abs() < AT {
            return (self.between_jaws(self.sent), CLOSED);
        }
        let height = ABOVE * (aside / CENTRED - 1.0).clamp(0.0, 1.0);
        (self.cube + height * Vector3::z(), OPEN)
    }

    /// Where the cube should go next (m): up, over, and down to the goal.
    fn carry(&self) -> Vector3<f64> {
        let mut to = self.goal;
        if (to - self.cube).xy().norm() > EDGE {
            to.z = ABOVE;
            if to.z - self.cube.z > 0.5 * EDGE {
                (to.x, to.y) = (self.cube.x, self.cube.y);
            }
        }
        to
    }
}
