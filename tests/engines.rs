//! One suite over every engine: a graph means the same on all of them.

mod common;

use std::collections::BTreeMap;

use common::{best, engines};
use rand::RngExt as _;
use regoal::engine::{Device, Engine, Trainer};
use regoal::onnx::{
    AdamW, BehaviourCloning, Builder, Dim, Graph, Optimiser, Precision, Sgd, Tensor, TrainStep,
    Value, Verified,
};
use regoal::rng::{Rng, Stream, normal, stream};

fn randoms(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| normal(rng) as f32).collect()
}

/// A policy with a frozen normaliser, as ours and PyTorch's are.
fn policy(sizes: &[usize], seed: u64) -> Graph {
    let mut rng = stream(seed, Stream::Weights);
    let mut b = Builder::new();
    let first = sizes[0];
    let observation = b.input("observation", &[Dim::Batch, Dim::Fixed(first - 2)]);
    let goal = b.input("desired_goal", &[Dim::Batch, Dim::Fixed(2)]);
    let mut x = b.concat(&[observation, goal], 1);
    let mean = b.parameter("normalizer.mean", Tensor::new([first], vec![0.1; first]).unwrap());
    let std = b.parameter("normalizer.std", Tensor::new([first], vec![1.5; first]).unwrap());
    x = b.sub(x, mean);
    x = b.div(x, std);
    x = b.clip(x, -5.0, 5.0);
    for (layer, pair) in sizes.windows(2).enumerate() {
        let scale = (2.0 / pair[0] as f32).sqrt();
        let weights: Vec<f32> =
            randoms(&mut rng, pair[0] * pair[1]).iter().map(|w| w * scale).collect();
        let w = b.parameter(
            &format!("layer{layer}.weight"),
            Tensor::new([pair[0], pair[1]], weights).unwrap(),
        );
        let bias = b.parameter(&format!("layer{layer}.bias"), Tensor::zeros([pair[1]]));
        x = b.gemm(x, w, bias);
        x = if layer + 2 == sizes.len() { b.tanh(x) } else { b.relu(x) };
    }
    b.output("action", x);
    b.finish().unwrap()
}

struct Batch {
    observation: Vec<f32>,
    goal: Vec<f32>,
    action: Vec<f32>,
    weight: Vec<f32>,
}

impl Batch {
    fn draw(rng: &mut Rng, batch: usize, first: usize, actions: usize) -> Self {
        let observation = randoms(rng, batch * (first - 2));
        let goal = randoms(rng, batch * 2);
        let action =
            (0..batch * actions).map(|i| (goal[(i / actions) * 2] * 0.7).tanh() * 0.5).collect();
        Self {
            observation,
            goal,
            action,
            weight: (0..batch).map(|i| 0.5 + (i % 3) as f32).collect(),
        }
    }

    fn inputs(&self) -> [(&str, &[f32]); 4] {
        [
            ("observation", &self.observation),
            ("desired_goal", &self.goal),
            ("target_action", &self.action),
            ("weight", &self.weight),
        ]
    }
}

fn cloning(batch: usize) -> BehaviourCloning {
    let adam = AdamW { weight_decay: 0.01, clip_norm: Some(1.0), ..AdamW::default() };
    BehaviourCloning { batch, optimiser: adam.into(), ..BehaviourCloning::default() }
}

fn worst_relative(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims, b.dims);
    let scale = b.data.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    a.data.iter().zip(&b.data).fold(0.0, |worst, (x, y)| worst.max((x - y).abs() / scale))
}

/// Runs a formula of one input on one engine.
fn evaluate(
    engine: &Engine,
    dims: &[usize],
    data: &[f32],
    formula: impl Fn(&mut Builder, Value) -> Value,
) -> Tensor {
    let mut b = Builder::new();
    let fixed: Vec<Dim> = dims.iter().copied().map(Dim::Fixed).collect();
    let x = b.input("x", &fixed);
    let y = formula(&mut b, x);
    b.output("y", y);
    let graph = Verified::try_from(b.finish().unwrap()).unwrap();
    let mut session = engine.load(&graph).unwrap();
    let found = session.run(&[("x", dims, data)]).unwrap().remove(0);
    assert_eq!(graph.outputs().unwrap()[0].dims_at(1), found.dims, "the shape foreseen");
    found
}

#[test]
fn an_engine_asked_for_cuda_has_it_or_is_the_one_on_the_processor_and_says_why() {
    let (asked, cpu) = (best(Device::Cuda), best(Device::Cpu));
    assert_eq!(asked.name(), cpu.name());
    assert_eq!(asked.device() == Device::Cpu, asked.note().is_some(), "{asked}");
    let session = asked.load(&Verified::try_from(policy(&[8, 32, 3], 1)).unwrap()).unwrap();
    assert_eq!(session.device(), asked.device());
}

#[test]
fn operators_give_their_definition_on_every_engine() {
    type Case = (&'static str, fn(&mut Builder, Value) -> Value, fn(f32) -> f32);
    let cases: &[Case] = &[
        ("relu", |b, x| b.relu(x), |x| x.max(0.0)),
        ("tanh", |b, x| b.tanh(x), f32::tanh),
        ("sigmoid", |b, x| b.sigmoid(x), |x| 1.0 / (1.0 + (-x).exp())),
        ("softplus", |b, x| b.softplus(x), |x| x.exp().ln_1p()),
        ("exp", |b, x| b.exp(x), f32::exp),
        ("neg", |b, x| b.neg(x), |x| -x),
        ("abs", |b, x| b.abs(x), f32::abs),
        ("clip", |b, x| b.clip(x, -0.5, 0.25), |x| x.clamp(-0.5, 0.25)),
        ("square", |b, x| b.mul(x, x), |x| x * x),
        (
            "positive",
            |b, x| {
                let zero = b.scalar(0.0);
                let p = b.greater(x, zero);
                b.to_f32(p)
            },
            |x| f32::from(x > 0.0),
        ),
        (
            "slices joined",
            |b, x| {
                let l = b.slice(x, 1, 0, 1);
                let r = b.slice(x, 1, 1, 3);
                b.concat(&[l, r], 1)
            },
            |x| x,
        ),
        (
            "reshaped",
            |b, x| {
                let y = b.reshape(x, &[-1]);
                b.reshape(y, &[4, 3])
            },
            |x| x,
        ),
        (
            "transposed twice",
            |b, x| {
                let y = b.transpose(x, &[1, 0]);
                b.transpose(y, &[1, 0])
            },
            |x| x,
        ),
    ];
    let data = [-2.0, -0.75, -0.5, -0.1, 0.0, 0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 3.0];
    for engine in engines() {
        for (name, formula, definition) in cases {
            let found = evaluate(&engine, &[4, 3], &data, formula);
            for (x, y) in data.iter().zip(&found.data) {
                let want = definition(*x);
                assert!(
                    (want - y).abs() <= 2e-6 * want.abs().max(1.0),
                    "{engine}: {name}({x}) = {y}, not {want}"
                );
            }
        }
    }
}

#[test]
fn reductions_and_products_give_their_definition_on_every_engine() {
    let data: Vec<f32> = (0..12).map(|i| i as f32 * 0.5 - 2.0).collect();
    for engine in engines() {
        let run =
            |formula: fn(&mut Builder, Value) -> Value| evaluate(&engine, &[4, 3], &data, formula);
        assert_eq!(
            run(|b, x| b.reduce_sum(x, &[1], false)).data,
            [-4.5, 0.0, 4.5, 9.0],
            "{engine}"
        );
        assert_eq!(
            run(|b, x| b.reduce_mean(x, &[0], true)),
            Tensor::new([1, 3], [0.25, 0.75, 1.25]).unwrap()
        );
        assert_eq!(run(|b, x| b.reduce_mean(x, &[], false)), Tensor::scalar(0.75), "{engine}");
        let gram = run(|b, x| {
            let t = b.transpose(x, &[1, 0]);
            b.matmul(x, t)
        });
        assert_eq!((gram.dims[0], gram.data[1]), (4, 0.5), "{engine}");
    }
}

#[test]
fn a_product_with_one_feeds_a_product_with_a_reciprocal() {
    let mut b = Builder::new();
    let x = b.input("x", &[Dim::Fixed(3)]);
    let y = b.input("y", &[Dim::Fixed(3)]);
    let (one, same) = (b.constant(Tensor::new([3], vec![1.0; 3]).unwrap()), b.exp(x));
    let same = b.mul(same, one);
    let one = b.scalar(1.0);
    let reciprocal = b.div(one, y);
    let product = b.mul(same, reciprocal);
    b.output("product", product);
    let graph: Verified = b.finish().unwrap().try_into().unwrap();
    for engine in engines() {
        let (x, y) = ([0.0; 3], [1.0, 2.0, 4.0]);
        let inputs = [("x", &[3][..], &x[..]), ("y", &[3], &y)];
        let found = engine.load(&graph).unwrap().run(&inputs).unwrap();
        assert_eq!(found[0].data, [1.0, 0.5, 0.25], "{engine}");
    }
}

#[test]
fn engines_agree_on_a_policy_at_every_batch_size() {
    let graph = Verified::try_from(policy(&[8, 32, 32, 3], 1)).unwrap();
    let mut rng = stream(2, Stream::Training);
    let mut sessions: Vec<_> = engines().iter().map(|e| e.load(&graph).unwrap()).collect();
    for batch in [1, 5, 2, 1, 64] {
        let (o, g) = (randoms(&mut rng, batch * 6), randoms(&mut rng, batch * 2));
        let run = |s: &mut regoal::engine::Session| {
            s.run(&[("desired_goal", &[batch, 2], &g), ("observation", &[batch, 6], &o)])
                .unwrap()
                .remove(0)
        };
        let results: Vec<Tensor> = sessions.iter_mut().map(run).collect();
        assert_eq!(results[0].dims, [batch, 3]);
        for other in &results[1..] {
            assert!(worst_relative(other, &results[0]) < 2e-6, "batch {batch}");
        }
    }
}

#[test]
fn the_control_path_gives_the_same_action_as_the_general_one() {
    let graph = Verified::try_from(policy(&[8, 32, 3], 1)).unwrap();
    let mut rng = stream(3, Stream::Training);
    for engine in engines() {
        let mut session = engine.load(&graph).unwrap();
        for _ in 0..3 {
            let (o, g) = (randoms(&mut rng, 6), randoms(&mut rng, 2));
            let mut action = [0.0; 3];
            session.run_into(&[&o, &g], &mut action).unwrap();
            let general = session
                .run(&[("observation", &[1, 6], &o), ("desired_goal", &[1, 2], &g)])
                .unwrap();
            let found = Tensor::new([1, 3], action).unwrap();
            assert!(worst_relative(&found, &general[0]) < 1e-6, "{engine}: {found:?}");
        }
        let error =
            session.run_into(&[&[0.0; 5], &[0.0; 2]], &mut [0.0; 3]).unwrap_err().to_string();
        assert_eq!(error, "observation: expected 6, found 5");
        let error =
            session.run_into(&[&[0.0; 6], &[0.0; 2]], &mut [0.0; 4]).unwrap_err().to_string();
        assert_eq!(error, "first output: expected 3, found 4");
        let error = session.run(&[("obs", &[1, 6], &[0.0; 6])]).unwrap_err().to_string();
        assert_eq!(error, "inputs: expected [\"observation\", \"desired_goal\"], found \"obs\"");
    }
}

/// A graph of one operator that only an engine runs, besides a layer.
fn normalised() -> Graph {
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(6)]);
    let goal = b.input("desired_goal", &[Dim::Batch, Dim::Fixed(2)]);
    let (one, zero) = (b.constant(Tensor::new([6], [1.0; 6]).unwrap()), b.scalar(0.5));
    let bias = b.constant(Tensor::zeros([6]));
    let x = b.layer_normalization(x, one, bias, 1e-5);
    let x = b.concat(&[x, goal], 1);
    let w = b.parameter("w", Tensor::new([8, 3], [0.25; 24]).unwrap());
    let x = b.matmul(x, w);
    let x = b.add(x, zero);
    b.output("action", x);
    b.finish().unwrap()
}

#[test]
fn a_single_sample_gives_the_same_in_loops_and_in_engines() {
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(6)]);
    let goal = b.input("desired_goal", &[Dim::Batch, Dim::Fixed(2)]);
    let part = b.slice(x, 1, 2, 5);
    let all = b.concat(&[part, goal, x], -1);
    let w: Vec<f32> = (0..11 * 70).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect();
    let w = b.parameter("w", Tensor::new([11, 70], w).unwrap());
    let bias = b.constant(Tensor::new([70], [0.1; 70]).unwrap());
    let h = b.gemm(all, w, bias);
    let (half, two) = (b.scalar(0.5), b.scalar(2.0));
    let functions: [fn(&mut Builder, Value) -> Value; 9] = [
        Builder::tanh,
        Builder::sigmoid,
        Builder::softplus,
        Builder::exp,
        Builder::neg,
        Builder::abs,
        Builder::relu,
        Builder::identity,
        |b, x| b.clip(x, -0.25, 0.75),
    ];
    let mut parts: Vec<Value> = functions.iter().map(|f| f(&mut b, h)).collect();
    let shifted = b.abs(h);
    parts.push(b.sqrt(shifted));
    parts.push(b.sub(half, h));
    parts.push(b.div(h, two));
    parts.push(b.mul(h, shifted));
    let y = b.concat(&parts, 1);
    b.output("action", y);
    let loops = Verified::try_from(b.finish().unwrap()).unwrap();
    let engine_only = Verified::try_from(normalised()).unwrap();
    let mut rng = stream(9, Stream::Training);
    for engine in engines() {
        for graph in [&loops, &engine_only] {
            let mut session = engine.load(graph).unwrap();
            for _ in 0..3 {
                let (o, g) = (randoms(&mut rng, 6), randoms(&mut rng, 2));
                let whole = [("observation", &[1, 6][..], &o[..]), ("desired_goal", &[1, 2], &g)];
                let general = session.run(&whole).unwrap().remove(0);
                let mut action = vec![0.0; general.data.len()];
                session.run_into(&[&o, &g], &mut action).unwrap();
                let found = Tensor::new([1, action.len()], action).unwrap();
                assert!(worst_relative(&found, &general) < 1e-6, "{engine}");
            }
        }
    }
}

fn train(engine: &Engine, step: &TrainStep, steps: usize, threads: usize) -> (Trainer, Vec<f32>) {
    let mut trainer = engine.train(step, threads).unwrap();
    let mut rng = stream(4, Stream::Training);
    let losses = (0..steps).map(|_| {
        let batch = Batch::draw(&mut rng, 32, 8, 3);
        trainer.step(&batch.inputs(), 3e-3).unwrap().loss
    });
    let losses = losses.collect();
    (trainer, losses)
}

#[test]
fn fifty_steps_agree_between_engines_and_the_loss_falls() {
    let base = policy(&[8, 32, 32, 3], 5);
    let step = TrainStep::behaviour_cloning(&base, &cloning(32)).unwrap();
    let mut results = Vec::new();
    for engine in engines() {
        let (trainer, losses) = train(&engine, &step, 50, 1);
        let (first, last) = (losses[0], losses[49]);
        assert!(last < 0.5 * first, "{engine}: loss {first} -> {last}");
        results.push(trainer.parameters().unwrap());
    }
    for other in &results[1..] {
        let worst =
            other.iter().map(|(name, t)| worst_relative(t, &results[0][name])).fold(0.0, f32::max);
        println!("50 steps: worst relative difference between engines {worst:.2e}");
        assert!(worst < 1e-4, "{worst}");
    }
    let tuned = base.with_parameters(&results[0]).unwrap();
    assert_eq!(tuned.inputs().unwrap(), base.inputs().unwrap());
    assert!(!results[0].contains_key("normalizer.mean"), "the normaliser is frozen");
}

#[test]
fn training_is_bit_identical_run_to_run_and_across_thread_counts() {
    let step = TrainStep::behaviour_cloning(&policy(&[8, 256, 256, 3], 6), &cloning(32)).unwrap();
    for engine in engines() {
        let run = |threads| train(&engine, &step, 20, threads).0.parameters().unwrap();
        let first = run(1);
        assert_eq!(first, run(1), "{engine}");
        assert_eq!(first, run(2), "{engine}, two threads");
    }
}

#[test]
fn batches_drawn_from_a_data_set_in_the_engine_train_as_batches_handed_over() {
    let step = TrainStep::behaviour_cloning(&policy(&[8, 32, 3], 6), &cloning(32)).unwrap();
    let mut rng = stream(12, Stream::Training);
    let all = Batch::draw(&mut rng, 100, 8, 3);
    let draws: Vec<Vec<i64>> =
        (0..10).map(|_| (0..32).map(|_| rng.random_range(0..100)).collect()).collect();
    let rows = |data: &[f32], width: usize, index: &[i64]| -> Vec<f32> {
        index.iter().flat_map(|i| data[*i as usize * width..][..width].to_vec()).collect()
    };
    for engine in engines() {
        for engine in [engine.clone(), engine.clone().plain()] {
            let mut handed = engine.train(&step, 1).unwrap();
            let mut drawn = engine.train_on(&step, &all.inputs(), 1).unwrap();
            for index in &draws {
                let batch = Batch {
                    observation: rows(&all.observation, 6, index),
                    goal: rows(&all.goal, 2, index),
                    action: rows(&all.action, 3, index),
                    weight: rows(&all.weight, 1, index),
                };
                let report = handed.step(&batch.inputs(), 1e-3).unwrap();
                assert_eq!(drawn.step_on(index, 1e-3).unwrap(), report, "{engine}");
            }
            assert_eq!(drawn.parameters().unwrap(), handed.parameters().unwrap(), "{engine}");
            let refusal = |index: &[i64], trainer: &mut Trainer| {
                trainer.step_on(index, 1e-3).unwrap_err().to_string()
            };
            assert_eq!(refusal(&[0; 31], &mut drawn), "rows of a batch: expected 32, found 31");
            assert_eq!(refusal(&[100; 32], &mut drawn), "row: expected 0..100, found 100");
            assert_eq!(
                refusal(&[0; 32], &mut handed),
                "training: expected \"a data set\", found \"none\""
            );
            assert!(drawn.step(&all.inputs(), 1e-3).is_err(), "{engine}");
        }
        let error = engine.train_on(&step, &all.inputs()[..3], 1).err().unwrap().to_string();
        assert_eq!(error, "weight: expected \"a data set\", found \"nothing\"");
    }
}

#[test]
fn the_engine_for_inference_is_measured_for_large_networks_only() {
    let clock = regoal::clock::SystemClock;
    let small = Verified::try_from(policy(&[8, 32, 3], 1)).unwrap();
    let engine = Engine::for_inference(&small, &clock).unwrap();
    assert_eq!((engine.name(), engine.note()), ("tract", None));
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(1024)]);
    let w = b.parameter("w", Tensor::new([1024, 1024], vec![0.01; 1 << 20]).unwrap());
    let one = b.constant(Tensor::new([1024], [1.0; 1024]).unwrap());
    let x = b.gemm(x, w, one);
    let x = b.layer_normalization(x, one, one, 1e-5);
    b.output("action", x);
    let large = Verified::try_from(b.finish().unwrap()).unwrap();
    let engine = Engine::for_inference(&large, &clock).unwrap();
    println!("{engine}: {:?}", engine.note());
    assert!(engine.note().is_some(), "it says what was measured, or that there is one engine");
}

#[test]
fn a_step_that_is_not_finite_is_an_error_and_leaves_the_parameters() {
    let step = TrainStep::behaviour_cloning(&policy(&[8, 16, 3], 7), &cloning(32)).unwrap();
    for engine in engines() {
        let (mut trainer, _) = train(&engine, &step, 3, 1);
        let before = trainer.parameters().unwrap();
        let mut rng = stream(8, Stream::Training);
        let good = Batch::draw(&mut rng, 32, 8, 3);
        let mut bad = Batch::draw(&mut rng, 32, 8, 3);
        bad.action[rng.random_range(0..96)] = f32::NAN;
        assert!(
            trainer
                .step(&bad.inputs(), 1e-3)
                .unwrap_err()
                .to_string()
                .starts_with("expected a finite loss")
        );
        assert_eq!(trainer.parameters().unwrap(), before, "{engine}");
        trainer.step(&good.inputs(), 1e-3).unwrap();
        assert_ne!(trainer.parameters().unwrap(), before, "{engine}");
    }
}

/// The loss `(p - target)^2` of one number that starts at 3.
fn distance() -> Graph {
    let mut b = Builder::new();
    let p = b.parameter("p", Tensor::new([1], [3.0]).unwrap());
    let target = b.input("target", &[Dim::Fixed(1)]);
    let error = b.sub(p, target);
    let square = b.mul(error, error);
    let loss = b.reduce_sum(square, &[], false);
    b.output("loss", loss);
    b.finish().unwrap()
}

#[test]
fn adamw_follows_its_definition() {
    // One parameter, loss (p - 1)^2 / 1: the reference is Loshchilov & Hutter's algorithm 2 in f64.
    let loss = distance();
    let adam = AdamW { weight_decay: 0.1, clip_norm: Some(2.0), ..AdamW::default() };
    let step = TrainStep::new(&loss, "loss", &["p".into()], adam).unwrap();
    let (mut p, mut m, mut v, lr) = (3.0f64, 0.0f64, 0.0f64, 0.05f64);
    let reference: Vec<f64> = (1..=30)
        .map(|t| {
            let g = 2.0 * (p - 1.0);
            let g = g * (2.0 / (g.abs() + 1e-6)).min(1.0);
            (m, v) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            p -= lr * (m_hat / (v_hat.sqrt() + 1e-8) + 0.1 * p);
            p
        })
        .collect();
    for engine in engines() {
        let mut trainer = engine.train(&step, 1).unwrap();
        for (t, want) in reference.iter().enumerate() {
            trainer.step(&[("target", &[1.0])], lr as f32).unwrap();
            let found = f64::from(trainer.parameters().unwrap()["p"].data[0]);
            assert!((found - want).abs() < 2e-5, "{engine}: step {t}: {found}, not {want}");
        }
    }
}

/// Thirty steps on a policy: its parameters and their moving average.
fn tuned_with(engine: &Engine, optimiser: Optimiser) -> [BTreeMap<String, Tensor>; 2] {
    let policy = policy(&[8, 32, 32, 3], 5);
    let loss = cloning(32).loss(&policy).unwrap();
    let named = policy.parameters().unwrap().into_keys();
    let trained: Vec<String> = named.filter(|name| name.starts_with("layer")).collect();
    let step = TrainStep::new(&loss, "loss", &trained, optimiser).unwrap();
    let (trainer, _) = train(engine, &step, 30, 1);
    [trainer.parameters().unwrap(), trainer.averaged().unwrap()]
}

#[test]
fn products_in_half_precision_train_nearly_as_well() {
    for engine in engines() {
        let step = TrainStep::behaviour_cloning(&policy(&[8, 32, 32, 3], 5), &cloning(32)).unwrap();
        let whole = train(&engine, &step, 100, 1).1;
        for precision in [Precision::Bf16, Precision::F16] {
            let half = match engine.clone().with_precision(precision) {
                Ok(half) => half,
                Err(error) => {
                    assert!(error.to_string().contains("expected F32, found"), "{error}");
                    assert!(engine.device() == Device::Cpu, "{engine}: {error}");
                    continue;
                }
            };
            let half = train(&half, &step, 100, 1).1;
            let last = whole.len() - 1;
            println!("{engine}: loss {} in f32, {} with {precision:?}", whole[last], half[last]);
            assert!((half[last] - whole[last]).abs() < 0.05 * whole[0], "{engine}: {precision:?}");
            assert!(engine.device() == Device::Cpu || whole != half, "{engine}: not rounded");
        }
    }
}

#[test]
fn an_update_as_one_node_is_the_update_of_plain_nodes() {
    let optimisers: [Optimiser; 5] = [
        AdamW::default().into(),
        AdamW { weight_decay: 0.01, clip_norm: Some(0.1), ema: Some(0.9), ..AdamW::default() }
            .into(),
        Sgd::default().into(),
        Sgd { momentum: 0.0, clip_norm: Some(0.2), ..Sgd::default() }.into(),
        Sgd { nesterov: true, weight_decay: 0.1, ema: Some(0.5), ..Sgd::default() }.into(),
    ];
    for engine in engines() {
        for optimiser in optimisers {
            let fused = tuned_with(&engine, optimiser);
            let plain = tuned_with(&engine.clone().plain(), optimiser);
            let pairs = fused.iter().zip(&plain).flat_map(|(f, p)| f.iter().zip(p.values()));
            let worst = pairs.map(|((_, f), p)| worst_relative(f, p)).fold(0.0, f32::max);
            println!("{engine}: {optimiser:?}: {worst:.1e}");
            assert!(worst < 2e-6, "{engine}: {optimiser:?}: {worst}");
            assert_eq!(fused[0] == fused[1], optimiser.ema().is_none(), "{engine}");
        }
    }
}

#[test]
fn descent_with_momentum_and_the_moving_average_follow_their_definitions() {
    // Loss (p - 1)^2 of one number; the reference is the formula in f64.
    let loss = distance();
    for nesterov in [false, true] {
        let sgd = Sgd { nesterov, weight_decay: 0.1, ema: Some(0.8), ..Sgd::default() };
        let step = TrainStep::new(&loss, "loss", &["p".into()], sgd).unwrap();
        let (mut p, mut u, mut average, lr) = (3.0f64, 0.0f64, 3.0f64, 0.05f64);
        for _ in 0..20 {
            let g = 2.0 * (p - 1.0);
            u = 0.9 * u + g;
            p -= lr * (if nesterov { g + 0.9 * u } else { u } + 0.1 * p);
            average = 0.8 * average + 0.2 * p;
        }
        for engine in engines() {
            let mut trainer = engine.train(&step, 1).unwrap();
            for _ in 0..20 {
                trainer.step(&[("target", &[1.0])], lr as f32).unwrap();
            }
            let of = |all: BTreeMap<String, Tensor>| f64::from(all["p"].data[0]);
            let found = (of(trainer.parameters().unwrap()), of(trainer.averaged().unwrap()));
            let near = |x: f64, y: f64| (x - y).abs() < 1e-5;
            assert!(near(found.0, p) && near(found.1, average), "{engine}: {found:?}");
        }
    }
}

/// A random change to a file: mostly a bit, else a byte, bytes put in, bytes taken out, or a cut.
fn mutate(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = rng.random_range(0..bytes.len());
    let count = rng.random_range(1..8);
    match rng.random_range(0..10) {
        0 => bytes.truncate(at),
        1 => bytes[at] = 0xff,
        2 => drop(bytes.splice(at..at, (0..count).map(|_| 1))),
        3 => drop(bytes.drain(at..(at + count).min(bytes.len()))),
        _ => bytes[at] ^= 1 << count,
    }
    bytes
}

#[test]
fn damaged_files_are_refused_or_run_and_nothing_panics_or_hangs() {
    // Small weights, so that most damage hits the graph and not the numbers.
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(2)]);
    let w = b.parameter("w", Tensor::new([2, 2], [1.0, 2.0, 3.0, 4.0]).unwrap());
    let bias = b.parameter("b", Tensor::zeros([2]));
    let h = b.gemm(x, w, bias);
    let h = b.layer_normalization(h, bias, bias, 1e-5);
    let h = b.relu(h);
    let h = b.concat(&[h, x], 1);
    let h = b.slice(h, 1, 0, 3);
    let h = b.reduce_mean(h, &[1], true);
    let h = b.clip(h, -1.0, 1.0);
    b.output("action", h);
    let bytes = b.finish().unwrap().to_bytes();
    let engines = engines();
    let (seed, mut verified) = (11, 0);
    let mut rng = stream(seed, Stream::Training);
    for round in 0..4000 {
        let damaged = mutate(&mut rng, &bytes);
        let Ok(graph) = Verified::from_bytes(&damaged) else { continue };
        verified += 1;
        for engine in &engines {
            if let Err(error) = engine.load(&graph) {
                let said = error.to_string();
                assert!(!said.contains("panicked"), "seed {seed}, round {round}: {said}");
            }
        }
    }
    println!("{verified} of 4000 damaged files still verify");
    assert!(verified > 100);
}

#[test]
fn a_file_with_functions_of_its_own_computes_what_onnx_runtime_for_python_does() {
    // The file and the figures are from Python: onnx 1.23.2, onnxruntime 1.28.0.
    let graph = Verified::from_bytes(include_bytes!("data/functions.onnx")).unwrap();
    for engine in engines() {
        let mut session = engine.load(&graph).unwrap();
        let found = session.run(&[("x", &[2, 2], &[1.0, 2.0, -4.0, -5.0])]).unwrap();
        assert_eq!(found[0].data, [6.0, 3.0, -4.0, -1.5], "{engine}");
    }
}
