//! Cart-pole: keep a pole upright on a cart by pushing the cart left or right.
//!
//! A cart of 1 kg on a track carries a uniform pole of 0.1 kg and half length l = 0.5 m on a free
//! hinge. With F = ±10 N, M the mass of both and m that of the pole (Barto, Sutton & Anderson, 1983,
//! without friction):
//!
//! ```text
//! theta'' = (g sin(theta) - cos(theta) f) / (l (4/3 - m cos²(theta) / M))
//! x''     = f - m l theta'' cos(theta) / M        f = (F + m l theta'² sin(theta)) / M
//! ```
//!
//! Steps of 0.02 s, explicit Euler. It ends, as a failure, when the pole leans more than 12° or the
//! cart leaves the track of ±2.4 m; 200 steps are perfect.

use rand::RngExt as _;

use super::{Colour, Ends, EnvSpec, Scene, System, spec};
use crate::rng::Rng;

/// The system; its state is x (m), x' (m/s), theta (rad), theta' (rad/s), theta from upright.
pub struct CartPole;

const GRAVITY: f64 = 9.8;
const POLE: f64 = 0.1;
const MASS: f64 = 1.0 + POLE;
const HALF_LENGTH: f64 = 0.5;
const FORCE: f64 = 10.0;
const STEP: f64 = 0.02;
const TRACK: f64 = 2.4;
/// 12°.
const LEAN: f64 = std::f64::consts::PI / 15.0;
/// The expert's force is the sign of this feedback: the linear-quadratic regulator of the upright
/// pole for Q = I, R = 1 (x, x', theta, theta').
const GAINS: [f64; 4] = [0.910, 2.132, 30.59, 7.842];

impl System for CartPole {
    type State = [f64; 4];
    const SPEC: EnvSpec = spec("cart_pole", 4, 2, 200, Ends::Failure);

    fn start(rng: &mut Rng) -> [f64; 4] {
        std::array::from_fn(|_| rng.random_range(-0.05..0.05))
    }

    fn next([x, v, theta, omega]: [f64; 4], choice: usize) -> [f64; 4] {
        let (sin, cos) = theta.sin_cos();
        let force = if choice == 1 { FORCE } else { -FORCE };
        let f = (force + POLE * HALF_LENGTH * omega * omega * sin) / MASS;
        let inertia = HALF_LENGTH * (4.0 / 3.0 - POLE * cos * cos / MASS);
        let alpha = (GRAVITY * sin - cos * f) / inertia;
        let a = f - POLE * HALF_LENGTH * alpha * cos / MASS;
        [x + STEP * v, v + STEP * a, theta + STEP * omega, omega + STEP * alpha]
    }

    fn observe(state: [f64; 4]) -> Vec<f64> {
        state.to_vec()
    }

    fn ended([x, _, theta, _]: [f64; 4]) -> bool {
        x.abs() > TRACK || theta.abs() > LEAN
    }

    /// The step that falls still counts.
    fn reward(_state: [f64; 4]) -> f32 {
        1.0
    }

    fn expert(state: [f64; 4]) -> usize {
        let force: f64 = GAINS.iter().zip(state).map(|(gain, x)| gain * x).sum();
        usize::from(force > 0.0)
    }

    /// The cart on its track, and the pole.
    fn scene([x, _, theta, _]: [f64; 4]) -> Scene {
        let end = TRACK as f32 + 0.4;
        let mut scene = Scene::new([-end, -0.6], [end, 1.4]);
        scene.line([[-TRACK as f32, 0.0], [TRACK as f32, 0.0]], 0.03, Colour::FAINT);
        let hinge = [x as f32, 0.15];
        scene.rectangle([hinge[0] - 0.25, -0.15], [hinge[0] + 0.25, 0.15], Colour::AGENT);
        let (sin, cos) = (2.0 * HALF_LENGTH * theta.sin(), 2.0 * HALF_LENGTH * theta.cos());
        let tip = [hinge[0] + sin as f32, hinge[1] + cos as f32];
        scene.line([hinge, tip], 0.08, Colour::OBJECT);
        scene
    }
}
