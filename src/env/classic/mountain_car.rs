//! Mountain car: an engine too weak for the hill must rock the car up.
//!
//! The hill is sin(3x); with u in -1, 0, 1 (Moore, 1990; Sutton, 1996):
//!
//! ```text
//! x' <- clip(x' + 0.001 u - 0.0025 cos(3x), ±0.07)        x <- clip(x + x', -1.2, 0.6)
//! ```
//!
//! The wall at -1.2 stops the car. It ends, as a success, at x >= 0.5; each step costs 1.
//!
//! Whether one swing to the left is enough or two are needed depends on the start, so no smooth rule
//! is near the best one. The expert takes the choice of smaller expected cost, after value iteration
//!
//! ```text
//! J(s) <- 1 + min over u of J(next(s, u)),   J = 0 on the hill,   J bilinear on a grid
//! ```

use std::sync::OnceLock;

use rand::RngExt as _;

use super::{Colour, Ends, EnvSpec, Scene, System, spec};
use crate::rng::Rng;

/// The system; its state is position and velocity (the hill's own units, per step).
pub struct MountainCar;

const ENGINE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;
const FASTEST: f64 = 0.07;
const WALL: f64 = -1.2;
const RIGHT_END: f64 = 0.6;
const TOP: f64 = 0.5;

impl System for MountainCar {
    type State = [f64; 2];
    const SPEC: EnvSpec = spec("mountain_car", 2, 3, 200, Ends::Success);

    fn start(rng: &mut Rng) -> [f64; 2] {
        [rng.random_range(-0.6..-0.4), 0.0]
    }

    fn next([x, v]: [f64; 2], choice: usize) -> [f64; 2] {
        let push = choice as f64 - 1.0;
        let v = (v + ENGINE * push - GRAVITY * (3.0 * x).cos()).clamp(-FASTEST, FASTEST);
        let x = (x + v).clamp(WALL, RIGHT_END);
        [x, if x == WALL { v.max(0.0) } else { v }]
    }

    fn observe(state: [f64; 2]) -> Vec<f64> {
        state.to_vec()
    }

    fn ended([x, v]: [f64; 2]) -> bool {
        x >= TOP && v >= 0.0
    }

    fn reward(_state: [f64; 2]) -> f32 {
        -1.0
    }

    fn expert(state: [f64; 2]) -> usize {
        static COST: OnceLock<Cost> = OnceLock::new();
        COST.get_or_init(Cost::iterate).best(state).0
    }

    /// The car on the hill sin(3x), and the top.
    fn scene([x, _]: [f64; 2]) -> Scene {
        let on_hill = |x: f64| [x as f32, (3.0 * x).sin() as f32];
        let mut scene = Scene::new([WALL as f32, -1.2], [RIGHT_END as f32, 1.3]);
        let share = |i: u32| f64::from(i) / 100.0;
        let hill = (0..=100).map(|i| on_hill(WALL + (RIGHT_END - WALL) * share(i)));
        scene.line(hill, 0.02, Colour::WALL);
        let [top, height] = on_hill(TOP);
        scene.line([[top, height], [top, height + 0.2]], 0.02, Colour::GOAL);
        let [x, y] = on_hill(x);
        scene.circle([x, y + 0.04], 0.05, Colour::AGENT);
        scene
    }
}

/// Steps to the top from everywhere.
struct Cost {
    /// By position, then velocity.
    grid: Vec<f64>,
}

const POSITIONS: usize = 241;
const VELOCITIES: usize = 121;
/// Value iteration stops when no cost changed by more than this (steps).
const CHANGE: f64 = 1e-3;
/// Left and right: coasting is never better.
const PUSHES: [usize; 2] = [0, 2];

impl Cost {
    /// Sweeps there and back over the grid, each cost seeing the new ones before it.
    fn iterate() -> Self {
        let mut cost = Self { grid: vec![0.0; POSITIONS * VELOCITIES] };
        let mut change = f64::INFINITY;
        while change > CHANGE {
            change = 0.0;
            for i in (0..cost.grid.len()).chain((0..cost.grid.len()).rev()) {
                let better = 1.0 + cost.best(Self::state(i)).1;
                change = f64::max(change, (better - cost.grid[i]).abs());
                cost.grid[i] = better;
            }
        }
        cost
    }

    /// The choice of the smallest cost from here on, and that cost without the step itself.
    fn best(&self, state: [f64; 2]) -> (usize, f64) {
        let [left, right] = PUSHES.map(|push| (push, self.at(MountainCar::next(state, push))));
        if left.1 < right.1 { left } else { right }
    }

    fn state(i: usize) -> [f64; 2] {
        let share = |k: usize, n: usize| k as f64 / (n - 1) as f64;
        let (x, v) = (share(i / VELOCITIES, POSITIONS), share(i % VELOCITIES, VELOCITIES));
        [WALL + (RIGHT_END - WALL) * x, FASTEST * (2.0 * v - 1.0)]
    }

    /// The cost between the grid's points.
    fn at(&self, state: [f64; 2]) -> f64 {
        if MountainCar::ended(state) {
            return 0.0;
        }
        let place = |share: f64, n: usize| {
            let place = share * (n - 1) as f64;
            let low = (place as usize).min(n - 2);
            (low, place - low as f64)
        };
        let [x, v] = state;
        let (i, right) = place((x - WALL) / (RIGHT_END - WALL), POSITIONS);
        let (j, up) = place((v + FASTEST) / (2.0 * FASTEST), VELOCITIES);
        let low = i * VELOCITIES + j;
        let along = |low: usize| (1.0 - up) * self.grid[low] + up * self.grid[low + 1];
        (1.0 - right) * along(low) + right * along(low + VELOCITIES)
    }
}
