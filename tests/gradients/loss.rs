//! Losses: their value against the formula in f64, their gradient against central differences.

use std::collections::HashMap;

use regoal::onnx::{BcLoss, Builder, Graph, Tensor, Value, Verified};

use crate::check::{random, worst_error};
use crate::common::engines;

const BATCH: usize = 5;

/// A loss over outputs that are parameters `y0`, `y1`, .. of these dims, for any opset.
fn graph(loss: BcLoss, opset: i64, outputs: &[Tensor]) -> Graph {
    let mut b = Builder::with_opset(opset);
    let outputs: Vec<Value> =
        outputs.iter().enumerate().map(|(i, y)| b.parameter(&format!("y{i}"), y.clone())).collect();
    let loss = loss.append(&mut b, &outputs, BATCH).unwrap();
    b.output("loss", loss);
    b.finish().unwrap()
}

fn inputs(target: &Tensor, pad: Option<Tensor>) -> HashMap<String, Tensor> {
    let weight = Tensor::new([BATCH], [1.0, 0.5, 2.0, 0.0, 1.5]).unwrap();
    let pad = pad.map(|pad| (BcLoss::IS_PAD.to_owned(), pad));
    let given = [(BcLoss::TARGET.to_owned(), target.clone()), (BcLoss::WEIGHT.to_owned(), weight)];
    given.into_iter().chain(pad).collect()
}

/// Checks value and gradient on every engine, in the oldest and a newer opset.
fn check(name: &str, outputs: &[Tensor], given: &HashMap<String, Tensor>, want: f64) {
    let loss: BcLoss = name.parse().unwrap();
    let wrt: Vec<String> = (0..outputs.len()).map(|i| format!("y{i}")).collect();
    let wrt: Vec<&str> = wrt.iter().map(String::as_str).collect();
    for opset in [13, 18] {
        let graph = graph(loss, opset, outputs);
        let verified = Verified::try_from(graph.clone()).unwrap();
        for engine in engines() {
            let feed: Vec<_> = given
                .iter()
                .map(|(n, t)| (n.as_str(), t.dims.as_slice(), t.data.as_slice()))
                .collect();
            let found = engine.load(&verified).unwrap().run(&feed).unwrap()[0].data[0];
            let off = (f64::from(found) - want).abs() / want.abs().max(1.0);
            assert!(off < 1e-5, "{engine}: {name}: {found}, expected {want}");
        }
        worst_error(name, &graph, &wrt, given);
    }
}

/// Sum of `w_i l_i` over sum of `w_i`.
fn weighted(given: &HashMap<String, Tensor>, each: impl Fn(usize) -> f64) -> f64 {
    let weight = &given[BcLoss::WEIGHT].data;
    let sum: f64 = weight.iter().enumerate().map(|(i, w)| f64::from(*w) * each(i)).sum();
    sum / weight.iter().map(|w| f64::from(*w)).sum::<f64>()
}

fn distance(name: &str, e: f64) -> f64 {
    match name {
        "mse" | "chunk-mse" => e * e,
        "l1" | "chunk" => e.abs(),
        "huber:0.5" if e.abs() <= 0.5 => e * e / 2.0,
        "huber:0.5" => 0.5 * (e.abs() - 0.25),
        other => panic!("{other}"),
    }
}

fn row(tensor: &Tensor, i: usize) -> Vec<f64> {
    let size = tensor.data.len() / tensor.dims[0];
    tensor.data[i * size..(i + 1) * size].iter().map(|x| f64::from(*x)).collect()
}

fn row_f32(tensor: &Tensor, i: usize) -> Vec<f32> {
    row(tensor, i).into_iter().map(|x| x as f32).collect()
}

#[test]
fn distances_have_the_value_and_gradient_of_their_formula() {
    for name in ["mse", "l1", "huber:0.5"] {
        for dims in [&[BATCH, 3][..], &[BATCH], &[BATCH, 2, 3]] {
            let (action, target) = (random(dims, 1), random(dims, 2));
            let given = inputs(&target, None);
            let want = weighted(&given, |i| {
                let (a, t) = (row(&action, i), row(&target, i));
                let sum: f64 = a.iter().zip(&t).map(|(a, t)| distance(name, a - t)).sum();
                sum / a.len() as f64
            });
            check(name, &[action], &given, want);
        }
    }
}

#[test]
fn chunks_count_only_what_is_not_padding() {
    let (action, mut target) = (random(&[BATCH, 4, 2], 1), random(&[BATCH, 4, 2], 2));
    let pad: Vec<f32> = (0..BATCH * 4).map(|i| f32::from(i % 4 >= 3 - i / 8)).collect();
    for (i, pad) in pad.iter().enumerate() {
        // Whatever stands in the padding.
        target.data[2 * i] += pad * 1e3;
    }
    let given = inputs(&target, Some(Tensor::new([BATCH, 4], pad.clone()).unwrap()));
    for name in ["chunk", "chunk-mse"] {
        let (mut sum, mut count) = (0.0, 0.0);
        for (i, pad) in pad.iter().enumerate() {
            let weight = f64::from(given[BcLoss::WEIGHT].data[i / 4]) * f64::from(1.0 - pad);
            let e = |j: usize| f64::from(action.data[2 * i + j] - target.data[2 * i + j]);
            sum += weight * (distance(name, e(0)) + distance(name, e(1))) / 2.0;
            count += weight;
        }
        check(name, std::slice::from_ref(&action), &given, sum / count);
    }
}

fn log_density(t: &[f64], mean: &[f64], std: &[f64]) -> f64 {
    let each = t.iter().zip(mean).zip(std).map(|((t, m), s)| {
        -((t - m) / s).powi(2) / 2.0 - s.ln() - std::f64::consts::TAU.ln() / 2.0
    });
    each.sum()
}

#[test]
fn gaussians_have_the_value_and_gradient_of_their_formula() {
    let (mean, target) = (random(&[BATCH, 3], 1), random(&[BATCH, 3], 2));
    let given = inputs(&target, None);
    for dims in [&[BATCH, 3][..], &[3], &[1, 3]] {
        let log_std = random(dims, 3);
        let std = |i: usize| -> Vec<f64> {
            let i = if dims.first() == Some(&BATCH) { i } else { 0 };
            log_std.data[3 * i..3 * i + 3].iter().map(|s| f64::from(*s).exp()).collect()
        };
        let want = weighted(&given, |i| -log_density(&row(&target, i), &row(&mean, i), &std(i)));
        check("gaussian", &[mean.clone(), log_std.clone()], &given, want);
        let data: Vec<f32> = log_std.data.iter().map(|s| s.exp()).collect();
        let stds = Tensor::new(dims, data).unwrap();
        check("gaussian-std", &[mean.clone(), stds], &given, want);
    }
    // Both in one output.
    let both = random(&[BATCH, 6], 4);
    let want = weighted(&given, |i| {
        let all = row(&both, i);
        let std: Vec<f64> = all[3..].iter().map(|s| s.exp()).collect();
        -log_density(&row(&target, i), &all[..3], &std)
    });
    check("gaussian", &[both], &given, want);
}

#[test]
fn mixtures_have_the_value_and_gradient_of_their_formula() {
    let (k, a) = (4, 2);
    let (logits, means, log_std) =
        (random(&[BATCH, k], 1), random(&[BATCH, k, a], 2), random(&[BATCH, k, a], 3));
    let target = random(&[BATCH, a], 4);
    let given = inputs(&target, None);
    let want = weighted(&given, |i| {
        let (l, m, s) = (row(&logits, i), row(&means, i), row(&log_std, i));
        let total: f64 = l.iter().map(|l| l.exp()).sum();
        let density = (0..k).map(|c| {
            let std: Vec<f64> = s[c * a..][..a].iter().map(|s| s.exp()).collect();
            l[c].exp() / total * log_density(&row(&target, i), &m[c * a..][..a], &std).exp()
        });
        -density.sum::<f64>().ln()
    });
    check("mixture", &[logits, means, log_std], &given, want);
}

#[test]
fn categories_have_the_value_and_gradient_of_their_formula() {
    let (first, second) = (random(&[BATCH, 4], 1), random(&[BATCH, 3], 2));
    let classes = [0.0, 2.0, 3.0, 1.0, 1.0, 0.0, 2.0, 2.0, 0.0, 1.0];
    let target = Tensor::new([BATCH, 2], classes).unwrap();
    let given = inputs(&target, None);
    let surprise = |logits: &Tensor, i: usize, class: f32| {
        let l = row(logits, i);
        l.iter().map(|l| l.exp()).sum::<f64>().ln() - l[class as usize]
    };
    let want = weighted(&given, |i| {
        surprise(&first, i, classes[2 * i]) + surprise(&second, i, classes[2 * i + 1])
    });
    check("categorical", &[first, second], &given, want);

    // Two choices in one output.
    let both = random(&[BATCH, 2, 4], 3);
    let want = weighted(&given, |i| {
        let of = |choice: usize| {
            let logits = Tensor::new([1, 4], &row_f32(&both, i)[4 * choice..][..4]).unwrap();
            surprise(&logits, 0, classes[2 * i + choice])
        };
        of(0) + of(1)
    });
    check("categorical", &[both], &given, want);
}

#[test]
fn logits_and_widths_at_the_end_of_the_range_stay_finite() {
    let logits = Tensor::new([BATCH, 2], [1e4, -1e4, -1e4, 1e4, 0.0, 90.0, 1e8, 1e8, -5e3, -5e3]);
    let target = Tensor::new([BATCH, 1], [0.0, 1.0, 1.0, 0.0, 1.0]).unwrap();
    let given = inputs(&target, None);
    // Of two equal logits each class has one half.
    let want = 1.5 * 2f64.ln() / 5.0;
    check("categorical", &[logits.unwrap()], &given, want);

    let far = Tensor::new([BATCH, 2, 1], [300.0; 10]).unwrap();
    let given = inputs(&Tensor::zeros([BATCH, 1]), None);
    let want = 300f64.powi(2) / 2.0 + std::f64::consts::TAU.ln() / 2.0;
    let (logits, widths) = (Tensor::zeros([BATCH, 2]), Tensor::zeros([1]));
    check("mixture", &[logits, far, widths], &given, want);
}
