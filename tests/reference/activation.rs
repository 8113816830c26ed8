//! Activations, softmax and reductions.

use regoal::onnx::proto::NodeProto;

use super::{Array, broadcast, reduce};

/// The outputs of a node of this family.
pub fn evaluate(node: &NodeProto, inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    let places = inputs;
    let inputs: Vec<&Array> = inputs.iter().flatten().copied().collect();
    let alpha = |default| f64::from(node.float("alpha").unwrap_or(default));
    let map = |f: &dyn Fn(f64) -> f64| inputs[0].map(f);
    let truth = |f: &dyn Fn(bool, bool) -> bool| {
        broadcast(&inputs, |v| f64::from(f(v[0] != 0.0, v[v.len() - 1] != 0.0)))
    };
    Some(vec![match node.op() {
        "Acos" => map(&f64::acos),
        "Acosh" => map(&f64::acosh),
        "Asin" => map(&f64::asin),
        "Asinh" => map(&f64::asinh),
        "Atan" => map(&f64::atan),
        "Atanh" => map(&f64::atanh),
        "Cosh" => map(&f64::cosh),
        "Sinh" => map(&f64::sinh),
        "Tan" => map(&f64::tan),
        "Sign" => map(&|x| if x == 0.0 { 0.0 } else { x.signum() }),
        "Celu" => map(&|x| x.max(0.0) + (alpha(1.0) * (x / alpha(1.0)).exp_m1()).min(0.0)),
        "Elu" => map(&|x| if x > 0.0 { x } else { alpha(1.0) * x.exp_m1() }),
        "Erf" => map(&erf),
        "Gelu" if node.string("approximate") == Some("tanh") => map(&|x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }),
        "Gelu" => map(&|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()))),
        "HardSigmoid" => {
            let beta = f64::from(node.float("beta").unwrap_or(0.5));
            map(&|x| (alpha(0.2) * x + beta).clamp(0.0, 1.0))
        }
        "HardSwish" => map(&|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => map(&|x| if x < 0.0 { alpha(0.01) * x } else { x }),
        "Mish" => map(&|x| x * x.exp().ln_1p().tanh()),
        "Selu" => {
            let gamma = f64::from(node.float("gamma").unwrap_or(1.050_701));
            map(&|x| gamma * if x > 0.0 { x } else { alpha(1.673_263_2) * x.exp_m1() })
        }
        "Softsign" => map(&|x| x / (1.0 + x.abs())),
        "ThresholdedRelu" => map(&|x| if x > alpha(1.0) { x } else { 0.0 }),
        "PRelu" => broadcast(&inputs, |v| if v[0] < 0.0 { v[1] * v[0] } else { v[0] }),
        "And" => truth(&|a, b| a && b),
        "Or" => truth(&|a, b| a || b),
        "Less" => broadcast(&inputs, |v| f64::from(v[0] < v[1])),
        // Limits that are left out do not limit.
        "Clip" => inputs[0].map(|x| {
            let limit =
                |i: usize, none| places.get(i).copied().flatten().map_or(none, |l| l.data[0]);
            x.max(limit(1, f64::NEG_INFINITY)).min(limit(2, f64::INFINITY))
        }),
        "Mean" => broadcast(&inputs, |v| v.iter().sum::<f64>() / v.len() as f64),
        "Sum" => broadcast(&inputs, |v| v.iter().sum()),
        "Softmax" | "LogSoftmax" => softmax(node, inputs[0]),
        "CumSum" => cumulative_sum(node, inputs[0], inputs[1].ints()[0]),
        op if op.starts_with("Reduce") && !matches!(op, "ReduceSum" | "ReduceMean") => {
            reduction(node, &inputs)
        }
        _ => return None,
    }])
}

/// By its Taylor series near 0 and its continued fraction (Abramowitz & Stegun 7.1.5, 7.1.14).
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let z = x.abs();
    let fraction = (1..60).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (z + tail));
    (1.0 - (-z * z).exp() / ((z + fraction) * std::f64::consts::PI.sqrt())).copysign(x)
}

fn softmax(node: &NodeProto, x: &Array) -> Array {
    let axis = node.int("axis").unwrap_or(-1).rem_euclid(x.dims.len() as i64);
    let exp = x.map(f64::exp);
    let share = broadcast(&[&exp, &reduce(&exp, &[axis], true, false)], |v| v[0] / v[1]);
    if node.op() == "Softmax" { share } else { share.map(f64::ln) }
}

fn cumulative_sum(node: &NodeProto, x: &Array, axis: i64) -> Array {
    let axis = axis.rem_euclid(x.dims.len() as i64) as usize;
    let flag = |name| node.int(name).unwrap_or(0) != 0;
    Array::build(&x.dims, |index| {
        let here = index[axis];
        let counted = |i: &usize| match (flag("reverse"), flag("exclusive")) {
            (false, false) => *i <= here,
            (false, true) => *i < here,
            (true, false) => *i >= here,
            (true, true) => *i > here,
        };
        let at = |i: usize| {
            let mut index = index.to_vec();
            index[axis] = i;
            x.at(&index)
        };
        (0..x.dims[axis]).filter(counted).map(at).sum()
    })
}

fn reduction(node: &NodeProto, inputs: &[&Array]) -> Array {
    let x = inputs[0];
    let axes = inputs.get(1).map(|a| a.ints()).or(node.ints("axes").map(<[i64]>::to_vec));
    let axes = axes.unwrap_or_default();
    let keep = node.int("keepdims").unwrap_or(1) != 0;
    let sum = |f: &dyn Fn(f64) -> f64| reduce(&x.map(f), &axes, keep, false);
    match node.op() {
        "ReduceL1" => sum(&f64::abs),
        "ReduceL2" => sum(&|x| x * x).map(f64::sqrt),
        "ReduceLogSum" => sum(&|x| x).map(f64::ln),
        "ReduceLogSumExp" => sum(&f64::exp).map(f64::ln),
        "ReduceSumSquare" => sum(&|x| x * x),
        _ => folded(node.op(), x, &axes, keep),
    }
}

/// The largest, the smallest or the product along axes, one axis after the other.
fn folded(op: &str, x: &Array, axes: &[i64], keep: bool) -> Array {
    let rank = x.dims.len() as i64;
    let mut axes: Vec<usize> = axes.iter().map(|a| a.rem_euclid(rank) as usize).collect();
    if axes.is_empty() {
        axes = (0..x.dims.len()).collect();
    }
    let mut y = x.clone();
    for axis in &axes {
        let mut dims = y.dims.clone();
        dims[*axis] = 1;
        y = Array::build(&dims, |index| {
            let all = (0..y.dims[*axis]).map(|i| {
                let mut index = index.to_vec();
                index[*axis] = i;
                y.at(&index)
            });
            match op {
                "ReduceMax" => all.fold(f64::NEG_INFINITY, f64::max),
                "ReduceMin" => all.fold(f64::INFINITY, f64::min),
                _ => all.product(),
            }
        });
    }
    let left = (0..y.dims.len()).filter(|i| keep || !axes.contains(i)).map(|i| y.dims[i]);
    Array::new(&left.collect::<Vec<_>>(), y.data.clone())
}
