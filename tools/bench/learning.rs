//! What learning costs: training steps and hindsight batches.

use rand::RngExt as _;
use regoal::engine::Engine;
use regoal::goal::{Hindsight, ReplayBuffer, Trajectory};
use regoal::onnx::{AdamW, BehaviourCloning, Builder, Dim, Graph, Tensor, TrainStep};
use regoal::rng::{Rng, Stream, normal, stream};

use super::Setup;
use super::measure::{Figure, Unit, alone, in_turns, rate};

/// The widths of a common policy network.
const MLP: [usize; 5] = [19, 256, 256, 256, 7];

fn normals(rng: &mut Rng, count: usize, scale: f64) -> Vec<f32> {
    (0..count).map(|_| (scale * normal(rng)) as f32).collect()
}

fn mlp(rng: &mut Rng) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("observation", &[Dim::Batch, Dim::Fixed(MLP[0])]);
    for (layer, pair) in MLP.windows(2).enumerate() {
        let weight = normals(rng, pair[0] * pair[1], (2.0 / pair[0] as f64).sqrt());
        let weight = Tensor::new([pair[0], pair[1]], weight).unwrap();
        let weight = b.parameter(&format!("layer{layer}.weight"), weight);
        let bias = b.parameter(&format!("layer{layer}.bias"), Tensor::zeros([pair[1]]));
        x = b.gemm(x, weight, bias);
        if layer + 2 < MLP.len() {
            x = b.relu(x);
        }
    }
    b.output("action", x);
    b.finish().unwrap()
}

/// Whole training steps on one batch: forward, mean squared error, backward, AdamW with weight decay
/// 0.01 and no clipping; one thread; the batch is handed over anew in each step.
pub fn train_step(setup: &Setup, batch: usize) -> Vec<Figure> {
    let mut rng = stream(1, Stream::Weights);
    let adam = AdamW { weight_decay: 0.01, ..AdamW::default() };
    let how = BehaviourCloning { batch, adam, ..BehaviourCloning::default() };
    let step = TrainStep::behaviour_cloning(&mlp(&mut rng), &how).unwrap();
    let observation = normals(&mut rng, batch * MLP[0], 1.0);
    let target = normals(&mut rng, batch * MLP[4], 0.1);
    let weight = vec![1.0; batch];
    let inputs: [(&str, &[f32]); 3] = [
        ("observation", &observation),
        (BehaviourCloning::TARGET, &target),
        (BehaviourCloning::WEIGHT, &weight),
    ];
    let engines: Vec<&Engine> = setup.ort.iter().chain([&setup.tract]).collect();
    let mut contenders: Vec<_> = engines
        .iter()
        .map(|engine| {
            let mut trainer = engine.train(&step, 1).unwrap();
            move || {
                rate(|| {
                    trainer.step(&inputs, 1e-4).unwrap();
                }) * batch as f64
            }
        })
        .collect();
    let values = in_turns(&mut contenders);
    figures(&format!("train_step/mlp/{batch}"), &engines, &values, Unit::Samples)
}

/// One figure an engine; ONNX Runtime is the peer of tract.
pub fn figures(name: &str, engines: &[&Engine], values: &[f64], unit: Unit) -> Vec<Figure> {
    let of = |name: &str| engines.iter().position(|e| e.name() == name).map(|i| values[i]);
    let figure = |engine: &str, value| Figure::new(format!("{name}/{engine}"), value, unit);
    let ort = of("ort").map(|value| figure("ort", value));
    let tract = of("tract").map(|value| figure("tract", value).against("ort", of("ort")));
    ort.into_iter().chain(tract).collect()
}

/// Episodes of the replay buffer, and their steps.
const EPISODES: usize = 1000;
const STEPS: usize = 50;

/// Samples with goals of the `future` strategy in batches: drawn from 1000 episodes of 50 steps and
/// copied into rows of 19 observed, 3 wished-for and 7 action numbers.
pub fn relabel(batch: usize) -> Vec<Figure> {
    let mut rng = stream(2, Stream::Training);
    let mut buffer = ReplayBuffer::default();
    for _ in 0..EPISODES {
        let mut rows = |count: usize, width: usize| -> Vec<Vec<f32>> {
            (0..count).map(|_| (0..width).map(|_| rng.random()).collect()).collect()
        };
        let (observations, goals) = (rows(STEPS + 1, MLP[0]), rows(STEPS + 1, 3));
        let actions = rows(STEPS, MLP[4]);
        buffer.push(Trajectory::new(&observations, &goals, &actions, &[0.1, 0.2, 0.3]).unwrap());
    }
    let hindsight = Hindsight::default();
    let (mut observation, mut goal, mut action) = (Vec::new(), Vec::new(), Vec::new());
    let fill = || {
        [&mut observation, &mut goal, &mut action].into_iter().for_each(Vec::clear);
        for _ in 0..batch {
            let sample = buffer.sample(&hindsight, &mut rng).unwrap();
            observation.extend_from_slice(sample.trajectory.observation(sample.t));
            goal.extend_from_slice(sample.goal);
            action.extend_from_slice(sample.trajectory.action(sample.t));
        }
        std::hint::black_box((&observation, &goal, &action));
    };
    let mut fill = fill;
    let value = alone(|| rate(&mut fill) * batch as f64);
    vec![Figure::new(format!("relabel/{batch}"), value, Unit::Samples)]
}
