//! Behaviour cloning of any policy: each loss solves what it is for, and only what was asked for
//! changes, on every engine.

mod common;

use std::collections::BTreeMap;

use common::engines;
use rand::RngExt as _;
use regoal::engine::Engine;
use regoal::onnx::{
    AdamW, Adapter, BehaviourCloning, Builder, Dim, Fate, Graph, Optimiser, Selection, Sgd, Tensor,
    TrainStep, Value, Verified,
};
use regoal::rng::{Rng, Stream, normal, stream};

const BATCH: usize = 64;

type Parameters = BTreeMap<String, Tensor>;

fn random(dims: &[usize], scale: f64, rng: &mut Rng) -> Tensor {
    let data: Vec<f32> = (0..dims.iter().product()).map(|_| (scale * normal(rng)) as f32).collect();
    Tensor::new(dims, data).unwrap()
}

/// A network of one hidden layer from `x` `[N, inputs]`, and a head `NAME.weight`, `NAME.bias` for
/// each named output.
fn network(inputs: usize, heads: &[(&str, usize)]) -> Graph {
    let mut rng = stream(7, Stream::Weights);
    let mut b = Builder::new();
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(inputs)]);
    let h = layer(&mut b, "hidden", x, &[inputs, 16], &mut rng);
    let h = b.tanh(h);
    for (name, outputs) in heads {
        let y = layer(&mut b, name, h, &[16, *outputs], &mut rng);
        b.output(name, y);
    }
    b.finish().unwrap()
}

fn layer(b: &mut Builder, name: &str, x: Value, dims: &[usize], rng: &mut Rng) -> Value {
    let scale = (1.0 / dims[0] as f64).sqrt();
    let w = b.parameter(&format!("{name}.weight"), random(dims, scale, rng));
    let bias = b.parameter(&format!("{name}.bias"), Tensor::zeros([dims[1]]));
    b.gemm(x, w, bias)
}

fn cloning(loss: &str, outputs: &[&str]) -> BehaviourCloning {
    BehaviourCloning {
        batch: BATCH,
        loss: loss.parse().unwrap(),
        outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
        ..BehaviourCloning::default()
    }
}

/// Trains for `steps` on batches of (`x`, target) that `draw` makes of one sample; returns the policy
/// and the losses.
fn train(
    engine: &Engine,
    policy: &Graph,
    how: &BehaviourCloning,
    steps: usize,
    draw: impl Fn(&mut Rng) -> (Vec<f32>, Vec<f32>),
) -> (Graph, Vec<f32>) {
    let step = TrainStep::behaviour_cloning(policy, how).unwrap();
    let mut trainer = engine.train(&step, 1).unwrap();
    let mut rng = stream(3, Stream::Training);
    let mut losses = Vec::new();
    for _ in 0..steps {
        let (mut x, mut target) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let (input, wanted) = draw(&mut rng);
            x.extend(input);
            target.extend(wanted);
        }
        let weight = [1.0; BATCH];
        let batch = [("x", &x[..]), ("target_action", &target), ("weight", &weight)];
        losses.push(trainer.step(&batch, 0.01).unwrap().loss);
    }
    (policy.with_parameters(&trainer.parameters().unwrap()).unwrap(), losses)
}

fn run(engine: &Engine, policy: &Graph, x: &[f32], inputs: usize) -> Vec<Tensor> {
    let policy = Verified::try_from(policy.clone()).unwrap();
    let dims = [x.len() / inputs, inputs];
    engine.load(&policy).unwrap().run(&[("x", &dims, x)]).unwrap()
}

fn mean(losses: &[f32]) -> f32 {
    losses.iter().sum::<f32>() / losses.len() as f32
}

#[test]
fn a_distance_finds_the_mean_and_an_absolute_one_the_median() {
    // One in five demonstrations is wrong by 5.
    let draw = |rng: &mut Rng| {
        let x = rng.random_range(-1.0..1.0f32);
        let wrong = if rng.random_bool(0.2) { 5.0 } else { 0.0 };
        (vec![x], vec![(2.0 * x).sin() + wrong])
    };
    let policy = network(1, &[("action", 1)]);
    for engine in engines() {
        let error = |loss: &str| {
            let (tuned, _) = train(&engine, &policy, &cloning(loss, &["action"]), 500, draw);
            let xs: Vec<f32> = (-8..=8).map(|i| i as f32 / 10.0).collect();
            let found = run(&engine, &tuned, &xs, 1).remove(0);
            let errors = found.data.iter().zip(&xs).map(|(y, x)| y - (2.0 * x).sin());
            errors.sum::<f32>() / xs.len() as f32
        };
        let (mse, l1, huber) = (error("mse"), error("l1"), error("huber:0.1"));
        assert!((0.7..1.3).contains(&mse), "{engine}: {mse}");
        assert!(l1.abs() < 0.15 && huber.abs() < 0.15, "{engine}: {l1} {huber}");
    }
}

#[test]
fn a_gaussian_learns_mean_and_deviation() {
    // The noise grows from 0.1 on the left to 0.5 on the right.
    let deviation = |x: f32| 0.3 + 0.2 * x;
    let draw = |rng: &mut Rng| {
        let x = rng.random_range(-1.0..1.0f32);
        (vec![x], vec![x + deviation(x) * normal(rng) as f32])
    };
    for engine in engines() {
        let policy = network(1, &[("mean", 1), ("log_std", 1)]);
        let how = cloning("gaussian", &["mean", "log_std"]);
        let (tuned, losses) = train(&engine, &policy, &how, 800, draw);
        let found = run(&engine, &tuned, &[-0.8, 0.8], 1);
        for (i, x) in [-0.8, 0.8].into_iter().enumerate() {
            let std = found[1].data[i].exp();
            assert!((found[0].data[i] - x).abs() < 0.2, "{engine}: {found:?}");
            assert!((std / deviation(x) - 1.0).abs() < 0.35, "{engine}: {std} at {x}");
        }
        assert!(mean(&losses[700..]) < mean(&losses[..20]) - 0.3, "{engine}");
    }
}

#[test]
fn a_mixture_learns_two_ways_of_doing_it_where_a_gaussian_learns_neither() {
    // Left or right of an obstacle, never through it.
    let draw = |rng: &mut Rng| {
        let side = if rng.random_bool(0.5) { 1.0 } else { -1.0f32 };
        (vec![1.0], vec![side + 0.05 * normal(rng) as f32, 0.5 * side])
    };
    let mut b = Builder::new();
    let mut rng = stream(7, Stream::Weights);
    let x = b.input("x", &[Dim::Fixed(BATCH), Dim::Fixed(1)]);
    let logits = layer(&mut b, "logits", x, &[1, 3], &mut rng);
    let means = layer(&mut b, "means", x, &[1, 6], &mut rng);
    let means = b.reshape(means, &[BATCH as i64, 3, 2]);
    let log_std = b.parameter("log_std", Tensor::zeros([3, 2]));
    b.output("logits", logits);
    b.output("means", means);
    b.output("widths", log_std);
    let policy = b.finish().unwrap();
    for engine in engines() {
        let how = cloning("mixture", &["logits", "means", "log_std"]);
        let (tuned, losses) = train(&engine, &policy, &how, 600, draw);
        let found = run(&engine, &tuned, &[1.0; BATCH], 1);
        let most: Vec<bool> = found[0].data[..3].iter().map(|l| *l > -2.0).collect();
        let near = |side: f32| (0..3).any(|c| most[c] && (found[1].data[2 * c] - side).abs() < 0.1);
        assert!(near(1.0) && near(-1.0), "{engine}: {found:?}");
        // The best single Gaussian has a deviation of 1 and 0.5: log 0.5 + 1 + log(2 pi) = 2.14.
        assert!(mean(&losses[550..]) < 0.0, "{engine}: {}", mean(&losses[550..]));
    }
}

#[test]
fn categories_are_told_apart() {
    // The class is the largest of three inputs; a second choice is the first input's sign.
    let draw = |rng: &mut Rng| {
        let x: Vec<f32> = (0..3).map(|_| rng.random_range(-1.0..1.0f32)).collect();
        let class = (0..3).max_by(|a, b| x[*a].total_cmp(&x[*b])).unwrap();
        let second = f32::from(x[0] > 0.0);
        (x, vec![class as f32, second])
    };
    for engine in engines() {
        let policy = network(3, &[("which", 3), ("sign", 2)]);
        let how = cloning("categorical", &["which", "sign"]);
        let (tuned, losses) = train(&engine, &policy, &how, 400, draw);
        let rest = mean(&losses[350..]);
        assert!(rest < 0.35 && losses[0] > 1.5, "{engine}: {} to {rest}", losses[0]);
        let found = run(&engine, &tuned, &[0.9, -0.9, 0.0, -0.9, 0.0, 0.9], 3);
        assert!(found[0].data[0] > found[0].data[1].max(found[0].data[2]), "{found:?}");
        assert!(found[0].data[5] > found[0].data[3].max(found[0].data[4]), "{found:?}");
        assert!(found[1].data[1] > found[1].data[0], "{found:?}");
    }
}

#[test]
fn a_chunk_learns_from_what_is_not_padding_alone() {
    let mut b = Builder::new();
    let mut rng = stream(7, Stream::Weights);
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(1)]);
    let y = layer(&mut b, "head", x, &[1, 6], &mut rng);
    let y = b.reshape(y, &[-1, 3, 2]);
    b.output("action", y);
    let policy = b.finish().unwrap();
    for engine in engines() {
        let step = TrainStep::behaviour_cloning(&policy, &cloning("chunk", &["action"])).unwrap();
        let mut trainer = engine.train(&step, 1).unwrap();
        let mut rng = stream(3, Stream::Training);
        for n in 0..400 {
            let (mut xs, mut target, mut pad) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..BATCH {
                let x = rng.random_range(-1.0..1.0f32);
                let end = rng.random_range(1..=3usize);
                xs.push(x);
                for step in 0..3 {
                    let padded = step >= end;
                    let garbage = if padded { 100.0 } else { 0.0 };
                    target.extend([x * step as f32 + garbage, 1.0 - garbage]);
                    pad.push(f32::from(padded));
                }
            }
            let lr = 0.03 * (1.0 - n as f32 / 400.0);
            let batch = [
                ("x", &xs[..]),
                ("target_action", &target),
                ("weight", &[1.0; BATCH]),
                ("is_pad", &pad),
            ];
            trainer.step(&batch, lr).unwrap();
        }
        let tuned = policy.with_parameters(&trainer.parameters().unwrap()).unwrap();
        let found = run(&engine, &tuned, &[0.5], 1).remove(0);
        let want = [0.0, 1.0, 0.5, 1.0, 1.0, 1.0];
        let off = found.data.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off < 0.05, "{engine}: {found:?}");
    }
}

/// `y = x W0 + ..` through every way in which a file holds a linear layer.
fn layers() -> Graph {
    let mut rng = stream(5, Stream::Weights);
    let mut b = Builder::new();
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(4)]);
    let h = layer(&mut b, "gemm", x, &[4, 6], &mut rng);
    let w = b.parameter("matmul.weight", random(&[6, 5], 0.4, &mut rng));
    let h = b.matmul(h, w);
    let h = b.tanh(h);
    let w = b.parameter("turned.weight", random(&[3, 5], 0.4, &mut rng));
    let w = b.transpose(w, &[1, 0]);
    let h = b.matmul(h, w);
    let scale = b.parameter("norm.weight", Tensor::new([3], [1.0, 0.5, 2.0]).unwrap());
    let y = b.mul(h, scale);
    b.output("action", y);
    b.finish().unwrap()
}

fn changed(before: &Parameters, after: &Parameters) -> Vec<String> {
    let names = before.iter().filter(|(name, tensor)| after[*name] != **tensor);
    names.map(|(name, _)| name.clone()).collect()
}

fn teach(rng: &mut Rng) -> (Vec<f32>, Vec<f32>) {
    let x: Vec<f32> = (0..4).map(|_| rng.random_range(-1.0..1.0f32)).collect();
    let y = vec![0.5 * x[0] - 0.3 * x[1], 0.4 * x[2], 0.2 * x[3] - 0.3];
    (x, y)
}

#[test]
fn adapters_start_from_the_policy_learn_and_merge_into_the_weights_they_match() {
    let policy = layers();
    let base = policy.parameters().unwrap();
    for engine in engines() {
        let adapter = Adapter { alpha: 4.0, ..Adapter::new(2) };
        let plain = cloning("mse", &["action"]);
        let how = BehaviourCloning { adapter: Some(adapter.clone()), ..plain.clone() };
        let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
        assert_eq!(step.unflatten(&step.state()[0].initial.data), {
            let names = ["gemm.weight", "matmul.weight", "turned.weight"];
            names.iter().map(|n| ((*n).to_owned(), base[*n].clone())).collect::<Parameters>()
        });
        let (_, first) = train(&engine, &policy, &plain, 1, teach);
        let (tuned, losses) = train(&engine, &policy, &how, 300, teach);
        assert_eq!(losses[0], first[0], "{engine}: the first loss is the policy's own");
        assert!(losses[299] < 0.2 * losses[0], "{engine}: {} to {}", losses[0], losses[299]);
        let after = tuned.parameters().unwrap();
        assert_eq!(changed(&base, &after), ["gemm.weight", "matmul.weight", "turned.weight"]);
        for name in changed(&base, &after) {
            assert!(rank_at_most_2(&base[&name], &after[&name]), "{name}");
        }

        let matched = Adapter { pattern: "t*.weight".into(), ..adapter };
        let how = BehaviourCloning { adapter: Some(matched), ..plain };
        let (tuned, _) = train(&engine, &policy, &how, 5, teach);
        assert_eq!(changed(&base, &tuned.parameters().unwrap()), ["turned.weight"]);
    }
}

/// Whether every 3 x 3 minor of the difference vanishes.
fn rank_at_most_2(a: &Tensor, b: &Tensor) -> bool {
    let (rows, columns) = (a.dims[0], a.dims[1]);
    let d = |i: usize, j: usize| f64::from(b.data[i * columns + j] - a.data[i * columns + j]);
    let size = (0..rows * columns).fold(0f64, |m, k| m.max(d(k / columns, k % columns).abs()));
    let minor = |i: usize, j: usize| {
        let m = |r: usize, c: usize| d(i + r, j + c);
        m(0, 0) * (m(1, 1) * m(2, 2) - m(1, 2) * m(2, 1))
            - m(0, 1) * (m(1, 0) * m(2, 2) - m(1, 2) * m(2, 0))
            + m(0, 2) * (m(1, 0) * m(2, 1) - m(1, 1) * m(2, 0))
    };
    let places = (0..rows - 2).flat_map(|i| (0..columns - 2).map(move |j| (i, j)));
    size > 0.01 && places.into_iter().all(|(i, j)| minor(i, j).abs() < 1e-5 * size.powi(3))
}

#[test]
fn the_merged_policy_is_the_adapted_graph() {
    let policy = layers();
    let how = BehaviourCloning {
        adapter: Some(Adapter { alpha: 3.0, ..Adapter::new(3) }),
        ..cloning("mse", &["action"])
    };
    let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
    let mut rng = stream(9, Stream::Weights);
    let count = step.state()[0].initial.data.len();
    let flat = random(&[count], 0.3, &mut rng);
    let merged = policy.with_parameters(&step.unflatten(&flat.data)).unwrap();
    let samples: Vec<_> = (0..BATCH).map(|_| teach(&mut rng)).collect();
    let x: Vec<f32> = samples.iter().flat_map(|s| s.0.clone()).collect();
    let target: Vec<f32> = samples.iter().flat_map(|s| s.1.clone()).collect();
    let weight = [1.0; BATCH];
    for engine in engines() {
        // The step's own loss, with these factors as its parameters.
        let mut session = engine.load(step.graph()).unwrap();
        let mut given: Vec<(&str, &[usize], &[f32])> = vec![
            ("x", &[BATCH, 4], &x),
            ("target_action", &[BATCH, 3], &target),
            ("weight", &[BATCH], &weight),
            ("lr", &[], &[0.0]),
            ("parameters", &flat.dims, &flat.data),
        ];
        for state in &step.state()[1..] {
            given.push((&state.input, &state.initial.dims, &state.initial.data));
        }
        let adapted = session.run(&given).unwrap()[0].data[0];
        let found = run(&engine, &merged, &x, 4).remove(0);
        let square = |(y, t): (&f32, &f32)| f64::from(y - t).powi(2);
        let sum: f64 = found.data.iter().zip(&target).map(square).sum();
        let own = sum / target.len() as f64;
        assert!((own / f64::from(adapted) - 1.0).abs() < 1e-6, "{engine}: {own} {adapted}");
    }
}

#[test]
fn frozen_parameters_stay_and_the_report_says_why() {
    let policy = layers();
    let base = policy.parameters().unwrap();
    let own = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
    for (freeze, only, moves) in [
        (&["gemm.*", "norm.*"][..], &[][..], &["matmul.weight", "turned.weight"][..]),
        (&[], &["*.bias"], &["gemm.bias"]),
        (&["*.bias"], &["gemm.*"], &["gemm.weight"]),
    ] {
        let selection = Selection { freeze: own(freeze), only: own(only) };
        let how = BehaviourCloning { selection, ..cloning("mse", &["action"]) };
        let (tuned, _) = train(&Engine::tract(), &policy, &how, 3, teach);
        assert_eq!(changed(&base, &tuned.parameters().unwrap()), moves);
        let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
        let trained = step.report().iter().filter(|line| line.fate == Fate::Trained);
        assert_eq!(trained.map(|line| line.name.as_str()).collect::<Vec<_>>(), moves);
    }
}

#[test]
fn adapters_and_whole_parameters_asked_for_by_name_are_trained_together() {
    let policy = layers();
    let selection = Selection { freeze: vec!["t*".into()], only: vec!["*.bias".into()] };
    let how = BehaviourCloning {
        selection,
        adapter: Some(Adapter::new(1)),
        ..cloning("mse", &["action"])
    };
    let (tuned, _) = train(&Engine::tract(), &policy, &how, 3, teach);
    let (before, after) = (policy.parameters().unwrap(), tuned.parameters().unwrap());
    assert_eq!(changed(&before, &after), ["gemm.bias", "gemm.weight", "matmul.weight"]);
    let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
    let fate = |name: &str| step.report().iter().find(|l| l.name == name).unwrap().fate.clone();
    assert_eq!(fate("gemm.weight"), Fate::Adapted { rank: 1 });
    assert_eq!(fate("gemm.bias"), Fate::Trained);
    assert_eq!(fate("turned.weight"), Fate::Asked("t*".into()));
    assert_eq!(fate("norm.weight"), Fate::NotAsked);
}

#[test]
fn every_optimiser_keeps_the_average_of_the_parameters_on_the_way() {
    let draw = |rng: &mut Rng| {
        let x = rng.random_range(-1.0..1.0f32);
        (vec![x], vec![(2.0 * x).sin()])
    };
    let policy = network(1, &[("action", 1)]);
    let sgd = Sgd { nesterov: true, ema: Some(0.9), ..Sgd::default() };
    let adam = AdamW { ema: Some(0.9), ..AdamW::default() };
    for optimiser in [Optimiser::from(sgd), adam.into()] {
        let how = BehaviourCloning { optimiser, ..cloning("mse", &["action"]) };
        let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
        for engine in engines() {
            let mut trainer = engine.train(&step, 1).unwrap();
            let mut rng = stream(3, Stream::Training);
            let mut average = trainer.parameters().unwrap();
            for _ in 0..20 {
                let (x, y): (Vec<_>, Vec<_>) = (0..BATCH).map(|_| draw(&mut rng)).unzip();
                let (x, y) = (x.concat(), y.concat());
                let batch = [("x", &x[..]), ("target_action", &y), ("weight", &[1.0; BATCH])];
                trainer.step(&batch, 0.05).unwrap();
                for (name, now) in trainer.parameters().unwrap() {
                    let average = average.get_mut(&name).unwrap().data.iter_mut();
                    average.zip(now.data).for_each(|(a, p)| *a = 0.9 * *a + 0.1 * p);
                }
            }
            for (name, found) in trainer.averaged().unwrap() {
                for (a, b) in found.data.iter().zip(&average[&name].data) {
                    assert!((a - b).abs() < 1e-5, "{engine}: {name}: {a}, not {b}");
                }
            }
        }
    }
}

#[test]
fn a_parameter_that_the_loss_does_not_reach_is_said_to_be_so() {
    let policy = network(2, &[("action", 1), ("value", 1)]);
    let step = TrainStep::behaviour_cloning(&policy, &cloning("mse", &["action"])).unwrap();
    let unreached = step.report().iter().filter(|line| line.fate == Fate::Unreached);
    let names: Vec<&str> = unreached.map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["value.bias", "value.weight"]);
}

#[test]
fn adapters_go_on_no_weight_that_is_used_in_another_way_too() {
    let mut b = Builder::new();
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(3)]);
    let mut rng = stream(1, Stream::Weights);
    let both = b.parameter("both", random(&[3, 3], 0.5, &mut rng));
    let one = b.parameter("one", random(&[3, 3], 0.5, &mut rng));
    let h = b.matmul(x, both);
    let turned = b.transpose(both, &[1, 0]);
    let h = b.matmul(h, turned);
    let h = b.matmul(h, one);
    b.output("action", h);
    let policy = b.finish().unwrap();
    let layers = Adapter::new(1).layers(&policy).unwrap();
    assert_eq!(layers.into_keys().collect::<Vec<_>>(), ["one"]);
    let nothing = Adapter { pattern: "both".into(), ..Adapter::new(1) };
    assert!(nothing.layers(&policy).unwrap_err().to_string().contains("pattern `both`"));
}

#[test]
fn exported_policies_are_trained_with_the_loss_of_their_kind() {
    for (file, loss, outputs, target) in [
        ("gaussian.dynamo.fixed.onnx", "gaussian", &["mean", "log_std"][..], 3),
        ("gaussian.legacy-17.fixed.onnx", "gaussian", &["mean", "log_std"], 3),
        ("actor_critic.legacy-17.fixed.onnx", "huber:0.1", &["action"], 3),
        ("mixture.dynamo.fixed.onnx", "mixture", &["logits", "means", "log_std"], 2),
        ("categorical.dynamo.fixed.onnx", "categorical", &["log_probabilities"], 3),
    ] {
        let bytes = std::fs::read(format!("tests/corpus/{file}")).unwrap();
        let policy = Verified::from_bytes(&bytes).unwrap().into_graph();
        let how = BehaviourCloning { batch: 4, ..cloning(loss, outputs) };
        let step = TrainStep::behaviour_cloning(&policy, &how).unwrap();
        let mut rng = stream(3, Stream::Training);
        let observation = random(&[4, 6], 1.0, &mut rng).data;
        let target: Vec<f32> = (0..4 * target).map(|i| (i % 3) as f32).collect();
        let batch =
            [("observation", &observation[..]), ("target_action", &target), ("weight", &[1.0; 4])];
        for engine in engines() {
            let mut trainer = engine.train(&step, 1).unwrap();
            let losses: Vec<f32> =
                (0..100).map(|_| trainer.step(&batch, 3e-3).unwrap().loss).collect();
            assert!(losses[99] < 0.8 * losses[0], "{engine}: {file}: {losses:?}");
        }
    }
}
