//! Recurrent layers, Einsum and root mean square normalisation: operators that are written out as
//! plain nodes before they are differentiated.

use std::collections::HashMap;

use prost::Message as _;
use regoal::onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};
use regoal::onnx::{Graph, OnnxError, Verified, expand, grad};

use crate::check::{exported, node, to_f64, value, worst_error};
use crate::common::engines;
use crate::reference;

/// Steps, samples, inputs, hidden size.
const T: usize = 3;
const N: usize = 2;
const I: usize = 3;
const H: usize = 2;

/// A recurrent layer as exporters write it.
#[derive(Debug, Clone)]
struct Layer {
    op: &'static str,
    direction: &'static str,
    batch_first: bool,
    /// With biases and initial states.
    full: bool,
    attributes: Vec<AttributeProto>,
}

/// Every cell in every direction.
fn layers(batch_first: bool, full: bool) -> Vec<Layer> {
    let mut all = Vec::new();
    for direction in ["forward", "bidirectional"] {
        let cells = [
            ("RNN", vec![]),
            ("GRU", vec![]),
            ("GRU", vec![AttributeProto::int("linear_before_reset", 1)]),
            ("LSTM", vec![]),
        ];
        for (op, attributes) in cells {
            all.push(Layer { op, direction, batch_first, full, attributes });
        }
    }
    all
}

impl Layer {
    fn directions(&self) -> usize {
        if self.direction == "bidirectional" { 2 } else { 1 }
    }

    /// The parameters' names and dims, those of the outputs' weights last.
    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (d, gates) = (self.directions(), [("RNN", 1), ("GRU", 3), ("LSTM", 4)]);
        let rows = H * gates.iter().find(|(op, _)| *op == self.op).unwrap().1;
        let (x, y, last) = if self.batch_first {
            (vec![N, T, I], vec![N, T, d, H], vec![N, d, H])
        } else {
            (vec![T, N, I], vec![T, d, N, H], vec![d, N, H])
        };
        let mut all = vec![("x", x), ("w", vec![d, rows, I]), ("r", vec![d, rows, H])];
        if self.full {
            all.extend([("b", vec![d, 2 * rows]), ("h0", last.clone())]);
        }
        if self.full && self.op == "LSTM" {
            all.push(("c0", last.clone()));
        }
        all.extend([("y_weight", y), ("h_weight", last.clone())]);
        if self.op == "LSTM" {
            all.push(("c_weight", last));
        }
        all
    }

    fn node(&self) -> NodeProto {
        let inputs: &[&str] = match (self.full, self.op) {
            (false, _) => &["x", "w", "r"],
            (true, "LSTM") => &["x", "w", "r", "b", "", "h0", "c0"],
            (true, _) => &["x", "w", "r", "b", "", "h0"],
        };
        let mut node = node(self.op, inputs, "y", self.attributes.clone());
        node.attribute.push(AttributeProto::int("hidden_size", H as i64));
        node.attribute.push(AttributeProto::string("direction", self.direction));
        if self.batch_first {
            node.attribute.push(AttributeProto::int("layout", 1));
        }
        node.output.push("h".into());
        if self.op == "LSTM" {
            node.output.push("c".into());
        }
        node
    }

    /// The sum of all outputs, each element with its own weight.
    fn loss(&self) -> Graph {
        let node_ = self.node();
        let mut nodes = vec![node_.clone()];
        for output in &node_.output {
            let (part, sum) = (format!("{output}_part"), format!("{output}_sum"));
            nodes.push(node("Mul", &[output, &format!("{output}_weight")], &part, vec![]));
            let flag = vec![AttributeProto::int("keepdims", 0)];
            nodes.push(node("ReduceSum", &[&part], &sum, flag));
        }
        let mut total = "y_sum".to_owned();
        for output in node_.output.iter().skip(1) {
            let next =
                if *output == node_.output[node_.output.len() - 1] { "loss" } else { "some" };
            nodes.push(node("Add", &[&total, &format!("{output}_sum")], next, vec![]));
            total = next.into();
        }
        self.file(nodes)
    }

    fn file(&self, nodes: Vec<NodeProto>) -> Graph {
        let parameters = self.parameters();
        let parameters: Vec<_> = parameters.iter().map(|(n, d)| (*n, d.as_slice())).collect();
        // Engines know the attribute `layout` since opset 14.
        exported(14, nodes, &parameters)
    }

    /// The layer alone, giving all of its outputs.
    fn alone(&self) -> Graph {
        let outputs = self.node().output;
        let weights: HashMap<_, _> = self.parameters().into_iter().collect();
        let infos = outputs.iter().map(|o| value(o, &weights[format!("{o}_weight").as_str()]));
        edit(&self.file(vec![self.node()]), |model| {
            model.graph.as_mut().unwrap().output = infos.collect();
        })
    }
}

fn edit(graph: &Graph, change: impl FnOnce(&mut ModelProto)) -> Graph {
    let mut model = ModelProto::decode(graph.to_bytes().as_slice()).unwrap();
    change(&mut model);
    Graph::from_bytes(&model.encode_to_vec()).unwrap()
}

/// The largest difference of any engine's outputs of `graph` from the reference's of `want`.
fn worst_difference(graph: &Graph, want: &Graph) -> f64 {
    let want = reference::run(want, &HashMap::new());
    let verified = Verified::try_from(graph.clone()).unwrap();
    let mut worst: f64 = 0.0;
    for engine in engines() {
        let found = engine.load(&verified).unwrap().run(&[]).unwrap();
        for (output, found) in graph.outputs().unwrap().iter().zip(&found) {
            let (want, found) = (&want[&output.name], to_f64(found));
            assert_eq!(want.dims, found.dims, "{engine}: {}", output.name);
            let errors = want.data.iter().zip(&found.data).map(|(w, f)| (w - f).abs());
            let error = errors.fold(0.0, f64::max);
            worst = worst.max(error);
        }
    }
    worst
}

#[test]
fn a_written_out_layer_computes_the_same_as_the_layer() {
    let (mut own, mut written) = (0.0f64, 0.0f64);
    for layer in [layers(false, true), layers(false, false), layers(true, true)].concat() {
        let alone = layer.alone();
        let error = worst_difference(&expand(&alone).unwrap(), &alone);
        assert!(error < 1e-5, "{layer:?}: {error:.1e}");
        written = written.max(error);
        // ONNX Runtime has no layers with the batch first.
        if !layer.batch_first {
            let error = worst_difference(&alone, &alone);
            assert!(error < 1e-5, "{layer:?} itself: {error:.1e}");
            own = own.max(error);
        }
    }
    println!("layers differ from f64 by {own:.1e} as one node, by {written:.1e} written out");
}

#[test]
fn gradients_of_every_recurrent_layer_match() {
    let mut worst: f64 = 0.0;
    for layer in [layers(false, true), layers(false, false), layers(true, true)].concat() {
        let wrt: Vec<&str> = layer.parameters().iter().map(|(name, _)| *name).collect();
        let name = format!("{layer:?}");
        worst = worst.max(worst_error(&name, &layer.loss(), &wrt, &HashMap::new()));
    }
    println!("recurrent layers: worst relative error of a gradient {worst:.1e}");
}

#[test]
fn what_a_layer_cannot_be_written_out_with_is_refused_by_name() {
    let lstm = layers(false, true).into_iter().find(|l| l.op == "LSTM").unwrap().alone();
    type Damage = fn(&mut NodeProto);
    let cases: &[(Damage, &str)] = &[
        (|n| n.attribute.push(AttributeProto::float("clip", 1.0)), "expected no clip"),
        (|n| n.attribute.push(AttributeProto::int("input_forget", 1)), "found input_forget"),
        (
            |n| n.attribute.push(AttributeProto::strings("activations", &["Sigmoid"; 3])),
            r#"expected activations ["Sigmoid", "Tanh", "Tanh"], found"#,
        ),
        (|n| n.input.push("peepholes".into()), "expected no peephole weights"),
        (|n| n.input[4] = "short".into(), "sequence_lens of 2 times 3, or none, found [3, 2]"),
        (|n| n.input[4] = "computed".into(), "found lengths computed at run time"),
        (
            |n| n.attribute.push(AttributeProto::strings("activations", &["Sigmoid", "Tanh"])),
            r#"expected activations ["Sigmoid", "Tanh", "Tanh"], found ["Sigmoid", "Tanh"]"#,
        ),
        (
            |n| n.attribute.push(AttributeProto::string("direction", "reverse")),
            "expected direction forward or bidirectional, found reverse",
        ),
        (|n| n.input[3] = "h0".into(), "B of dims"),
    ];
    for (damage, says) in cases {
        let damaged = with_lengths(&lstm, damage);
        let found = expand(&damaged).unwrap_err().to_string();
        assert!(found.starts_with("node `y` (LSTM): "), "{found}");
        assert!(found.contains(says), "{found}\nshould say\n{says}");
    }
    let full = with_lengths(&lstm, |n| n.input[4] = "full".into());
    assert!(worst_difference(&expand(&full).unwrap(), &lstm) < 1e-5);
}

/// The graph with its first node changed, and with more values that it may use.
fn with_lengths(graph: &Graph, change: impl Fn(&mut NodeProto)) -> Graph {
    let lengths = |name: &str, values: &[i32]| TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(6),
        name: Some(name.into()),
        int32_data: values.to_vec(),
        ..TensorProto::default()
    };
    edit(graph, |model| {
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.extend([lengths("full", &[3, 3]), lengths("short", &[3, 2])]);
        graph.initializer.push(TensorProto {
            dims: vec![1, 3 * H as i64],
            data_type: Some(1),
            name: Some("peepholes".into()),
            float_data: vec![0.0; 3 * H],
            ..TensorProto::default()
        });
        let direction = |a: &AttributeProto| a.name.as_deref() == Some("direction");
        graph.node[0].attribute.retain(|a| !direction(a));
        change(&mut graph.node[0]);
        graph.node.insert(0, node("Identity", &["full"], "computed", vec![]));
    })
}

#[test]
fn a_layer_that_was_not_written_out_has_no_gradient() {
    let loss = layers(false, true)[3].loss();
    let mut b = regoal::onnx::Builder::with_opset(loss.opset());
    let out = b.append(&loss, &[]).unwrap()[0];
    let x = b.value("x").unwrap();
    let error = grad::gradients(&mut b, out, &[x]).unwrap_err();
    let reason = "it must be written out by `expand` first".into();
    assert_eq!(error, OnnxError::NoGradient { node: "y".into(), op: "LSTM".into(), reason });
}

/// Equations with the dims of their operands.
const EQUATIONS: &[(&str, &[&[usize]])] = &[
    ("ij,jk->ik", &[&[2, 3], &[3, 4]]),
    ("ij,kj->ki", &[&[2, 3], &[4, 3]]),
    ("bqhd,bkhd->bhqk", &[&[2, 3, 2, 2], &[2, 4, 2, 2]]),
    ("bhqk,bkhd->bqhd", &[&[2, 2, 3, 4], &[2, 4, 2, 3]]),
    ("btd,dhk->bthk", &[&[2, 3, 4], &[4, 2, 2]]),
    ("bthk,hkd->btd", &[&[2, 3, 2, 2], &[2, 2, 3]]),
    ("bi,bi->b", &[&[3, 4], &[3, 4]]),
    ("bi,bi->bi", &[&[3, 4], &[3, 4]]),
    ("i,j->ji", &[&[3], &[4]]),
    ("ijk,jl->kl", &[&[2, 3, 4], &[3, 2]]),
    ("...ij,...jk->...ik", &[&[2, 1, 2, 3], &[2, 3, 3, 2]]),
    ("ij,ij->", &[&[2, 3], &[2, 3]]),
    ("ijk->ki", &[&[2, 3, 4]]),
    ("ijk->k", &[&[2, 3, 4]]),
    ("i,i->", &[&[3], &[3]]),
    ("ij,->ij", &[&[2, 3], &[]]),
    ("...ij,...kj->...ik", &[&[2, 2, 3], &[2, 4, 3]]),
    ("a...b->b...a", &[&[2, 3, 4]]),
];

/// The weighted sum of the squares of an equation's result.
fn equation_loss(text: &str, dims: &[&[usize]]) -> Graph {
    let names = ["a", "b"];
    let inputs = &names[..dims.len()];
    let nodes = vec![
        node("Einsum", inputs, "e", vec![AttributeProto::string("equation", text)]),
        node("Mul", &["e", "e"], "square", vec![]),
        node("Tanh", &["square"], "bent", vec![]),
        node("ReduceSum", &["bent"], "loss", vec![AttributeProto::int("keepdims", 0)]),
    ];
    let parameters: Vec<_> = inputs.iter().copied().zip(dims.iter().copied()).collect();
    exported(17, nodes, &parameters)
}

#[test]
fn gradients_of_einsum_match_and_a_written_out_equation_computes_the_same() {
    let (mut worst, mut apart) = (0.0f64, 0.0f64);
    for (text, dims) in EQUATIONS {
        let loss = equation_loss(text, dims);
        let written = expand(&loss).unwrap();
        // tract does not broadcast the axes of an ellipsis, and says so.
        let alone = (*text != "...ij,...jk->...ik").then_some(&loss);
        for graph in alone.into_iter().chain([&written]) {
            let error = worst_difference(graph, &loss);
            assert!(error < 1e-5, "{text}: {error:.1e}");
            apart = apart.max(error);
        }
        worst = worst.max(worst_error(text, &loss, &["a", "b"][..dims.len()], &HashMap::new()));
    }
    println!("{} equations: off by {apart:.1e}, gradients {worst:.1e}", EQUATIONS.len());
}

#[test]
fn equations_that_cannot_be_written_out_are_refused_by_name() {
    let refusal = |text: &str, dims: &[&[usize]]| {
        let loss = edit(&equation_loss(text, &dims[..dims.len().min(2)]), |model| {
            if dims.len() > 2 {
                model.graph.as_mut().unwrap().node[0].input.push("a".into());
            }
        });
        expand(&loss).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("ii->i", &[&[3, 3]]),
        "node `e` (Einsum): expected a valid equation, found `ii->i`: expected no diagonals"
    );
    assert_eq!(
        refusal("ij,jk,il->kl", &[&[2, 3], &[3, 4], &[2, 3]]),
        "node `e` (Einsum): expected one or two operands, found `ij,jk,il->kl` of 3"
    );
    assert!(refusal("ij->", &[&[2, 3]]).contains("expected an axis in the output"));
    assert!(refusal("...i,i->...", &[&[2, 3], &[3]]).contains("an ellipsis of 1 axes in every"));
    assert!(refusal("ij,ik->jk", &[&[2, 3], &[3, 4]]).contains("expected one size for"));
}

#[test]
fn gradients_of_layer_normalization_s_statistics_match() {
    let mut worst: f64 = 0.0;
    for used in [&["n", "m", "s"][..], &["n", "s"], &["m"], &["s"], &["m", "s"]] {
        let mut norm = node("LayerNormalization", &["a", "b", "c"], "n", vec![]);
        norm.attribute.push(AttributeProto::int("axis", 1));
        norm.output.extend(["m".into(), "s".into()]);
        let mut nodes = vec![norm];
        let mut total = "c_sum".to_owned();
        let flag = || vec![AttributeProto::int("keepdims", 0)];
        nodes.push(node("Mul", &["b", "c"], "bc", vec![]));
        nodes.push(node("ReduceSum", &["bc"], "c_sum", flag()));
        for (i, output) in used.iter().enumerate() {
            let [square, part, sum] = ["square", "part", "sum"].map(|w| format!("{output}_{w}"));
            nodes.push(node("Mul", &[output, output], &square, vec![]));
            nodes.push(node("Mul", &[&square, &format!("{output}_weight")], &part, vec![]));
            nodes.push(node("ReduceSum", &[&part], &sum, flag()));
            let next = if i + 1 == used.len() { "loss".into() } else { format!("{output}_total") };
            nodes.push(node("Add", &[&total, &sum], &next, vec![]));
            total = next;
        }
        let parameters: &[(&str, &[usize])] = &[
            ("a", &[2, 3, 4]),
            ("b", &[3, 4]),
            ("c", &[3, 4]),
            ("n_weight", &[2, 3, 4]),
            ("m_weight", &[2, 1, 1]),
            ("s_weight", &[2, 1, 1]),
        ];
        let loss = exported(17, nodes, parameters);
        let name = format!("LayerNormalization, {used:?}");
        worst = worst.max(worst_error(&name, &loss, &["a", "b", "c"], &HashMap::new()));
    }
    println!("LayerNormalization's statistics: worst relative error of a gradient {worst:.1e}");
}
