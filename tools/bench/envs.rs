//! What environments cost that are no arm.

use rand::RngExt as _;
use regoal::env::{Env as _, FourRooms, Gym, Python, named};
use regoal::rng::{Stream, stream};

use super::measure::{
    Contender, Figure, Unit, alone, cpu_rate, in_turns, pinned, rate, typical_us,
};
use super::peers;

/// Steps between two looks at the clock.
const STEPS: usize = 1000;

/// Steps as learners take them: through the trait, to and fro in the first room, into its walls and
/// along them. The peer is the same in plain Python.
pub fn four_rooms() -> Vec<Figure> {
    let name = "env/four_rooms";
    let mut env = named("four_rooms").unwrap();
    env.reset(&[0.0, 0.0], &mut stream(1, Stream::Attempts)).unwrap();
    let ours: Contender<'_, 1> = Box::new(move || {
        let thousands = rate(|| {
            for i in 0..STEPS {
                let way = if i < STEPS / 2 { 1.0 } else { -1.0 };
                env.step(&[way, 0.5 * way]).unwrap();
            }
            std::hint::black_box(env.observation());
        });
        Some([thousands * STEPS as f64])
    });
    let values = pinned(1, || in_turns(&mut [ours, peers::contender("python", name, 1)]));
    let value = |i: usize| values[i].map(|[steps]| steps);
    let figure = Figure::new(name, value(0).unwrap_or(0.0), Unit::Steps);
    vec![figure.against("python", value(1))]
}

/// Steps of an environment in Python that costs nothing (observation `[10]`, action `[4]`), through its
/// process and back. The peers are the same environment called in a plain Python loop, and as the only one
/// of Gymnasium's vectors, of which the second has a process for it too.
pub fn gym() -> Vec<Figure> {
    let name = "env/gym";
    let opened = peers::python("gymnasium").and_then(|program| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/bench/free_env.py:Make");
        Gym::open(file, &Python { program, ..Python::default() }).ok()
    });
    let mut env = opened;
    if let Some(env) = &mut env {
        env.reset(&[], &mut stream(1, Stream::Attempts)).unwrap();
    }
    let ours: Contender<'_, 1> = Box::new(move || {
        let env = env.as_mut()?;
        let hundreds = rate(|| (0..100).for_each(|_| env.step(&[0.0; 4]).unwrap()));
        Some([100.0 * hundreds])
    });
    const PEERS: [&str; 3] = ["python", "sync-vector", "async-vector"];
    let theirs = PEERS.map(|peer| peers::contender(peer, name, 2));
    let mut contenders: Vec<_> = std::iter::once(ours).chain(theirs).collect();
    let values = pinned(2, || in_turns(&mut contenders));
    let value = |i: usize| values[i].map(|[steps]| steps);
    let figure = Figure::new(name, value(0).unwrap_or(0.0), Unit::Steps);
    let against = |(i, peer)| figure.clone().against(peer, value(i + 1));
    PEERS.into_iter().enumerate().map(against).collect()
}

/// Steps of Fetch pick & place, with meshes and without: random actions, a new start every 50 steps.
/// The peer is Gymnasium-Robotics', with meshes, on the same MuJoCo.
pub fn fetch() -> Vec<Figure> {
    let steps = |name| -> Contender<'_, 1> {
        let mut rng = stream(1, Stream::Attempts);
        let mut env = named(name).inspect_err(|error| eprintln!("no {name}: {error}")).ok();
        let mut taken = 0;
        Box::new(move || {
            let env = env.as_mut()?;
            let step = || {
                if taken % env.spec().horizon == 0 {
                    let goal = env.sample_goal(&mut rng);
                    env.reset(&goal, &mut rng).unwrap();
                }
                let action = [0; 4].map(|_| rng.random_range(-1.0..1.0));
                env.step(&action).unwrap();
                taken += 1;
            };
            Some([cpu_rate(step)])
        })
    };
    const NAMES: [&str; 2] = ["env/fetch_pick_place", "env/fetch_pick_place_meshfree"];
    let ours = NAMES.map(|name| steps(name.trim_start_matches("env/")));
    let theirs = peers::contender("gymnasium", NAMES[0], 1);
    let mut contenders: Vec<_> = ours.into_iter().chain([theirs]).collect();
    let values = pinned(1, || in_turns(&mut contenders));
    let value = |i: usize| values[i].map(|[steps]| steps);
    let figure = |i: usize| Figure::new(NAMES[i], value(i).unwrap_or(0.0), Unit::EnvSteps);
    [0, 1].map(|i| figure(i).against("gymnasium", value(2))).to_vec()
}

/// A picture of 64 by 64 pixels, against the limit that we set ourselves.
pub fn raster() -> Vec<Figure> {
    let env = FourRooms::new();
    let mut draw = || drop(std::hint::black_box(env.scene().raster(64)));
    let value = alone(|| typical_us(&mut draw));
    let figure = Figure::new("env/four_rooms/raster", value, Unit::Microseconds);
    vec![figure.against("limit", Some(50.0))]
}
