//! Activations, softmax and reductions.

use regoal::onnx::OnnxError;
use regoal::onnx::proto::AttributeProto;
use regoal::onnx::{Builder, grad};

use crate::check::{exported, floats, int, ints, node, squares, worst_errors};

fn float(name: &str, value: f32) -> Vec<AttributeProto> {
    vec![AttributeProto::float(name, value)]
}

/// Activations of one input, with attributes; all are valid in opset 20.
fn activations() -> Vec<(&'static str, Vec<AttributeProto>)> {
    let tanh = vec![AttributeProto::string("approximate", "tanh")];
    let limits = vec![AttributeProto::float("alpha", 0.3), AttributeProto::float("beta", 0.45)];
    let selu = vec![AttributeProto::float("alpha", 1.2), AttributeProto::float("gamma", 0.9)];
    let plain = [
        "Abs",
        "Asinh",
        "Atan",
        "Celu",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Relu",
        "Selu",
        "Sigmoid",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    ];
    let mut all: Vec<_> = plain.iter().map(|op| (*op, vec![])).collect();
    all.extend([
        ("Elu", float("alpha", 1.4)),
        ("Gelu", tanh),
        ("HardSigmoid", limits),
        ("LeakyRelu", float("alpha", 0.2)),
        ("LeakyRelu", float("alpha", 1.7)),
        ("Selu", selu),
        ("ThresholdedRelu", float("alpha", 0.4)),
    ]);
    all
}

#[test]
fn both_derivatives_of_every_activation_match_central_differences() {
    let mut worst: f64 = 0.0;
    for (op, attributes) in activations() {
        let nodes = vec![node(op, &["a"], "y", attributes)];
        let loss = squares(20, nodes, &[("a", &[4, 5])], &[4, 5]);
        worst = worst.max(worst_errors(op, &loss, &["a"]));
    }
    println!("activations: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_functions_of_a_part_of_the_line_match() {
    let mut worst: f64 = 0.0;
    for op in ["Acos", "Asin", "Atanh", "Acosh", "Log", "Sqrt", "Reciprocal"] {
        let inside = matches!(op, "Acos" | "Asin" | "Atanh");
        let nodes = vec![
            floats("scale", &[], &[if inside { 0.7 } else { 1.0 }]),
            floats("shift", &[], &[if inside { 0.0 } else { 1.2 }]),
            node(if inside { "Tanh" } else { "Exp" }, &["a"], "inner", vec![]),
            node("Mul", &["inner", "scale"], "scaled", vec![]),
            node("Add", &["scaled", "shift"], "x", vec![]),
            node(op, &["x"], "y", vec![]),
        ];
        let loss = squares(15, nodes, &[("a", &[3, 4])], &[3, 4]);
        worst = worst.max(worst_errors(op, &loss, &["a"]));
    }
    println!("functions of a part of the line: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_powers_match_for_every_kind_of_exponent() {
    let mut worst: f64 = 0.0;
    for power in [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 2.5] {
        let whole = power > 0.0 && power == f32::trunc(power);
        let nodes = vec![
            floats("p", &[], &[power]),
            node(if whole { "Identity" } else { "Exp" }, &["a"], "x", vec![]),
            node("Pow", &["x", "p"], "y", vec![]),
        ];
        let loss = squares(13, nodes, &[("a", &[3, 4])], &[3, 4]);
        worst = worst.max(worst_errors(&format!("x^{power}"), &loss, &["a"]));
    }
    let nodes = vec![node("Exp", &["a"], "x", vec![]), node("Pow", &["x", "p"], "y", vec![])];
    let loss = squares(15, nodes, &[("a", &[3, 4]), ("p", &[4])], &[3, 4]);
    worst = worst.max(worst_errors("x^p", &loss, &["a", "p"]));
    println!("powers: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_match_where_several_inputs_broadcast() {
    let any = |op: &str| vec![node(op, &["a", "b", "c"], "y", vec![])];
    let mut worst: f64 = 0.0;
    for op in ["Max", "Min", "Mean", "Sum"] {
        let parameters: &[(&str, &[usize])] = &[("a", &[3, 4]), ("b", &[4]), ("c", &[2, 1, 1])];
        let loss = squares(13, any(op), parameters, &[2, 3, 4]);
        worst = worst.max(worst_errors(op, &loss, &["a", "b", "c"]));
        // Compared with a constant, and the whole node a copy.
        let loss = squares(13, any(op), parameters, &[2, 3, 4]);
        worst = worst.max(worst_errors(op, &loss, &["a"]));
        let loss = squares(13, vec![node(op, &["a"], "y", vec![])], &[("a", &[3])], &[3]);
        worst = worst.max(worst_errors(op, &loss, &["a"]));
    }
    for slope in [&[3, 4][..], &[4], &[3, 1], &[1]] {
        let nodes = vec![node("PRelu", &["a", "b"], "y", vec![])];
        let loss = squares(16, nodes, &[("a", &[3, 4]), ("b", slope)], &[3, 4]);
        worst = worst.max(worst_errors("PRelu", &loss, &["a", "b"]));
    }
    let zero = floats("zero", &[], &[0.0]);
    let chosen = vec![
        zero,
        node("Greater", &["c", "zero"], "positive", vec![]),
        node("Where", &["positive", "a", "b"], "y", vec![]),
    ];
    let parameters: &[(&str, &[usize])] = &[("a", &[3, 1]), ("b", &[4]), ("c", &[2, 1, 4])];
    worst =
        worst.max(worst_errors("Where", &squares(13, chosen, parameters, &[2, 3, 4]), &["a", "b"]));
    println!("several inputs: worst relative error {worst:.1e}");
}

#[test]
fn clip_without_a_limit_lets_gradients_through() {
    let mut worst: f64 = 0.0;
    for inputs in [&["a"][..], &["a", "low"], &["a", "", "high"]] {
        let nodes = vec![
            floats("low", &[], &[-0.3]),
            floats("high", &[], &[0.4]),
            node("Clip", inputs, "y", vec![]),
        ];
        let loss = squares(13, nodes, &[("a", &[3, 4])], &[3, 4]);
        worst = worst.max(worst_errors("Clip", &loss, &["a"]));
    }
    println!("Clip: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_softmax_match_along_every_axis() {
    let mut worst: f64 = 0.0;
    for op in ["Softmax", "LogSoftmax"] {
        for axis in [0, 1, 2, -1] {
            let nodes = vec![node(op, &["a"], "y", vec![AttributeProto::int("axis", axis)])];
            let loss = squares(13, nodes, &[("a", &[2, 3, 4])], &[2, 3, 4]);
            worst = worst.max(worst_errors(op, &loss, &["a"]));
        }
        let nodes = vec![node(op, &["a"], "y", vec![])];
        worst =
            worst.max(worst_errors(op, &squares(18, nodes, &[("a", &[3, 4])], &[3, 4]), &["a"]));
    }
    println!("softmax: worst relative error {worst:.1e}");
}

pub const REDUCTIONS: [&str; 10] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

#[test]
fn both_derivatives_of_every_reduction_match_with_axes_as_attribute_and_as_input() {
    let mut worst: f64 = 0.0;
    for op in REDUCTIONS {
        for (opset, axes, keep, dims) in [
            (13, &[1][..], 1, &[2, 1, 4][..]),
            (17, &[0, -1], 0, &[3]),
            (17, &[], 0, &[]),
            (18, &[-2], 0, &[2, 4]),
            (22, &[2, 0], 1, &[1, 3, 1]),
            (20, &[], 1, &[1, 1, 1]),
        ] {
            let mut attributes = vec![AttributeProto::int("keepdims", keep)];
            let mut inputs = vec!["x"];
            if !axes.is_empty() && (op == "ReduceSum" || opset >= 18) {
                inputs.push("axes");
            } else if !axes.is_empty() {
                attributes.push(AttributeProto::ints("axes", axes));
            }
            let first = if op == "ReduceLogSum" { "Exp" } else { "Identity" };
            let nodes = vec![
                ints("axes", axes),
                node(first, &["a"], "x", vec![]),
                node(op, &inputs, "y", attributes),
            ];
            let loss = squares(opset, nodes, &[("a", &[2, 3, 4])], dims);
            worst = worst.max(worst_errors(&format!("{op} {opset}"), &loss, &["a"]));
        }
    }
    println!("reductions: worst relative error {worst:.1e}");
}

#[test]
fn a_product_with_zeros_and_a_norm_at_the_origin_have_gradients() {
    for (op, values, expected) in [
        ("ReduceProd", [0.0, 3.0, 4.0], [12.0, 0.0, 0.0]),
        ("ReduceProd", [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]),
        ("ReduceProd", [2.0, 3.0, 4.0], [12.0, 8.0, 6.0]),
        ("ReduceL2", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ("ReduceMax", [1.0, 2.0, 2.0], [0.0, 0.5, 0.5]),
        ("ReduceMin", [1.0, 1.0, 2.0], [0.5, 0.5, 0.0]),
        ("ReduceL1", [0.0, -2.0, 2.0], [0.0, -1.0, 1.0]),
    ] {
        let nodes = vec![node(op, &["a"], "loss", vec![AttributeProto::int("keepdims", 0)])];
        let mut b = Builder::with_opset(18);
        let loss = b.append(&exported(18, nodes, &[("a", &[3])]), &[]).unwrap()[0];
        let a = b.value("a").unwrap();
        let gradient = grad::gradients(&mut b, loss, &[a]).unwrap()[0].unwrap();
        b.output("gradient", gradient);
        let mut graph = b.finish().unwrap();
        let new = [("a".to_owned(), regoal::onnx::Tensor::new([3], values).unwrap())];
        graph = graph.with_parameters(&new.into()).unwrap();
        for engine in crate::common::engines() {
            let graph = graph.clone().try_into().unwrap();
            let found = engine.load(&graph).unwrap().run(&[]).unwrap();
            let found = found.iter().find(|t| t.dims == [3]).unwrap();
            assert_eq!(found.data, expected, "{engine}: {op} of {values:?}");
        }
    }
}

#[test]
fn both_derivatives_of_running_sums_match() {
    let mut worst: f64 = 0.0;
    for (axis, exclusive, reverse) in [(0, 0, 0), (1, 1, 0), (-1, 0, 1), (1, 1, 1)] {
        let flags = vec![
            AttributeProto::int("exclusive", exclusive),
            AttributeProto::int("reverse", reverse),
        ];
        let nodes = vec![int("axis", axis), node("CumSum", &["a", "axis"], "y", flags)];
        let loss = squares(14, nodes, &[("a", &[3, 4])], &[3, 4]);
        worst = worst.max(worst_errors("CumSum", &loss, &["a"]));
    }
    println!("running sums: worst relative error {worst:.1e}");
}

#[test]
fn steps_are_refused_with_the_reason() {
    for op in ["Ceil", "Floor", "Round"] {
        let nodes = vec![
            node(op, &["a"], "y", vec![]),
            node("ReduceSum", &["y"], "loss", vec![AttributeProto::int("keepdims", 0)]),
        ];
        let mut b = Builder::with_opset(18);
        let loss = b.append(&exported(18, nodes, &[("a", &[3])]), &[]).unwrap()[0];
        let a = b.value("a").unwrap();
        let error = grad::gradients(&mut b, loss, &[a]).unwrap_err();
        let reason = "its derivative is 0 almost everywhere".into();
        assert_eq!(error, OnnxError::NoGradient { node: "y".into(), op: op.into(), reason });
    }
}
