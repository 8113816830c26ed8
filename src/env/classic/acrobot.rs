//! Acrobot: swing two links above a line with a motor at the middle joint only.
//!
//! Both links are 1 kg and 1 m, with their mass in the middle and a moment of inertia of 1 kg m²;
//! theta1 is the first link's angle from hanging, theta2 the second's from the first. With the torque
//! tau in -1, 0, 1 N m (Sutton & Barto, section 11.3 of the first edition: the "book" dynamics of
//! Acrobot-v1), c2 = cos(theta2) and s2 = sin(theta2):
//!
//! ```text
//! | 3.5 + c2         1.25 + 0.5 c2 | |theta1''|   |       0.5 s2 (theta2'² + 2 theta1' theta2') - g (1.5 sin(theta1) + 0.5 sin(theta1 + theta2)) |
//! | 1.25 + 0.5 c2    1.25          | |theta2''| = | tau - 0.5 s2 theta1'²                       - g  0.5 sin(theta1 + theta2)                    |
//! ```
//!
//! Steps of 0.2 s, one step of Runge-Kutta of order 4 each; velocities are clipped to 4 pi and 9 pi.
//! It ends, as a success, with the tip a link's length above the first joint; each step before costs 1.

use std::f64::consts::{PI, TAU};

use rand::RngExt as _;

use super::{Colour, Ends, EnvSpec, Scene, System, spec};
use crate::rng::Rng;

/// The system; its state is theta1, theta2 (rad, -pi to pi), theta1', theta2' (rad/s).
pub struct Acrobot;

const GRAVITY: f64 = 9.8;
const STEP: f64 = 0.2;
const FASTEST: [f64; 2] = [4.0 * PI, 9.0 * PI];
/// The expert's torque is the sign of a sum of sin(theta1), sin(theta2), sin(theta1 + theta2),
/// theta1', theta2', theta1' cos(theta2) and theta2' cos(theta2) with these weights, found by the
/// cross-entropy method (Rubinstein, 1999) on the mean return: -73.8 over 20,000 starts. As the
/// system, the rule is odd: mirrored states get mirrored torques.
const WEIGHTS: [f64; 7] = [-0.104, 0.056, -0.652, -0.167, 0.577, 0.349, 0.278];

impl System for Acrobot {
    type State = [f64; 4];
    const SPEC: EnvSpec = spec("acrobot", 6, 3, 500, Ends::Success);

    fn start(rng: &mut Rng) -> [f64; 4] {
        std::array::from_fn(|_| rng.random_range(-0.1..0.1))
    }

    fn next(state: [f64; 4], choice: usize) -> [f64; 4] {
        let [theta1, theta2, omega1, omega2] = integrate(state, choice as f64 - 1.0);
        let [fastest1, fastest2] = FASTEST;
        [
            wrap(theta1),
            wrap(theta2),
            omega1.clamp(-fastest1, fastest1),
            omega2.clamp(-fastest2, fastest2),
        ]
    }

    fn observe([theta1, theta2, omega1, omega2]: [f64; 4]) -> Vec<f64> {
        vec![theta1.cos(), theta1.sin(), theta2.cos(), theta2.sin(), omega1, omega2]
    }

    fn ended([theta1, theta2, ..]: [f64; 4]) -> bool {
        -theta1.cos() - (theta1 + theta2).cos() > 1.0
    }

    fn reward(state: [f64; 4]) -> f32 {
        if Self::ended(state) { 0.0 } else { -1.0 }
    }

    fn expert([theta1, theta2, omega1, omega2]: [f64; 4]) -> usize {
        let (s2, c2) = theta2.sin_cos();
        let angles = [theta1.sin(), s2, (theta1 + theta2).sin()];
        let features = angles.into_iter().chain([omega1, omega2, omega1 * c2, omega2 * c2]);
        let torque: f64 = WEIGHTS.iter().zip(features).map(|(weight, x)| weight * x).sum();
        if torque > 0.0 { 2 } else { 0 }
    }

    /// Both links, and the line.
    fn scene([theta1, theta2, ..]: [f64; 4]) -> Scene {
        let mut scene = Scene::new([-2.2, -2.2], [2.2, 2.2]);
        scene.line([[-2.2, 1.0], [2.2, 1.0]], 0.03, Colour::GOAL);
        let end = |[x, y]: [f32; 2], angle: f64| [x + angle.sin() as f32, y - angle.cos() as f32];
        let elbow = end([0.0, 0.0], theta1);
        let tip = end(elbow, theta1 + theta2);
        scene.line([[0.0, 0.0], elbow, tip], 0.16, Colour::AGENT);
        scene.circle([0.0, 0.0], 0.1, Colour::WALL);
        scene.circle(elbow, 0.1, Colour::OBJECT);
        scene
    }
}

/// The state's derivative: the equation above, solved for the accelerations.
fn derivative([theta1, theta2, omega1, omega2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (s2, c2) = theta2.sin_cos();
    let (m11, m12, m22) = (3.5 + c2, 1.25 + 0.5 * c2, 1.25);
    let gravity2 = 0.5 * GRAVITY * (theta1 + theta2).sin();
    let gravity1 = 1.5 * GRAVITY * theta1.sin() + gravity2;
    let f1 = 0.5 * s2 * (omega2 * omega2 + 2.0 * omega1 * omega2) - gravity1;
    let f2 = torque - 0.5 * s2 * omega1 * omega1 - gravity2;
    let determinant = m11 * m22 - m12 * m12;
    let alpha1 = (m22 * f1 - m12 * f2) / determinant;
    let alpha2 = (m11 * f2 - m12 * f1) / determinant;
    [omega1, omega2, alpha1, alpha2]
}

/// One step of the classical Runge-Kutta method.
fn integrate(state: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |k: [f64; 4], h: f64| std::array::from_fn(|i| state[i] + h * k[i]);
    let k1 = derivative(state, torque);
    let k2 = derivative(along(k1, STEP / 2.0), torque);
    let k3 = derivative(along(k2, STEP / 2.0), torque);
    let k4 = derivative(along(k3, STEP), torque);
    let mean = std::array::from_fn(|i| (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]) / 6.0);
    along(mean, STEP)
}

/// An angle in -pi to pi.
fn wrap(angle: f64) -> f64 {
    (angle + PI).rem_euclid(TAU) - PI
}
