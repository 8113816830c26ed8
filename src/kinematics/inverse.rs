//! Damped least squares: joint angles that bring the tip to a point or a pose.
//!
//! `dq = Jᵀ(JJᵀ + λ²I)⁻¹(e - Jd) + d` (Wampler 1986; Nakamura and Hanafusa 1986), with the damping
//! `λ² = ½|e|² + ε` (Sugihara 2011), which fades with the error, so that the end is Newton's. `d`
//! leads back to the rest pose where the goal leaves a choice. A joint at its limit that would
//! leave it takes no part in the step.

use nalgebra::{Isometry3, Matrix6, Translation3, UnitQuaternion, Vector3, Vector6};

use super::{Chain, Column, KinematicsError, columns};
use crate::joints::JointVec;

const MAX_ITERATIONS: usize = 200;
/// Added to the squared damping: keeps the step finite where the arm is stretched.
const LEAST_DAMPING: f64 = 1e-9;
const MAX_STEP_RAD: f64 = 0.3;
const REST_PULL: f64 = 0.2;
const REST_FADE: f64 = 0.9;
/// An error of orientation (rad) counts as much as this many times one of position (m).
const TURN_WEIGHT: f64 = 0.1;
/// No progress worth having in this many iterations ends a descent.
const PATIENCE: usize = 30;
/// How often the inverse starts again from elsewhere.
const RESTARTS: usize = 64;
/// Every other restart stays this near to the best found (rad): past a stretched elbow, the way
/// there is closed.
const NEARBY: f64 = 0.6;

/// Where the inverse starts again when the way from the rest pose ends in a corner (rad).
const STARTS: [[f64; 4]; 6] = [
    [0.0, -1.2, 1.2, 0.3],
    [1.2, -1.2, 1.2, 0.3],
    [-1.2, -1.2, 1.2, 0.3],
    [0.0, 0.4, -0.6, 0.9],
    [1.2, 0.4, -0.6, 0.9],
    [-1.2, 0.4, -0.6, 0.9],
];

/// Bases of the Halton sequence, one per joint: starts that fill the joint space evenly.
const BASES: [u32; 8] = [2, 3, 5, 7, 11, 13, 17, 19];

/// Where the tip is to be.
struct Goal {
    pose: Isometry3<f64>,
    /// 0: any orientation will do.
    turn_weight: f64,
    /// What distance counts as there: (m), (rad).
    tolerance: (f64, f64),
}

/// How far off a pose is: (m), (rad).
type Offset = (f64, f64);

impl Chain {
    /// Joint angles (rad) inside the limits that bring the tip to `goal` (m), near `rest` (rad),
    /// within `tolerance` (m); the hand may be turned in any way.
    ///
    /// # Errors
    /// No such pose was found, which says how close the arm gets.
    pub fn inverse(
        &self,
        goal: &Vector3<f64>,
        rest: &[f64],
        tolerance: f64,
    ) -> Result<JointVec<f64>, KinematicsError> {
        self.solve(&Goal::point(goal, tolerance), rest).map_err(|((closest, _), _)| {
            KinematicsError::Unreachable { x: goal.x, y: goal.y, z: goal.z, closest }
        })
    }

    /// Joint angles (rad) inside the limits that bring the tip to `goal` (m) turned as it is, near
    /// `rest` (rad), within `tolerance` (m, rad). An arm of five joints reaches few such poses.
    ///
    /// # Errors
    /// No such joint angles were found, which says how close the arm gets.
    pub fn inverse_pose(
        &self,
        goal: &Isometry3<f64>,
        rest: &[f64],
        tolerance: (f64, f64),
    ) -> Result<JointVec<f64>, KinematicsError> {
        let [x, y, z] = goal.translation.vector.into();
        self.solve(&Goal::pose(goal, tolerance), rest).map_err(|((closest, turn), _)| {
            KinematicsError::PoseUnreachable { x, y, z, closest, turn }
        })
    }

    /// As [`inverse`](Self::inverse); for a point out of reach, the joint angles that bring the tip
    /// as near to it as was found.
    pub fn nearest(&self, goal: &Vector3<f64>, rest: &[f64], tolerance: f64) -> JointVec<f64> {
        self.solve(&Goal::point(goal, tolerance), rest).unwrap_or_else(|(_, best)| best)
    }

    /// As [`inverse_pose`](Self::inverse_pose); for a pose out of reach, the joint angles of the
    /// nearest one found.
    pub fn nearest_pose(
        &self,
        goal: &Isometry3<f64>,
        rest: &[f64],
        tolerance: (f64, f64),
    ) -> JointVec<f64> {
        self.solve(&Goal::pose(goal, tolerance), rest).unwrap_or_else(|(_, best)| best)
    }

    /// Descends from `rest`, then from elsewhere; the smallest offset found where none is enough, and
    /// where that is.
    fn solve(&self, goal: &Goal, rest: &[f64]) -> Result<JointVec<f64>, (Offset, JointVec<f64>)> {
        let rest: JointVec<f64> = self
            .links
            .iter()
            .enumerate()
            .map(|(i, link)| rest.get(i).copied().unwrap_or(0.0).clamp(link.min, link.max))
            .collect();
        let (mut closest, mut best) = ((f64::INFINITY, f64::INFINITY), rest.clone());
        for attempt in 0..=RESTARTS {
            let mut q = self.start(attempt, &rest, &best);
            // Who starts elsewhere because rest led into a corner is not led back there.
            let pull = if attempt <= STARTS.len() { REST_PULL } else { 0.0 };
            let offset = self.descend(goal, &rest, pull, &mut q);
            if goal.reached(offset) {
                return Ok(q);
            }
            if goal.size(offset) < goal.size(closest) {
                (closest, best) = (offset, q);
            }
        }
        Err((closest, best))
    }

    /// Where an attempt begins: at rest, at one of [`STARTS`], then anywhere and nearby in turn.
    fn start(&self, attempt: usize, rest: &JointVec<f64>, best: &JointVec<f64>) -> JointVec<f64> {
        let mut q = rest.clone();
        if let Some(start) = attempt.checked_sub(1).and_then(|index| STARTS.get(index)) {
            q.iter_mut().zip(start).for_each(|(x, s)| *x = *s);
        }
        if let Some(index) = attempt.checked_sub(1 + STARTS.len()) {
            let joints = q.iter_mut().zip(&self.links).zip(best).zip(BASES);
            for (((x, link), best), base) in joints {
                let (low, high) = match index % 2 {
                    0 => (link.min, link.max),
                    _ => (best - NEARBY, best + NEARBY),
                };
                *x = low + (high - low) * halton(index as u32 / 2 + 1, base);
            }
        }
        q.iter_mut().zip(&self.links).for_each(|(x, link)| *x = x.clamp(link.min, link.max));
        q
    }

    /// Goes down to a least offset from `q`, which it changes; the offset.
    fn descend(&self, goal: &Goal, rest: &[f64], rest_pull: f64, q: &mut JointVec<f64>) -> Offset {
        let (mut best, mut best_q, mut since) = ((f64::INFINITY, f64::INFINITY), q.clone(), 0);
        for iteration in 0..MAX_ITERATIONS {
            let (tip, axes) = self.frames(q);
            let (error, offset) = goal.error(&tip);
            since += 1;
            if goal.size(offset) < goal.size(best) {
                if goal.size(offset) < 0.999 * goal.size(best) {
                    since = 0;
                }
                (best, best_q) = (offset, q.clone());
            }
            if !error.norm().is_finite() || goal.reached((10.0 * best.0, 10.0 * best.1)) {
                break;
            }
            if since > PATIENCE {
                break;
            }
            // The pull toward the rest pose fades, or it would hold the tip off the goal.
            let pull = rest_pull * REST_FADE.powi(iteration as i32);
            let drift = rest.iter().zip(&*q).map(|(r, x)| pull * (r - x)).collect();
            self.step(goal, &error, &columns(&tip, &axes), drift, q);
        }
        *q = best_q;
        best
    }

    /// One damped step with all joints, then again without those that would leave their limits.
    fn step(
        &self,
        goal: &Goal,
        error: &Vector6<f64>,
        columns: &[Column],
        mut drift: JointVec<f64>,
        q: &mut [f64],
    ) {
        let mut columns: JointVec<Vector6<f64>> = columns.iter().map(|c| goal.weigh(c)).collect();
        for _ in 0..=self.joints() {
            let Some(step) = damped_step(error, &columns, &drift) else { return };
            let mut blocked = false;
            for (i, (x, link)) in q.iter().zip(&self.links).enumerate() {
                let Some(by) = step.get(i) else { continue };
                let out = (*x <= link.min && *by < 0.0) || (*x >= link.max && *by > 0.0);
                if let (true, Some(column), Some(d)) = (out, columns.get_mut(i), drift.get_mut(i)) {
                    blocked = true;
                    (*column, *d) = (Vector6::zeros(), 0.0);
                }
            }
            if !blocked {
                for ((x, by), link) in q.iter_mut().zip(&step).zip(&self.links) {
                    *x = (*x + by.clamp(-MAX_STEP_RAD, MAX_STEP_RAD)).clamp(link.min, link.max);
                }
                return;
            }
        }
    }
}

fn damped_step(
    error: &Vector6<f64>,
    columns: &[Vector6<f64>],
    drift: &[f64],
) -> Option<JointVec<f64>> {
    let gram: Matrix6<f64> = columns.iter().map(|c| c * c.transpose()).sum();
    let damping = 0.5 * error.norm_squared() + LEAST_DAMPING;
    let inverse = (gram + Matrix6::identity() * damping).cholesky()?;
    let drifted: Vector6<f64> = columns.iter().zip(drift).map(|(c, d)| c * *d).sum();
    let pull = inverse.solve(&(error - drifted));
    Some(columns.iter().zip(drift).map(|(c, d)| c.dot(&pull) + d).collect())
}

impl Goal {
    fn point(goal: &Vector3<f64>, tolerance: f64) -> Self {
        let pose = Isometry3::from_parts(Translation3::from(*goal), UnitQuaternion::identity());
        Self { pose, turn_weight: 0.0, tolerance: (tolerance, f64::INFINITY) }
    }

    fn pose(goal: &Isometry3<f64>, tolerance: (f64, f64)) -> Self {
        Self { pose: *goal, turn_weight: TURN_WEIGHT, tolerance }
    }

    fn weigh(&self, column: &Column) -> Vector6<f64> {
        stacked(&column.linear, &(column.angular * self.turn_weight))
    }

    /// What is left to the goal, weighed, and as a distance and a turn.
    fn error(&self, tip: &Isometry3<f64>) -> (Vector6<f64>, Offset) {
        let way = self.pose.translation.vector - tip.translation.vector;
        if self.turn_weight == 0.0 {
            return (stacked(&way, &Vector3::zeros()), (way.norm(), 0.0));
        }
        let turn = (self.pose.rotation * tip.rotation.inverse()).scaled_axis();
        (stacked(&way, &(turn * self.turn_weight)), (way.norm(), turn.norm()))
    }

    fn reached(&self, (distance, turn): Offset) -> bool {
        distance <= self.tolerance.0 && turn <= self.tolerance.1
    }

    fn size(&self, (distance, turn): Offset) -> f64 {
        if self.turn_weight == 0.0 { distance } else { distance.hypot(self.turn_weight * turn) }
    }
}

fn stacked(linear: &Vector3<f64>, angular: &Vector3<f64>) -> Vector6<f64> {
    Vector6::new(linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
}

/// The `index`-th number of the Halton sequence of this base, between 0 and 1.
fn halton(mut index: u32, base: u32) -> f64 {
    let (mut value, mut digit) = (0.0, 1.0);
    while index > 0 {
        digit /= f64::from(base);
        value += digit * f64::from(index % base);
        index /= base;
    }
    value
}
