//! Training steps a second, engine by engine: `cargo bench --profile release --bench steps`.
//!
//! The network, loss and optimiser of `torch_steps.py`: 19-256-256-256-7, ReLU, weighted squared
//! error, AdamW with weight decay; the data set of 65,536 samples lies in the engine and each step
//! draws new rows. One line a figure: engine, batch, steps/s, separated by tabs. Engines take turns,
//! and the median round counts. Arguments: the batches to measure.

use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{Clock as _, SystemClock};
use regoal::engine::{Device, Engine, Trainer};
use regoal::onnx::{AdamW, BehaviourCloning, Builder, Dim, Graph, Tensor, TrainStep};
use regoal::rng::{Rng, Stream, normal, stream};

const WIDTHS: [usize; 5] = [19, 256, 256, 256, 7];
const ROWS: usize = 65_536;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(300);

fn normals(rng: &mut Rng, count: usize, scale: f64) -> Vec<f32> {
    (0..count).map(|_| (scale * normal(rng)) as f32).collect()
}

fn network(rng: &mut Rng) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("observation", &[Dim::Batch, Dim::Fixed(WIDTHS[0])]);
    for (layer, pair) in WIDTHS.windows(2).enumerate() {
        let weight = normals(rng, pair[0] * pair[1], (2.0 / pair[0] as f64).sqrt());
        let weight = Tensor::new([pair[0], pair[1]], weight).unwrap();
        let weight = b.parameter(&format!("layer{layer}.weight"), weight);
        let bias = b.parameter(&format!("layer{layer}.bias"), Tensor::zeros([pair[1]]));
        x = b.gemm(x, weight, bias);
        if layer + 2 < WIDTHS.len() {
            x = b.relu(x);
        }
    }
    b.output("action", x);
    b.finish().unwrap()
}

/// The engines with the names that the table gives them.
fn engines() -> Vec<(String, Engine)> {
    let library = std::env::var_os("REGOAL_ONNXRUNTIME").map(PathBuf::from);
    let best = |device| Engine::best(library.as_deref(), device).unwrap();
    let mut all = vec![Engine::tract()];
    let cpu = best(Device::Cpu);
    if cpu.name() == "ort" {
        all.push(cpu);
    }
    let plain = all.clone().into_iter().map(|e| (format!("{} plain", e.name()), e.plain()));
    let mut all: Vec<_> = plain.chain(all.iter().map(|e| (e.name().into(), e.clone()))).collect();
    let card = best(Device::Cuda);
    match card.device() {
        Device::Cuda => all.push(("cuda".into(), card)),
        Device::Cpu => eprintln!("no CUDA: {}", card.note().unwrap_or("no reason given")),
    }
    all
}

/// Steps a second over a round.
fn round(trainer: &mut Trainer, rng: &mut Rng, index: &mut [i64]) -> f64 {
    let begin = SystemClock.now();
    for steps in 1.. {
        index.iter_mut().for_each(|row| *row = rng.random_range(0..ROWS as i64));
        trainer.step_on(index, 1e-4).unwrap();
        let took = SystemClock.now().since(begin);
        if took >= ROUND {
            return f64::from(steps) / took.as_secs_f64();
        }
    }
    0.0
}

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let batches = if asked.is_empty() { vec![32, 256, 1024, 4096] } else { asked };
    let mut rng = stream(1, Stream::Weights);
    let policy = network(&mut rng);
    let observation = normals(&mut rng, ROWS * WIDTHS[0], 1.0);
    let target = normals(&mut rng, ROWS * WIDTHS[4], 0.1);
    let weight = vec![1.0; ROWS];
    let data: [(&str, &[f32]); 3] = [
        ("observation", &observation),
        (BehaviourCloning::TARGET, &target),
        (BehaviourCloning::WEIGHT, &weight),
    ];
    let engines = engines();
    for batch in batches {
        let adam = AdamW { weight_decay: 0.01, ..AdamW::default() };
        let how = BehaviourCloning { batch, optimiser: adam.into(), ..BehaviourCloning::default() };
        let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
        let mut index = vec![0; batch];
        let trainer = |(_, engine): &(String, Engine)| engine.train_on(&step, &data, 1).unwrap();
        let mut trainers: Vec<Trainer> = engines.iter().map(trainer).collect();
        let mut rates = vec![Vec::new(); engines.len()];
        for turn in 0..=ROUNDS {
            for (trainer, rates) in trainers.iter_mut().zip(&mut rates) {
                let rate = round(trainer, &mut rng, &mut index);
                // The first round warms up.
                if turn > 0 {
                    rates.push(rate);
                }
            }
        }
        for ((name, _), mut rates) in engines.iter().zip(rates) {
            rates.sort_by(f64::total_cmp);
            println!("{name}\t{batch}\t{:.1}", rates[ROUNDS / 2]);
        }
    }
}
