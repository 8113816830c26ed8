//! Arithmetic, products, arrangements, sums: what multilayer perceptrons are made of.

use std::collections::HashMap;

use regoal::onnx::proto::AttributeProto;
use regoal::onnx::{Builder, Dim, OnnxError, Value, grad};

use crate::check::{exported, formula, node, penalty, random, worst_error};

type Formula = fn(&mut Builder, Value, Value) -> Value;

/// Formulas of `p` (4, 3) and `q`, by name and the dims of `q`.
const FORMULAS: &[(&str, &[usize], Formula)] = &[
    ("Add", &[4, 3], |b, p, q| b.add(p, q)),
    ("Add, a row", &[3], |b, p, q| b.add(p, q)),
    ("Add, a column", &[4, 1], |b, p, q| b.add(p, q)),
    ("Add, more axes", &[2, 1, 3], |b, p, q| b.add(p, q)),
    ("Add, a scalar", &[], |b, p, q| b.add(p, q)),
    ("Sub", &[1, 3], |b, p, q| b.sub(p, q)),
    ("Mul", &[4, 1], |b, p, q| b.mul(p, q)),
    ("Mul with itself", &[3], |b, p, q| {
        let s = b.mul(p, p);
        b.mul(s, q)
    }),
    ("Div", &[3], |b, p, q| {
        let d = b.exp(q);
        b.div(p, d)
    }),
    ("Min and Max", &[3], |b, p, q| {
        let low = b.min(p, q);
        let high = b.max(p, q);
        let s = b.exp(high);
        b.mul(low, s)
    }),
    ("Min and Max of equal inputs", &[4, 3], |b, p, q| {
        let twice = b.max(p, p);
        let least = b.min(twice, p);
        b.mul(least, q)
    }),
    ("Relu", &[4, 3], |b, p, q| {
        let s = b.add(p, q);
        b.relu(s)
    }),
    ("Tanh", &[4, 3], |b, p, q| {
        let s = b.mul(p, q);
        b.tanh(s)
    }),
    ("Sigmoid", &[4, 3], |b, p, q| {
        let s = b.mul(p, q);
        b.sigmoid(s)
    }),
    ("Softplus, Exp, Neg", &[4, 3], |b, p, q| {
        let s = b.softplus(p);
        let e = b.exp(q);
        let e = b.neg(e);
        b.mul(s, e)
    }),
    ("Log and Sqrt", &[4, 3], |b, p, q| {
        let p = b.exp(p);
        let q = b.exp(q);
        let l = b.log(p);
        let r = b.sqrt(q);
        b.mul(l, r)
    }),
    ("Abs", &[4, 3], |b, p, q| {
        let a = b.abs(p);
        b.mul(a, q)
    }),
    ("Clip", &[4, 3], |b, p, q| {
        let c = b.clip(p, -0.5, 0.8);
        b.mul(c, q)
    }),
    ("Identity", &[4, 3], |b, p, q| {
        let p = b.identity(p);
        b.mul(p, q)
    }),
    ("Concat", &[4, 2], |b, p, q| {
        let q = b.tanh(q);
        b.concat(&[p, q, p], 1)
    }),
    ("Concat of rows", &[1, 3], |b, p, q| b.concat(&[q, p], -2)),
    ("Slice", &[3], |b, p, q| {
        let s = b.slice(p, 0, 1, 3);
        b.mul(s, q)
    }),
    ("Slice from the end", &[4, 1], |b, p, q| {
        let s = b.slice(p, 1, -1, 100);
        b.mul(s, q)
    }),
    ("Split", &[4, 1], |b, p, q| {
        let s = b.split(p, 1, &[2, 1]);
        let t = b.mul(s[1], q);
        b.tanh(t)
    }),
    ("Reshape", &[2, 6], |b, p, q| {
        let p = b.reshape(p, &[2, -1]);
        b.mul(p, q)
    }),
    ("Transpose", &[3, 4], |b, p, q| {
        let p = b.transpose(p, &[1, 0]);
        b.mul(p, q)
    }),
    ("Expand", &[4, 1], |b, p, q| {
        let q = b.expand(q, &[2, 4, 3]);
        b.mul(p, q)
    }),
    ("MatMul", &[3, 5], |b, p, q| b.matmul(p, q)),
    ("MatMul of a stack", &[2, 3, 5], |b, p, q| b.matmul(p, q)),
    ("MatMul of a stack and a matrix", &[3, 5], |b, p, q| {
        let s = b.reshape(p, &[2, 2, 3]);
        b.matmul(s, q)
    }),
    ("Add, rows of a stack", &[1, 2, 3], |b, p, q| {
        let s = b.reshape(p, &[2, 2, 3]);
        b.add(s, q)
    }),
    ("MatMul of stacks", &[2, 1, 3, 4], |b, p, q| {
        let s = b.reshape(p, &[2, 2, 3]);
        let s = b.transpose(s, &[0, 2, 1]);
        let t = b.transpose(q, &[0, 1, 3, 2]);
        b.matmul(t, s)
    }),
    ("Gemm", &[3, 2], |b, p, q| {
        let bias = b.slice(q, 0, 0, 1);
        b.gemm(p, q, bias)
    }),
    ("ReduceSum", &[4], |b, p, q| {
        let s = b.reduce_sum(p, &[1], false);
        b.mul(s, q)
    }),
    ("ReduceSum, keeping", &[3], |b, p, q| {
        let s = b.reduce_sum(p, &[-2], true);
        b.mul(s, q)
    }),
    ("ReduceMean", &[3], |b, p, q| {
        let s = b.reduce_mean(p, &[0], false);
        b.mul(s, q)
    }),
    ("ReduceMean of all", &[3], |b, p, q| {
        let s = b.reduce_mean(p, &[], false);
        b.mul(s, q)
    }),
    ("LayerNormalization", &[3], |b, p, q| {
        let bias = b.tanh(q);
        b.layer_normalization(p, q, bias, 1e-5)
    }),
];

#[test]
fn gradients_of_every_operator_match_central_differences() {
    let mut worst: f64 = 0.0;
    for (name, q, f) in FORMULAS {
        let error = worst_error(name, &formula(q, f), &["p", "q"], &HashMap::new());
        worst = worst.max(error);
    }
    println!("{} formulas: worst relative error of a gradient {worst:.1e}", FORMULAS.len());
}

#[test]
fn second_derivatives_of_every_operator_match_central_differences() {
    let mut worst: f64 = 0.0;
    for (name, q, f) in FORMULAS {
        let loss = penalty(&formula(q, f), &["p", "q"]);
        worst = worst.max(worst_error(name, &loss, &["p", "q"], &HashMap::new()));
    }
    println!("{} formulas: worst relative error, second derivatives {worst:.1e}", FORMULAS.len());
}

#[test]
fn gradients_of_a_gradient_match_central_differences() {
    // Gradient penalty (Gulrajani et al., 2017): sum over samples of (|df/dx| - 1)^2.
    let mut b = Builder::new();
    let x = b.parameter("x", random(&[5, 4], 1));
    let (w, c) = (b.parameter("w", random(&[4, 6], 2)), b.parameter("c", random(&[6], 3)));
    let scale = b.parameter("scale", random(&[6], 4));
    let v = b.parameter("v", random(&[6, 1], 5));
    let h = b.gemm(x, w, c);
    let h = b.layer_normalization(h, scale, c, 1e-3);
    let h = b.tanh(h);
    let h = b.matmul(h, v);
    let h = b.softplus(h);
    let score = b.reduce_sum(h, &[], false);
    let slope = grad::gradients(&mut b, score, &[x]).unwrap()[0].unwrap();
    let square = b.mul(slope, slope);
    let norm = b.reduce_sum(square, &[1], false);
    let norm = b.sqrt(norm);
    let one = b.scalar(1.0);
    let over = b.sub(norm, one);
    let over = b.mul(over, over);
    let loss = b.reduce_mean(over, &[], false);
    b.output("loss", loss);
    let worst = worst_error(
        "gradient penalty",
        &b.finish().unwrap(),
        &["x", "w", "c", "scale", "v"],
        &HashMap::new(),
    );
    println!("second derivatives: worst relative error {worst:.1e}");
}

#[test]
fn gradients_of_gemm_match_for_every_transposition_and_factor() {
    let mut worst: f64 = 0.0;
    for (ta, tb) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let gemm = vec![
            AttributeProto::int("transA", ta),
            AttributeProto::int("transB", tb),
            AttributeProto::float("alpha", 0.7),
            AttributeProto::float("beta", 1.3),
        ];
        let nodes = vec![
            node("Gemm", &["a", "b", "c"], "g", gemm),
            node("Tanh", &["g"], "y", vec![]),
            node("Mul", &["y", "g"], "square", vec![]),
            node("ReduceSum", &["square"], "loss", vec![AttributeProto::int("keepdims", 0)]),
        ];
        let a: &[usize] = if ta == 0 { &[4, 3] } else { &[3, 4] };
        let b: &[usize] = if tb == 0 { &[3, 5] } else { &[5, 3] };
        for c in [&[5][..], &[4, 1], &[]] {
            let loss = exported(17, nodes.clone(), &[("a", a), ("b", b), ("c", c)]);
            worst = worst.max(worst_error(
                &format!("Gemm {ta}{tb}"),
                &loss,
                &["a", "b", "c"],
                &HashMap::new(),
            ));
        }
    }
    println!("Gemm: worst relative error of a gradient {worst:.1e}");
}

#[test]
fn gradients_of_older_opsets_operators_match() {
    let nodes = vec![
        node("Exp", &["a"], "e", vec![]),
        node("Reciprocal", &["e"], "r", vec![]),
        node("Sin", &["r"], "s", vec![]),
        node("Cos", &["a"], "t", vec![]),
        node("Mul", &["s", "t"], "m", vec![]),
        node("LayerNormalization", &["m", "b", "c"], "n", vec![AttributeProto::int("axis", -2)]),
        node("Flatten", &["n"], "f", vec![]),
        node("Mul", &["f", "f"], "square", vec![]),
        node(
            "ReduceMean",
            &["square"],
            "mean",
            vec![AttributeProto::ints("axes", &[1]), AttributeProto::int("keepdims", 0)],
        ),
        node("ReduceSum", &["mean"], "loss", vec![AttributeProto::int("keepdims", 0)]),
    ];
    let loss = exported(17, nodes, &[("a", &[2, 3, 4]), ("b", &[3, 4]), ("c", &[3, 4])]);
    let worst = worst_error("opset 17", &loss, &["a", "b", "c"], &HashMap::new());
    println!("opset 17: worst relative error of a gradient {worst:.1e}");
}

#[test]
fn an_operator_without_gradient_is_an_error_that_names_it() {
    let nodes = vec![
        node("Floor", &["a"], "floor_of_a", vec![]),
        node("ReduceSum", &["floor_of_a"], "loss", vec![AttributeProto::int("keepdims", 0)]),
    ];
    let loss = exported(18, nodes, &[("a", &[3])]);
    let mut b = Builder::new();
    let out = b.append(&loss, &[]).unwrap()[0];
    let a = b.value("a").unwrap();
    let error = grad::gradients(&mut b, out, &[a]).unwrap_err();
    let reason = "its derivative is 0 almost everywhere".into();
    let expected = OnnxError::NoGradient { node: "floor_of_a".into(), op: "Floor".into(), reason };
    assert_eq!(error, expected);
}

#[test]
fn doubles_on_the_way_are_an_error_and_not_a_silent_zero() {
    let nodes = vec![
        node("Cast", &["a"], "double", vec![AttributeProto::int("to", 11)]),
        node("Cast", &["double"], "single", vec![AttributeProto::int("to", 1)]),
        node("ReduceSum", &["single"], "loss", vec![AttributeProto::int("keepdims", 0)]),
    ];
    let loss = exported(18, nodes, &[("a", &[3])]);
    let mut b = Builder::new();
    let out = b.append(&loss, &[]).unwrap()[0];
    let a = b.value("a").unwrap();
    let error = grad::gradients(&mut b, out, &[a]).unwrap_err();
    let reason = "gradients flow through f32 only".into();
    let expected = OnnxError::NoGradient { node: "single".into(), op: "Cast".into(), reason };
    assert_eq!(error, expected);
}

#[test]
fn a_loss_that_does_not_depend_on_a_parameter_says_so() {
    let mut b = Builder::new();
    let p = b.parameter("p", random(&[2], 1));
    let q = b.parameter("q", random(&[2], 2));
    let x = b.input("x", &[Dim::Fixed(2)]);
    let y = b.mul(p, x);
    let loss = b.reduce_sum(y, &[], false);
    let found = grad::gradients(&mut b, loss, &[p, q]).unwrap();
    assert!(found[0].is_some() && found[1].is_none());
}
