//! The scripted experts: an action from where things are now, nothing remembered.

use super::task::EDGE;

/// What an error of a metre asks of the gripper: an action of 1 moves it by about 0.032 m.
const GAIN: f64 = 20.0;
/// The sum of the fingers' positions below which they are closed on a block, and above which they
/// are open (m).
const CLOSED: f64 = 0.056;
const OPEN: f64 = 0.09;
/// A block is between the fingers when it is this near to their middle (m).
const BETWEEN: f64 = 0.02;
/// The gripper goes down when it is this straight above a block, and comes from this high (m).
const CENTRED: f64 = 0.012;
const ABOVE: f64 = 0.05;
/// A block is where it is wished within this (m).
const THERE: f64 = 0.012;
/// A block is carried this high over the one that it goes upon (m).
const OVER: f64 = 0.05;

/// What an expert sees (m).
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// The middle between the fingers.
    pub grip: [f64; 3],
    /// How far the fingers are open, both together.
    pub opening: f64,
    /// The blocks, as far as there are any.
    pub blocks: [[f64; 3]; 2],
    /// Where they are wished.
    pub goals: [[f64; 3]; 2],
    /// How high a block lies on the table.
    pub table: f64,
}

/// Straight there.
pub(super) fn reach(sight: &Sight) -> [f32; 4] {
    towards(less(sight.goals[0], sight.grip), 0.0)
}

/// Above the block, down, close, carry.
pub(super) fn pick_and_place(sight: &Sight) -> [f32; 4] {
    let [block, _] = sight.blocks;
    if held(sight, block) {
        return towards(less(sight.goals[0], block), -1.0);
    }
    grasp(sight, block)
}

/// The upper block up, over the lower one, down, open, away.
pub(super) fn stack(sight: &Sight) -> [f32; 4] {
    let ([lower, _], [_, block]) = (sight.goals, sight.blocks);
    let to = [lower[0], lower[1], sight.table + EDGE];
    let off = less(to, block);
    let aside = off[0].hypot(off[1]);
    if aside < THERE && off[2].abs() < THERE {
        let up = to[2] + 3.0 * EDGE - sight.grip[2];
        let rises = if sight.opening > OPEN { up } else { 0.0 };
        return towards([0.0, 0.0, rises], 1.0);
    }
    if !held(sight, block) {
        return grasp(sight, block);
    }
    let over = off[2] + OVER;
    match (aside > THERE, over > 0.02) {
        // Not over the lower block at the height that it lies at.
        (true, true) if aside < 3.0 * EDGE => towards([0.0, 0.0, over], -1.0),
        (true, _) => towards([off[0], off[1], over], -1.0),
        (false, _) => towards(off, -1.0),
    }
}

/// From behind the block, straight to its goal; round the block over it.
pub(super) fn push(sight: &Sight) -> [f32; 4] {
    /// The gripper's middle is this far from the block's while it pushes, and where it goes down (m).
    const CONTACT: f64 = 0.045;
    const RUN_UP: f64 = 0.075;
    /// Nearer than this it could touch the block (m).
    const CLEAR: f64 = 0.06;
    /// Over the block (m).
    const HIGH: f64 = 0.07;
    /// It pushes this straight (m).
    const STRAIGHT: f64 = 0.02;
    /// A block that is pushed slides on: what is asked of the gripper's way is this much less.
    const SLOWLY: f64 = 0.5;
    let ([block, _], [goal, _], grip) = (sight.blocks, sight.goals, sight.grip);
    let error = less(goal, block);
    let far = error[0].hypot(error[1]);
    if far < STRAIGHT {
        return [0.0; 4];
    }
    let way = [error[0] / far, error[1] / far];
    let from = less(grip, block);
    let behind = -(from[0] * way[0] + from[1] * way[1]);
    let off = from[1] * way[0] - from[0] * way[1];
    let down = sight.table - grip[2];
    if behind > 0.5 * CONTACT && off.abs() < STRAIGHT && down.abs() < STRAIGHT {
        let ahead = SLOWLY * (far + behind - CONTACT);
        return towards([way[0] * ahead + way[1] * off, way[1] * ahead - way[0] * off, down], -1.0);
    }
    let start = [block[0] - RUN_UP * way[0], block[1] - RUN_UP * way[1]];
    let to = [start[0] - grip[0], start[1] - grip[1]];
    let over = HIGH + down;
    if passes([grip[0], grip[1]], start, [block[0], block[1]]) > CLEAR {
        return towards([to[0], to[1], down], -1.0);
    }
    if over > 0.3 * HIGH && from[0].hypot(from[1]) < CLEAR + STRAIGHT {
        return towards([0.0, 0.0, over], -1.0);
    }
    let lower = to[0].hypot(to[1]) < STRAIGHT;
    towards([to[0], to[1], if lower { down } else { over }], -1.0)
}

/// How near the way between two points passes by another one (m).
fn passes(from: [f64; 2], to: [f64; 2], by: [f64; 2]) -> f64 {
    let way = [to[0] - from[0], to[1] - from[1]];
    let off = [by[0] - from[0], by[1] - from[1]];
    let length = way[0] * way[0] + way[1] * way[1];
    let along = ((off[0] * way[0] + off[1] * way[1]) / length.max(1e-12)).clamp(0.0, 1.0);
    (off[0] - along * way[0]).hypot(off[1] - along * way[1])
}

/// Whether a block is between closed fingers.
fn held(sight: &Sight, block: [f64; 3]) -> bool {
    sight.opening < CLOSED && distance(block, sight.grip) < BETWEEN
}

/// The way to having a block between the fingers.
fn grasp(sight: &Sight, block: [f64; 3]) -> [f32; 4] {
    let off = less(block, sight.grip);
    let aside = off[0].hypot(off[1]);
    if aside < CENTRED && off[2].abs() < 0.5 * BETWEEN {
        return towards(off, -1.0);
    }
    let height = ABOVE * (aside / CENTRED - 1.0).clamp(0.0, 1.0);
    towards([off[0], off[1], off[2] + height], 1.0)
}

/// The action for a way (m).
fn towards(way: [f64; 3], fingers: f32) -> [f32; 4] {
    let [x, y, z] = way.map(|error| (GAIN * error).clamp(-1.0, 1.0) as f32);
    [x, y, z, fingers]
}

pub(super) fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    less(a, b).iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn less(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}
