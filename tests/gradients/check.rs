//! What every family of operators is checked with.

use std::collections::HashMap;

use prost::Message as _;
use regoal::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use regoal::onnx::{Builder, Graph, Tensor, Value, Verified, expand, grad};
use regoal::rng::{Stream, normal, stream};

use crate::common::engines;
use crate::reference::{self, Array};

const TOLERANCE: f64 = 1e-4;

pub fn random(dims: &[usize], seed: u64) -> Tensor {
    let mut rng = stream(seed, Stream::Weights);
    let count = dims.iter().product();
    Tensor::new(dims, (0..count).map(|_| normal(&mut rng) as f32).collect::<Vec<_>>()).unwrap()
}

/// The worst difference of any engine's gradients of `loss` from central differences, relative to
/// the largest element of the same tensor. `wrt` are initializers of the loss graph.
pub fn worst_error(
    name: &str,
    loss: &Graph,
    wrt: &[&str],
    inputs: &HashMap<String, Tensor>,
) -> f64 {
    let gradient_graph = differentiated(loss, wrt);
    let given: HashMap<String, Array> =
        inputs.iter().map(|(n, t)| (n.clone(), to_f64(t))).collect();
    let stored = loss.parameters().unwrap();
    let output = loss.outputs().unwrap()[0].name.clone();
    let mut worst: f64 = 0.0;
    for engine in engines() {
        let mut session = engine.load(&gradient_graph).unwrap();
        let feed: Vec<_> = inputs
            .iter()
            .map(|(n, t)| (n.as_str(), t.dims.as_slice(), t.data.as_slice()))
            .collect();
        let found = session.run(&feed).unwrap();
        for (parameter, gradient) in wrt.iter().zip(found) {
            let base = to_f64(&stored[*parameter]);
            let difference = |i: usize| {
                let step = 1e-5 * base.data[i].abs().max(1.0);
                let at = |sign: f64| {
                    let mut given = given.clone();
                    let mut moved = base.clone();
                    moved.data[i] += sign * step;
                    given.insert((*parameter).to_owned(), moved);
                    reference::run(loss, &given)[&output].data[0]
                };
                (at(1.0) - at(-1.0)) / (2.0 * step)
            };
            let want: Vec<f64> = (0..base.data.len()).map(difference).collect();
            let scale = want.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
            let error =
                want.iter().zip(&gradient.data).map(|(w, f)| (w - f64::from(*f)).abs() / scale);
            let error = error.fold(0.0, f64::max);
            assert!(
                error <= TOLERANCE,
                "{engine}: {name}: gradient of {parameter} is off by {error:.1e}: {want:?} and {:?}",
                gradient.data
            );
            worst = worst.max(error);
        }
    }
    worst
}

pub fn to_f64(tensor: &Tensor) -> Array {
    Array::new(&tensor.dims, tensor.data.iter().map(|x| f64::from(*x)).collect())
}

/// The graph of the gradients of `loss`, whose recurrent layers and equations are written out first.
pub fn differentiated(loss: &Graph, wrt: &[&str]) -> Verified {
    let loss = &expand(loss).unwrap();
    let mut b = Builder::with_opset(loss.opset());
    let outputs = b.append(loss, &[]).unwrap();
    let values: Vec<Value> = wrt.iter().map(|n| b.value(n).unwrap()).collect();
    let gradients = grad::gradients(&mut b, outputs[0], &values).unwrap();
    for (name, gradient) in wrt.iter().zip(gradients) {
        b.output(&format!("d_{name}"), gradient.expect("the loss depends on it"));
    }
    b.finish().unwrap().try_into().unwrap()
}

/// A loss over a formula of parameters `p` [4, 3] and `q`: its squares, each with its own weight, so
/// that no two elements have the same gradient.
pub fn formula(q: &[usize], f: impl Fn(&mut Builder, Value, Value) -> Value) -> Graph {
    let mut b = Builder::new();
    let (p, q) = (b.parameter("p", random(&[4, 3], 1)), b.parameter("q", random(q, 2)));
    let y = f(&mut b, p, q);
    let dims: Vec<usize> = b.dims(y).unwrap().iter().map(|d| d.at(1)).collect();
    let weights = b.constant(random(&dims, 3));
    let y = b.mul(y, weights);
    let shifted = b.constant(Tensor::scalar(0.3));
    let y = b.add(y, shifted);
    let square = b.mul(y, y);
    let loss = b.reduce_sum(square, &[], false);
    b.output("loss", loss);
    b.finish().unwrap()
}

/// The weighted squares of the gradients of a loss, so that its gradients are second derivatives.
pub fn penalty(loss: &Graph, wrt: &[&str]) -> Graph {
    let mut b = Builder::with_opset(loss.opset());
    let out = b.append(loss, &[]).unwrap()[0];
    let values: Vec<Value> = wrt.iter().map(|n| b.value(n).unwrap()).collect();
    let gradients = grad::gradients(&mut b, out, &values).unwrap();
    let mut total = b.constant(Tensor::scalar(0.0));
    for (i, gradient) in gradients.into_iter().flatten().enumerate() {
        let dims: Vec<usize> = b.dims(gradient).unwrap().iter().map(|d| d.at(1)).collect();
        let weights = b.constant(random(&dims, 20 + i as u64));
        let weighted = b.mul(gradient, weights);
        let square = b.mul(weighted, weighted);
        let sum = b.reduce_sum(square, &[], false);
        total = b.add(total, sum);
    }
    b.output("penalty", total);
    b.finish().unwrap()
}

/// A loss over `y`, which `nodes` make of the parameters; `w` is another parameter, of `y`'s shape.
pub fn squares(
    opset: i64,
    mut nodes: Vec<NodeProto>,
    parameters: &[(&str, &[usize])],
    y: &[usize],
) -> Graph {
    nodes.extend([
        node("Mul", &["y", "w"], "weighted", vec![]),
        node("Mul", &["weighted", "weighted"], "square", vec![]),
        node("ReduceSum", &["square"], "loss", vec![AttributeProto::int("keepdims", 0)]),
    ]);
    exported(opset, nodes, &[parameters, &[("w", y)]].concat())
}

/// The worst errors of the first and of the second derivatives.
pub fn worst_errors(name: &str, loss: &Graph, wrt: &[&str]) -> f64 {
    let nothing = HashMap::new();
    let first = worst_error(name, loss, wrt, &nothing);
    first.max(worst_error(&format!("{name}, twice"), &penalty(loss, wrt), wrt, &nothing))
}

/// A constant of one axis.
pub fn ints(name: &str, values: &[i64]) -> NodeProto {
    constant(name, 7, &[values.len()], values.iter().flat_map(|i| i.to_le_bytes()).collect())
}

/// A constant int64 without axes.
pub fn int(name: &str, value: i64) -> NodeProto {
    constant(name, 7, &[], value.to_le_bytes().to_vec())
}

/// A constant of floats.
pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> NodeProto {
    constant(name, 1, dims, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn constant(name: &str, data_type: i32, dims: &[usize], raw: Vec<u8>) -> NodeProto {
    let tensor = TensorProto {
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    };
    node("Constant", &[], name, vec![AttributeProto::tensor("value", tensor)])
}

pub fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

pub fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
    let dim = |n: &usize| DimensionProto { dim_value: Some(*n as i64), ..Default::default() };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(1), shape });
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { tensor_type, ..Default::default() }),
        ..Default::default()
    }
}

/// A file as an exporter would write it: `y` of these nodes over parameters `a`, `b`, `c`.
pub fn exported(opset: i64, nodes: Vec<NodeProto>, parameters: &[(&str, &[usize])]) -> Graph {
    let stored = |(i, (name, dims)): (usize, &(&str, &[usize]))| TensorProto {
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: Some(1),
        name: Some((*name).into()),
        float_data: random(dims, 10 + i as u64).data,
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: nodes,
        initializer: parameters.iter().enumerate().map(stored).collect(),
        output: vec![value("loss", &[])],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(opset) };
    let model = ModelProto {
        graph: Some(graph),
        opset_import: vec![opset],
        ir_version: Some(8),
        ..Default::default()
    };
    Graph::from_bytes(&model.encode_to_vec()).unwrap()
}
