//! Gathering, padding and other selections.

use std::collections::HashMap;

use regoal::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use regoal::onnx::{Builder, Dim, OnnxError, Tensor, grad};

use crate::check::{exported, floats, int, ints, node, squares, worst_error, worst_errors};

const A: &[(&str, &[usize])] = &[("a", &[3, 4, 5])];

fn axis(axis: i64) -> Vec<AttributeProto> {
    vec![AttributeProto::int("axis", axis)]
}

/// Both derivatives of nodes that make `y` of `a` [3, 4, 5].
fn both(name: &str, opset: i64, nodes: Vec<NodeProto>, y: &[usize]) -> f64 {
    worst_errors(name, &squares(opset, nodes, A, y), &["a"])
}

/// Indices that no one knows before the graph runs.
fn at_run_time(dims: &[usize], indices: &[f32]) -> [NodeProto; 2] {
    let to = vec![AttributeProto::int("to", 7)];
    [floats("stored", dims, indices), node("Cast", &["stored"], "indices", to)]
}

#[test]
fn both_derivatives_of_slices_match_for_every_step() {
    let (mut worst, last, first): (f64, _, _) = (0.0, i64::MAX, i64::MIN);
    type Cut<'a> = (&'a [i64], &'a [i64], &'a [i64], &'a [i64], &'a [usize]);
    let cuts: [Cut; 9] = [
        (&[1], &[3], &[1], &[1], &[3, 2, 5]),
        (&[0, 1], &[2, -1], &[0, 2], &[1, 1], &[2, 4, 3]),
        (&[0], &[last], &[2], &[2], &[3, 4, 3]),
        (&[1], &[last], &[2], &[2], &[3, 4, 2]),
        (&[-4], &[last], &[-1], &[3], &[3, 4, 2]),
        (&[-1], &[first], &[1], &[-1], &[3, 4, 5]),
        (&[-1], &[first], &[2], &[-2], &[3, 4, 3]),
        (&[last], &[0], &[1], &[-2], &[3, 2, 5]),
        (&[2, 1, -1], &[first, 4, first], &[0, 1, 2], &[-2, 2, -3], &[2, 2, 2]),
    ];
    for (starts, ends, axes, steps, y) in cuts {
        let nodes = vec![
            ints("starts", starts),
            ints("ends", ends),
            ints("axes", axes),
            ints("steps", steps),
            node("Slice", &["a", "starts", "ends", "axes", "steps"], "y", vec![]),
        ];
        worst = worst.max(both(&format!("Slice {starts:?} {steps:?}"), 13, nodes, y));
    }
    println!("slices: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_gather_match_for_known_indices() {
    let mut worst: f64 = 0.0;
    for (indices, along, y) in [
        (&[0, 1][..], 0, &[2, 4, 5][..]),
        (&[3, -4, 3], 1, &[3, 3, 5]),
        (&[4, 2, 0], -1, &[3, 4, 3]),
        (&[-1], 1, &[3, 1, 5]),
    ] {
        let nodes = vec![ints("i", indices), node("Gather", &["a", "i"], "y", axis(along))];
        worst = worst.max(both(&format!("Gather {indices:?}"), 13, nodes, y));
    }
    let nodes = vec![int("i", 2), node("Gather", &["a", "i"], "y", axis(1))];
    worst = worst.max(both("Gather of one", 17, nodes, &[3, 5]));
    println!("Gather: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_an_embedding_match_in_every_lowering() {
    let mut worst: f64 = 0.0;
    // A small table is a product, a large one scatters from opset 16 on.
    for (rows, opset) in [(6, 13), (6, 18), (257, 15), (257, 16)] {
        let indices = [0.0, 3.0, 5.0, 3.0, -1.0, -6.0];
        let mut nodes = at_run_time(&[2, 3], &indices).to_vec();
        nodes.push(node("Gather", &["a", "indices"], "y", vec![]));
        let columns = if rows == 6 { 2 } else { 1 };
        let loss = squares(opset, nodes, &[("a", &[rows, columns])], &[2, 3, columns]);
        worst = worst.max(worst_errors(&format!("{rows} rows"), &loss, &["a"]));
    }
    for along in [1, 2] {
        let mut nodes = at_run_time(&[2], &[1.0, 1.0]).to_vec();
        nodes.push(node("Gather", &["a", "indices"], "y", axis(along)));
        let y: &[usize] = if along == 1 { &[3, 2, 5] } else { &[3, 4, 2] };
        worst = worst.max(both("Gather along an inner axis", 18, nodes, y));
    }
    println!("embeddings: worst relative error {worst:.1e}");
}

#[test]
fn gradients_go_to_the_rows_that_an_input_asks_for() {
    let mut b = Builder::new();
    let table = b.parameter("table", crate::check::random(&[4, 2], 1));
    let x = b.input("x", &[Dim::Fixed(3)]);
    let nodes = exported(
        Builder::OPSET,
        vec![
            node("Cast", &["x"], "i", vec![AttributeProto::int("to", 6)]),
            node("Gather", &["table", "i"], "rows", vec![]),
            node("Mul", &["rows", "rows"], "square", vec![]),
            node("ReduceSum", &["square"], "loss", vec![AttributeProto::int("keepdims", 0)]),
        ],
        &[("table", &[4, 2]), ("x", &[3])],
    );
    let loss = b.append(&nodes, &[("table", table), ("x", x)]).unwrap()[0];
    b.output("total", loss);
    let given = HashMap::from([("x".to_owned(), Tensor::new([3], [2.0, 0.0, 2.0]).unwrap())]);
    worst_error("rows by an input", &b.finish().unwrap(), &["table"], &given);
}

#[test]
fn both_derivatives_of_picked_elements_match_before_and_since_opset_16() {
    let mut worst: f64 = 0.0;
    for opset in [13, 15, 16, 21] {
        let indices = [0.0, 3.0, 3.0, 1.0, -1.0, 2.0, 0.0, 0.0];
        for (along, dims, y) in
            [(1, [2, 1, 4], [2, 1, 4]), (-1, [2, 4, 1], [2, 4, 1]), (0, [2, 2, 2], [2, 2, 2])]
        {
            let indices = if along == 0 { indices.map(|i| i % 2.0) } else { indices };
            let mut nodes = at_run_time(&dims, &indices).to_vec();
            nodes.push(node("GatherElements", &["a", "indices"], "y", axis(along)));
            worst = worst.max(both(&format!("GatherElements {opset}"), opset, nodes, &y));
        }
        for (largest, along, y) in [(1, -1, [3, 4, 2]), (0, 1, [3, 2, 5])] {
            let mut top = node("TopK", &["a", "k"], "y", axis(along));
            top.attribute.push(AttributeProto::int("largest", largest));
            top.output.push("places".into());
            worst =
                worst.max(both(&format!("TopK {opset}"), opset, vec![ints("k", &[2]), top], &y));
        }
    }
    println!("picked elements: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_replaced_elements_match() {
    let mut worst: f64 = 0.0;
    for reduction in ["none", "add"] {
        let mut attributes = axis(1);
        if reduction == "add" {
            attributes.push(AttributeProto::string("reduction", reduction));
        }
        let mut nodes = at_run_time(&[3, 2], &[0.0, 3.0, -1.0, 1.0, 2.0, 0.0]).to_vec();
        nodes.push(node("ScatterElements", &["a", "indices", "b"], "y", attributes));
        let loss = squares(18, nodes, &[("a", &[3, 4]), ("b", &[3, 2])], &[3, 4]);
        worst = worst.max(worst_errors(reduction, &loss, &["a", "b"]));
    }
    println!("ScatterElements: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_padding_and_repeating_match() {
    let mut worst: f64 = 0.0;
    for (opset, axes) in [(13, None), (18, None), (19, Some([2, -2])), (22, Some([2, -2]))] {
        let pads: &[i64] = if axes.is_some() { &[1, 0, 2, 3] } else { &[0, 0, 1, 0, 3, 2] };
        let mut inputs = vec!["a", "pads", "value"];
        inputs.extend(axes.map(|_| "axes"));
        let nodes = vec![
            ints("pads", pads),
            ints("axes", &axes.unwrap_or_default()),
            floats("value", &[], &[0.5]),
            node("Pad", &inputs, "y", vec![]),
        ];
        worst = worst.max(both(&format!("Pad {opset}"), opset, nodes, &[3, 7, 8]));
    }
    for (copies, y) in [(&[1, 1, 1][..], [3, 4, 5]), (&[2, 1, 3], [6, 4, 15])] {
        let nodes = vec![ints("copies", copies), node("Tile", &["a", "copies"], "y", vec![])];
        worst = worst.max(both("Tile", 13, nodes, &y));
    }
    println!("padding and repeating: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_of_triangles_and_remainders_match() {
    let mut worst: f64 = 0.0;
    for (upper, k) in [(1, 0), (0, 0), (1, 2), (0, -1)] {
        let upper = vec![AttributeProto::int("upper", upper)];
        let nodes = vec![int("k", k), node("Trilu", &["a", "k"], "y", upper)];
        worst = worst.max(both("Trilu", 14, nodes, &[3, 4, 5]));
    }
    let nodes = vec![node("Mod", &["a", "b"], "y", vec![AttributeProto::int("fmod", 1)])];
    let loss = squares(13, nodes, &[("a", &[3, 4]), ("b", &[4])], &[3, 4]);
    worst = worst.max(worst_errors("Mod", &loss, &["a", "b"]));
    println!("triangles and remainders: worst relative error {worst:.1e}");
}

#[test]
fn both_derivatives_pass_what_only_looks_like_an_operation() {
    let mut dropout = node("Dropout", &["a"], "kept", vec![]);
    dropout.output.push("mask".into());
    let nodes = vec![
        dropout,
        floats("float", &[1], &[0.0]),
        node("CastLike", &["kept", "float"], "y", vec![]),
    ];
    both("Dropout and CastLike", 15, nodes, &[3, 4, 5]);
}

#[test]
fn what_has_no_gradient_is_refused_with_the_reason() {
    let reflected = vec![
        ints("pads", &[1, 1]),
        node("Pad", &["a", "pads"], "y", vec![AttributeProto::string("mode", "reflect")]),
    ];
    let cases = [(reflected, "there is no rule for its mode `reflect`, only for `constant`")];
    for (mut nodes, says) in cases {
        let op = nodes.last().unwrap().op().to_owned();
        nodes.push(node("ReduceSum", &["y"], "loss", vec![AttributeProto::int("keepdims", 0)]));
        let mut b = Builder::with_opset(18);
        let loss = b.append(&exported(18, nodes, &[("a", &[3])]), &[]).unwrap()[0];
        let a = b.value("a").unwrap();
        let error = grad::gradients(&mut b, loss, &[a]).unwrap_err();
        assert_eq!(error, OnnxError::NoGradient { node: "y".into(), op, reason: says.into() });
    }
}

#[test]
fn dropout_is_refused_where_it_would_drop() {
    let refusal = |training: u8| {
        let stored = TensorProto {
            data_type: Some(9),
            raw_data: Some(vec![training].into()),
            ..TensorProto::default()
        };
        let nodes = vec![
            node("Constant", &[], "training", vec![AttributeProto::tensor("value", stored)]),
            node("Dropout", &["a", "", "training"], "y", vec![]),
        ];
        let loss = squares(18, nodes, &[("a", &[3])], &[3]);
        Builder::with_opset(18).append(&loss, &[]).map_err(|e| e.to_string()).err()
    };
    assert_eq!(refusal(0), None);
    let found = refusal(1).unwrap();
    assert!(found.contains("node `y` (Dropout): expected dropout as in inference"), "{found}");
}

#[test]
fn places_of_extrema_and_comparisons_carry_no_gradient() {
    for op in ["ArgMax", "ArgMin", "IsNaN", "IsInf", "Size"] {
        let nodes = vec![
            node(op, &["a"], "place", vec![]),
            node("Cast", &["place"], "number", vec![AttributeProto::int("to", 1)]),
            node("ReduceSum", &["number"], "loss", vec![AttributeProto::int("keepdims", 0)]),
        ];
        let mut b = Builder::with_opset(20);
        let loss = b.append(&exported(20, nodes, &[("a", &[3])]), &[]).unwrap()[0];
        let a = b.value("a").unwrap();
        assert_eq!(grad::gradients(&mut b, loss, &[a]).unwrap(), [None], "{op}");
    }
}
