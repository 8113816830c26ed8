//! What tells one Fetch task from another: models, starts, goals, success.

use rand::RngExt as _;

use super::expert::{self, Sight};
use super::{ActionSpace, Ends, EnvSpec};
use crate::goal::reached;
use crate::rng::Rng;

/// A block's edge (m).
pub(super) const EDGE: f64 = 0.05;
/// Goals count as reached within this (m).
const TOLERANCE: f32 = 0.05;
/// Blocks and goals lie this far from the gripper's beginning at most, along each axis (m), goals in
/// the air this far above the table.
const RANGE: f64 = 0.15;
const AIR: f64 = 0.45;
/// Blocks begin this far from the gripper, and from each other (m, along the table).
const APART: f64 = 0.1;
/// A gripper is away when it is this far from the upper block's place (m).
const AWAY: f32 = 0.1;

/// A task.
pub(super) struct Task {
    /// Its name, and that without meshes.
    pub names: [&'static str; 2],
    /// Its model file.
    pub model: &'static str,
    /// How many blocks there are.
    pub blocks: usize,
    /// Whether the fingers move.
    pub grips: bool,
    /// Where the robot's base stands (m).
    pub base: f64,
    /// How much higher the gripper begins (m).
    pub lift: f64,
    /// Whether goals are in the air, half of them where there is a block.
    pub in_air: bool,
    /// How blocks are stacked.
    pub stack: Option<Stack>,
    /// The time limit, in steps.
    pub horizon: usize,
}

/// How blocks are stacked.
#[derive(Clone, Copy)]
pub(super) struct Stack {
    /// How much higher the upper goal is (m).
    pub rise: f64,
    /// All six numbers count as reached within this (m).
    pub tolerance: f32,
    /// Whether success is [`stacked`].
    pub strict: bool,
}

const PICK: Task = Task {
    names: ["fetch_pick_place", "fetch_pick_place_meshfree"],
    model: "pick_and_place",
    blocks: 1,
    grips: true,
    base: 0.405,
    lift: 0.2,
    in_air: true,
    stack: None,
    horizon: 50,
};

const TASKS: [Task; 5] = [
    PICK,
    Task {
        names: ["fetch_push", "fetch_push_meshfree"],
        model: "push",
        grips: false,
        lift: 0.0,
        in_air: false,
        ..PICK
    },
    Task {
        names: ["fetch_reach", "fetch_reach_meshfree"],
        model: "reach",
        blocks: 0,
        grips: false,
        base: 0.4049,
        ..PICK
    },
    Task {
        names: ["fetch_stack_two", "fetch_stack_two_meshfree"],
        model: "stack_two",
        blocks: 2,
        stack: Some(Stack { rise: EDGE, tolerance: TOLERANCE, strict: true }),
        horizon: 150,
        ..PICK
    },
    Task {
        names: ["fetch_stack_two_lenient", "fetch_stack_two_lenient_meshfree"],
        model: "stack_two",
        blocks: 2,
        stack: Some(Stack { rise: 0.5 * EDGE, tolerance: 0.08, strict: false }),
        horizon: 150,
        ..PICK
    },
];

/// The names of all tasks.
pub const NAMES: [&str; 2 * TASKS.len()] = {
    let mut names = [""; 2 * TASKS.len()];
    let mut i = 0;
    while i < TASKS.len() {
        names[2 * i] = TASKS[i].names[0];
        names[2 * i + 1] = TASKS[i].names[1];
        i += 1;
    }
    names
};

/// The task of a name, and whether it is without meshes.
pub(super) fn named(name: &str) -> Option<(&'static Task, bool)> {
    static ALL: [Task; 5] = TASKS;
    let found = |task: &'static Task| {
        let place = task.names.iter().position(|known| *known == name)?;
        Some((task, place == 1))
    };
    ALL.iter().find_map(found)
}

impl Task {
    /// What the environment is.
    pub(super) fn spec(&self, meshfree: bool) -> EnvSpec {
        let [with, without] = self.names;
        EnvSpec {
            name: if meshfree { without } else { with },
            observation: 10 + 15 * self.blocks,
            goal: 3 * self.blocks.max(1),
            actions: ActionSpace::Continuous { size: 4, limit: 1.0 },
            horizon: self.horizon,
            tolerance: self.stack.map_or(TOLERANCE, |stack| stack.tolerance),
            ends: Ends::Never,
        }
    }

    /// Draws a goal (m), `[g]`; the gripper begins at `grip`, a block lies at `height`.
    pub(super) fn goal(&self, grip: [f64; 3], height: f64, rng: &mut Rng) -> Vec<f64> {
        if let Some(stack) = self.stack {
            let [x, y] = beside(grip, &[], rng);
            return vec![x, y, height, x, y, height + stack.rise];
        }
        let mut goal = grip.map(|x| x + rng.random_range(-RANGE..RANGE));
        if self.blocks > 0 {
            goal[2] = height;
            if self.in_air && rng.random() {
                goal[2] += rng.random_range(0.0..AIR);
            }
        }
        goal.to_vec()
    }

    /// Draws where the blocks begin (m, along the table); the first of a stack is at its goal.
    pub(super) fn places(&self, grip: [f64; 3], goal: &[f32], rng: &mut Rng) -> Vec<[f64; 2]> {
        let mut places = Vec::new();
        if let (Some(_), [x, y, ..]) = (self.stack, goal) {
            places.push([f64::from(*x), f64::from(*y)]);
        }
        while places.len() < self.blocks {
            places.push(beside(grip, &places, rng));
        }
        places
    }

    /// The scripted expert's action.
    pub(super) fn expert(&self, sight: &Sight) -> [f32; 4] {
        match (self.blocks, self.grips) {
            (0, _) => expert::reach(sight),
            (_, false) => expert::push(sight),
            (1, true) => expert::pick_and_place(sight),
            _ => expert::stack(sight),
        }
    }
}

/// Draws a place on the table (m) away from the gripper and from other blocks.
fn beside(grip: [f64; 3], others: &[[f64; 2]], rng: &mut Rng) -> [f64; 2] {
    loop {
        let place = [grip[0], grip[1]].map(|x| x + rng.random_range(-RANGE..RANGE));
        let near = |[x, y]: [f64; 2]| (place[0] - x).hypot(place[1] - y) < APART;
        if !near([grip[0], grip[1]]) && !others.iter().any(|other| near(*other)) {
            return place;
        }
    }
}

/// Whether the second block lies on the first one by itself: each within the tolerance of its place
/// (`blocks`, `goals` `[6]`), and the gripper, which an observation begins with, away.
pub(super) fn stacked(observation: &[f32], blocks: &[f32], goals: &[f32]) -> bool {
    let (places, _) = goals.as_chunks::<3>();
    let near = |(block, place): (&[f32; 3], &[f32; 3])| reached(block, place, TOLERANCE);
    let gripper = observation.first_chunk::<3>();
    let away = |upper: &[f32; 3]| gripper.is_some_and(|gripper| !reached(gripper, upper, AWAY));
    blocks.as_chunks::<3>().0.iter().zip(places).all(near) && places.last().is_some_and(away)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, stream};

    const GRIP: [f64; 3] = [1.34, 0.75, 0.53];

    #[test]
    fn blocks_begin_away_from_the_gripper_and_from_each_other_the_first_at_its_goal() {
        let (task, _) = named("fetch_stack_two").unwrap();
        let mut rng = stream(1, Stream::HeldOut);
        for _ in 0..200 {
            let goal: Vec<f32> =
                task.goal(GRIP, 0.425, &mut rng).iter().map(|x| *x as f32).collect();
            let places = task.places(GRIP, &goal, &mut rng);
            let apart = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
            assert_eq!(places[0].map(|x| x as f32), [goal[0], goal[1]]);
            assert!(apart(places[0], places[1]) >= APART);
            for place in places {
                assert!(apart(place, [GRIP[0], GRIP[1]]) >= APART - 1e-6);
            }
        }
    }

    #[test]
    fn half_of_the_goals_of_pick_and_place_are_on_the_table_and_none_of_push_is_in_the_air() {
        let mut rng = stream(1, Stream::HeldOut);
        let mut in_air = |name: &str| {
            let (task, _) = named(name).unwrap();
            (0..400).filter(|_| task.goal(GRIP, 0.425, &mut rng)[2] > 0.425).count()
        };
        assert!((160..240).contains(&in_air("fetch_pick_place")));
        assert_eq!(in_air("fetch_push"), 0);
    }

    #[test]
    fn a_stack_is_one_only_by_itself_and_upright() {
        let goals = [1.3, 0.7, 0.425, 1.3, 0.7, 0.475];
        assert!(stacked(&[1.3, 0.7, 0.6], &goals, &goals));
        assert!(!stacked(&[1.3, 0.7, 0.55], &goals, &goals));
        let beside = [1.3, 0.7, 0.425, 1.35, 0.7, 0.425];
        assert!(!stacked(&[1.3, 0.7, 0.6], &beside, &goals));
    }
}
