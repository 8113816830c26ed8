//! What learning costs: training steps and hindsight batches.

use regoal::engine::Engine;
use regoal::onnx::{
    AdamW, BehaviourCloning, Builder, Dim, Graph, OnnxError, Tensor, TrainStep, Verified,
};
use regoal::rng::{Rng, Stream, normal, stream};

use super::measure::{Contender, Figure, Unit, in_turns, pinned, rate};
use super::{Setup, peers};

/// The widths of a common policy network.
pub const MLP: [usize; 5] = [19, 256, 256, 256, 7];

pub fn normals(rng: &mut Rng, count: usize, scale: f64) -> Vec<f32> {
    (0..count).map(|_| (scale * normal(rng)) as f32).collect()
}

pub fn mlp(rng: &mut Rng) -> Graph {
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

/// The MLP in whole training steps; `threads` processors.
pub fn mlp_steps(setup: &Setup, batch: usize, threads: usize) -> Vec<Figure> {
    let mut rng = stream(1, Stream::Weights);
    let how = BehaviourCloning { batch, ..BehaviourCloning::default() };
    let step = TrainStep::behaviour_cloning(&mlp(&mut rng), &how).unwrap();
    let mut peers = vec!["torch-eager", "torch-compile", "jax-jit"];
    if batch == 256 && threads == 1 {
        peers.push(FLOOR);
    }
    train_steps(setup, &format!("train_step/mlp/{batch}"), &step, threads, &peers)
}

/// A policy of the peers in whole training steps, as PyTorch exports it.
pub fn exported_steps(setup: &Setup, model: &str, batch: usize) -> Vec<Figure> {
    let name = format!("train_step/{model}/{batch}");
    let Some(policy) = peers::exported(model, batch) else {
        eprintln!("no {name}: the peers export the policy; run `tools/bench/run --setup`");
        return Vec::new();
    };
    match squared_error(&policy) {
        Ok(step) => train_steps(setup, &name, &step, 1, &["torch-eager"]),
        Err(error) => {
            eprintln!("no {name}: {error}");
            Vec::new()
        }
    }
}

/// A step on the mean squared error of the action over all parameters; buffers stay.
pub fn squared_error(policy: &Graph) -> Result<TrainStep, OnnxError> {
    let mut b = Builder::with_opset(policy.opset());
    let action = b.append(policy, &[])?[0];
    let target = b.input("target", &policy.outputs()?[0].dims);
    let error = b.sub(action, target);
    let square = b.mul(error, error);
    let loss = b.reduce_mean(square, &[], false);
    b.output("loss", loss);
    let parameters = policy.parameters()?.into_iter().filter(|(_, t)| !t.dims.is_empty());
    let names: Vec<String> = parameters.map(|(name, _)| name).filter(|n| n != "grid").collect();
    TrainStep::new(&b.finish()?, "loss", &names, AdamW::default())
}

/// A batch of random numbers, all of weight 1, as (input, elements).
pub fn batch_of(step: &TrainStep) -> Vec<(&str, Vec<f32>)> {
    let mut rng = stream(1, Stream::Training);
    let inputs = step.batch_inputs().iter().map(|input| {
        let count = input.dims_at(1).iter().product();
        let weight = input.name == BehaviourCloning::WEIGHT;
        let data = if weight { vec![1.0; count] } else { normals(&mut rng, count, 0.1) };
        (input.name.as_str(), data)
    });
    inputs.collect()
}

/// The peer that is no program: what a step would take if its products, and nothing else, ran as fast
/// as the best product.
const FLOOR: &str = "floor";

/// Whole training steps on one batch: forward, mean squared error, backward, Adam; the batch is handed
/// over anew and the loss read in each step.
fn train_steps(
    setup: &Setup,
    name: &str,
    step: &TrainStep,
    threads: usize,
    peers: &[&'static str],
) -> Vec<Figure> {
    let inputs = batch_of(step);
    let inputs: Vec<(&str, &[f32])> = inputs.iter().map(|(n, d)| (*n, d.as_slice())).collect();
    // tract has one thread.
    let engines: Vec<&Engine> =
        setup.engines().filter(|e| threads == 1 || e.name() == "ort").collect();
    let values = pinned(threads, || {
        let ours = engines.iter().map(|engine| {
            let mut trainer = engine.train(step, threads).unwrap();
            let inputs = &inputs;
            let mut step = move || {
                trainer.step(inputs, 1e-4).unwrap();
            };
            Box::new(move || Some([rate(&mut step)])) as Contender<'_, 1>
        });
        let theirs = peers.iter().map(|peer| match *peer {
            FLOOR => best_product(setup),
            peer => peers::contender(peer, name, threads),
        });
        in_turns(&mut ours.chain(theirs).collect::<Vec<_>>())
    });
    let values: Vec<_> = values.into_iter().map(|v| v.map(|[rate]| rate)).collect();
    let name = if threads == 1 { name.to_owned() } else { format!("{name}/{threads}_threads") };
    figures(&name, &engines, peers, &values, Unit::Steps)
}

/// Steps a second of the MLP at batch 256 if they were eight products of [256, 256] after each other.
fn best_product(setup: &Setup) -> Contender<'static, 1> {
    const SIZE: usize = 256;
    const PRODUCTS: usize = 8;
    let pairs: Vec<usize> = MLP.windows(2).map(|pair| pair[0] * pair[1]).collect();
    // Forward, the weights' gradients, and those of the layers' inputs but the first's.
    let in_step = 256 * (3 * pairs.iter().sum::<usize>() - pairs[0]);
    let mut rng = stream(3, Stream::Weights);
    let mut b = Builder::new();
    let mut x = b.input("x", &[Dim::Fixed(SIZE), Dim::Fixed(SIZE)]);
    for layer in 0..PRODUCTS {
        let weight = normals(&mut rng, SIZE * SIZE, (1.0 / SIZE as f64).sqrt());
        let weight = b.parameter(&format!("w{layer}"), Tensor::new([SIZE, SIZE], weight).unwrap());
        x = b.matmul(x, weight);
    }
    b.output("y", x);
    let graph = Verified::try_from(b.finish().unwrap()).unwrap();
    let x = normals(&mut rng, SIZE * SIZE, 1.0);
    let mut session = setup.ort.as_ref().map(|ort| ort.load(&graph).unwrap());
    Box::new(move || {
        let session = session.as_mut()?;
        let products = rate(|| drop(session.run(&[("x", &[SIZE, SIZE], &x)]).unwrap()));
        Some([products * (PRODUCTS * SIZE.pow(3)) as f64 / in_step as f64])
    })
}

/// A figure for each engine and peer; ONNX Runtime is a peer of tract. `values` are those of the
/// engines, then those of the peers.
pub fn figures(
    name: &str,
    engines: &[&Engine],
    peers: &[&'static str],
    values: &[Option<f64>],
    unit: Unit,
) -> Vec<Figure> {
    let (ours, theirs) = values.split_at(engines.len());
    let ort = engines.iter().position(|e| e.name() == "ort").and_then(|i| ours[i]);
    let mut figures = Vec::new();
    for (engine, value) in engines.iter().zip(ours) {
        let Some(value) = value else { continue };
        let figure = Figure::new(format!("{name}/{}", engine.name()), *value, unit);
        let against =
            |(peer, value): (&&'static str, &Option<f64>)| figure.clone().against(peer, *value);
        figures.extend(peers.iter().zip(theirs).map(against));
        if engine.name() == "tract" || peers.is_empty() {
            figures.push(if engine.name() == "tract" {
                figure.against("ort", ort)
            } else {
                figure
            });
        }
    }
    figures
}
