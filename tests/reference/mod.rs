//! A second, slow reading of ONNX in f64: what gradients are checked against.

mod activation;
mod conv;
mod recurrent;
mod select;

use std::collections::HashMap;

use regoal::onnx::Graph;
use regoal::onnx::proto::{NodeProto, TensorProto};

/// A dense f64 array, row-major. Integers and bools are kept as f64, too.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn new(dims: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), data.len(), "{dims:?}");
        Self { dims: dims.to_vec(), data }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(&self.dims, self.data.iter().map(|x| f(*x)).collect())
    }

    /// An array of `dims` whose element at each index is `f(index)`.
    fn build(dims: &[usize], f: impl Fn(&[usize]) -> f64) -> Self {
        let count = dims.iter().product();
        let data = (0..count).map(|flat| f(&unravel(flat, dims))).collect();
        Self::new(dims, data)
    }

    /// The element at the end of `index`, with axes of size 1 repeated.
    fn at(&self, index: &[usize]) -> f64 {
        let tail = &index[index.len() - self.dims.len()..];
        let flat = self
            .dims
            .iter()
            .zip(tail)
            .fold(0, |flat, (n, i)| flat * n + if *n == 1 { 0 } else { *i });
        self.data[flat]
    }

    fn ints(&self) -> Vec<i64> {
        self.data.iter().map(|x| *x as i64).collect()
    }
}

fn unravel(mut flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, n) in dims.iter().enumerate().rev() {
        index[i] = flat % n;
        flat /= n;
    }
    index
}

fn broadcast(all: &[&Array], f: impl Fn(&[f64]) -> f64) -> Array {
    let rank = all.iter().map(|a| a.dims.len()).max().unwrap();
    let size = |a: &Array, i: usize| (i + a.dims.len()).checked_sub(rank).map_or(1, |i| a.dims[i]);
    let dims: Vec<usize> =
        (0..rank).map(|i| all.iter().map(|a| size(a, i)).max().unwrap()).collect();
    Array::build(&dims, |index| f(&all.iter().map(|a| a.at(index)).collect::<Vec<_>>()))
}

pub fn stored(tensor: &TensorProto) -> Array {
    let dims: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
    let raw = tensor.raw_data.as_deref().unwrap();
    let data = match tensor.data_type.unwrap() {
        1 => raw.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        7 => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => panic!("data type {other}"),
    };
    Array::new(&dims, data)
}

/// Runs a graph; `given` are its inputs and, if wished, other values for its initializers.
pub fn run(graph: &Graph, given: &HashMap<String, Array>) -> HashMap<String, Array> {
    let mut values = given.clone();
    for (name, tensor) in graph.parameters().unwrap() {
        let data = tensor.data.iter().map(|x| f64::from(*x)).collect();
        values.entry(name).or_insert(Array::new(&tensor.dims, data));
    }
    for node in graph.nodes() {
        let inputs: Vec<Option<&Array>> =
            node.input.iter().map(|n| (!n.is_empty()).then(|| &values[n])).collect();
        let families =
            [activation::evaluate, conv::evaluate, recurrent::evaluate, select::evaluate];
        let found = families.iter().find_map(|family| family(node, &inputs));
        let present: Vec<&Array> = inputs.into_iter().flatten().collect();
        let outputs = found.unwrap_or_else(|| evaluate(node, &present));
        values.extend(node.output.iter().cloned().zip(outputs));
    }
    values
}

fn evaluate(node: &NodeProto, inputs: &[&Array]) -> Vec<Array> {
    let flag = |name, default| node.int(name).unwrap_or(default) != 0;
    let x = || inputs[0];
    let one = match node.op() {
        "Abs" => x().map(f64::abs),
        "Cast" | "Identity" => x().clone(),
        "Constant" => stored(node.tensor("value").unwrap()),
        "Cos" => x().map(f64::cos),
        "Exp" => x().map(f64::exp),
        "Log" => x().map(f64::ln),
        "Neg" => x().map(|x| -x),
        "Reciprocal" => x().map(f64::recip),
        "Relu" => x().map(|x| x.max(0.0)),
        "Sigmoid" => x().map(|x| 1.0 / (1.0 + (-x).exp())),
        "Sign" => x().map(f64::signum),
        "Sin" => x().map(f64::sin),
        "Softplus" => x().map(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        "Sqrt" => x().map(f64::sqrt),
        "Tanh" => x().map(f64::tanh),
        "Add" => broadcast(inputs, |v| v[0] + v[1]),
        "Sub" => broadcast(inputs, |v| v[0] - v[1]),
        "Mul" => broadcast(inputs, |v| v[0] * v[1]),
        "Div" => broadcast(inputs, |v| v[0] / v[1]),
        "Pow" => broadcast(inputs, |v| v[0].powf(v[1])),
        "Min" => broadcast(inputs, |v| v.iter().copied().fold(f64::INFINITY, f64::min)),
        "Max" => broadcast(inputs, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "Clip" => broadcast(inputs, |v| v[0].clamp(v[1], v[2])),
        "Greater" => broadcast(inputs, |v| f64::from(v[0] > v[1])),
        "Equal" => broadcast(inputs, |v| f64::from(v[0] == v[1])),
        "Where" => broadcast(inputs, |v| if v[0] != 0.0 { v[1] } else { v[2] }),
        "Gemm" => gemm(node, inputs),
        "MatMul" => matmul(x(), inputs[1]),
        "Transpose" => transpose(x(), node.ints("perm").unwrap()),
        "Reshape" => reshape(x(), &inputs[1].ints()),
        "Flatten" => reshape(x(), &[x().dims[0] as i64, -1]),
        "Squeeze" => reshape(
            x(),
            &x().dims.iter().filter(|n| **n != 1).map(|n| *n as i64).collect::<Vec<_>>(),
        ),
        "Unsqueeze" => {
            let mut dims: Vec<i64> = x().dims.iter().map(|n| *n as i64).collect();
            dims.insert(inputs[1].ints()[0] as usize, 1);
            reshape(x(), &dims)
        }
        "Expand" => {
            let dims: Vec<usize> = inputs[1].ints().iter().map(|n| *n as usize).collect();
            Array::build(&dims, |index| x().at(index))
        }
        "Concat" => concat(inputs, axis(node, x())),
        "Slice" => slice(x(), inputs[3].ints()[0], inputs[1].ints()[0], inputs[2].ints()[0]),
        "Split" => {
            let (axis, mut start) = (axis(node, x()) as i64, 0);
            let piece = |n: i64| {
                start += n;
                slice(x(), axis, start - n, start)
            };
            return inputs[1].ints().into_iter().map(piece).collect();
        }
        "ReduceSum" | "ReduceMean" => {
            let axes = inputs.get(1).map(|a| a.ints()).or(node.ints("axes").map(<[i64]>::to_vec));
            let mean = node.op() == "ReduceMean";
            reduce(x(), &axes.unwrap_or_default(), flag("keepdims", 1), mean)
        }
        "LayerNormalization" => return layer_normalization(node, inputs),
        other => panic!("the reference has no {other}"),
    };
    vec![one]
}

fn axis(node: &NodeProto, x: &Array) -> usize {
    node.int("axis").unwrap_or(0).rem_euclid(x.dims.len() as i64) as usize
}

fn transpose(x: &Array, order: &[i64]) -> Array {
    let order: Vec<usize> = order.iter().map(|i| *i as usize).collect();
    let dims: Vec<usize> = order.iter().map(|i| x.dims[*i]).collect();
    Array::build(&dims, |index| {
        let mut from = vec![0; index.len()];
        order.iter().zip(index).for_each(|(o, i)| from[*o] = *i);
        x.at(&from)
    })
}

fn matmul(a: &Array, b: &Array) -> Array {
    let (ra, rb) = (a.dims.len(), b.dims.len());
    let (m, k, n) = (a.dims[ra - 2], a.dims[ra - 1], b.dims[rb - 1]);
    let (long, short) = if ra >= rb { (a, b) } else { (b, a) };
    let mut dims = long.dims.clone();
    let lead = long.dims.len() - short.dims.len();
    (0..short.dims.len() - 2).for_each(|i| dims[lead + i] = dims[lead + i].max(short.dims[i]));
    let rank = dims.len();
    (dims[rank - 2], dims[rank - 1]) = (m, n);
    Array::build(&dims, |index| {
        let at = |x: &Array, row: usize, column: usize| {
            let mut index = index.to_vec();
            (index[rank - 2], index[rank - 1]) = (row, column);
            x.at(&index)
        };
        (0..k).map(|j| at(a, index[rank - 2], j) * at(b, j, index[rank - 1])).sum()
    })
}

fn gemm(node: &NodeProto, inputs: &[&Array]) -> Array {
    let turned = |x: &Array, name| {
        if node.int(name).unwrap_or(0) != 0 { transpose(x, &[1, 0]) } else { x.clone() }
    };
    let alpha = f64::from(node.float("alpha").unwrap_or(1.0));
    let y = matmul(&turned(inputs[0], "transA"), &turned(inputs[1], "transB")).map(|y| alpha * y);
    let beta = f64::from(node.float("beta").unwrap_or(1.0));
    inputs.get(2).map_or(y.clone(), |c| broadcast(&[&y, c], |v| v[0] + beta * v[1]))
}

fn reshape(x: &Array, shape: &[i64]) -> Array {
    let known: i64 = shape.iter().filter(|n| **n != -1).product();
    let size = |n: &i64| if *n == -1 { x.data.len() / known as usize } else { *n as usize };
    Array::new(&shape.iter().map(size).collect::<Vec<_>>(), x.data.clone())
}

fn concat(inputs: &[&Array], axis: usize) -> Array {
    let mut dims = inputs[0].dims.clone();
    dims[axis] = inputs.iter().map(|x| x.dims[axis]).sum();
    Array::build(&dims, |index| {
        let mut index = index.to_vec();
        for x in inputs {
            if index[axis] < x.dims[axis] {
                return x.at(&index);
            }
            index[axis] -= x.dims[axis];
        }
        unreachable!()
    })
}

fn slice(x: &Array, axis: i64, start: i64, end: i64) -> Array {
    let axis = axis.rem_euclid(x.dims.len() as i64) as usize;
    let n = x.dims[axis] as i64;
    let bound = |i: i64| (if i < 0 { i + n } else { i }).clamp(0, n) as usize;
    let mut dims = x.dims.clone();
    dims[axis] = bound(end) - bound(start);
    Array::build(&dims, |index| {
        let mut index = index.to_vec();
        index[axis] += bound(start);
        x.at(&index)
    })
}

fn reduce(x: &Array, axes: &[i64], keep: bool, mean: bool) -> Array {
    let rank = x.dims.len() as i64;
    let axes: Vec<usize> = if axes.is_empty() {
        (0..x.dims.len()).collect()
    } else {
        axes.iter().map(|a| a.rem_euclid(rank) as usize).collect()
    };
    let mut kept = x.dims.clone();
    axes.iter().for_each(|a| kept[*a] = 1);
    let mut sum = Array::build(&kept, |_| 0.0);
    for (flat, value) in x.data.iter().enumerate() {
        let index = unravel(flat, &x.dims);
        let at =
            kept.iter().zip(&index).fold(0, |at, (n, i)| at * n + if *n == 1 { 0 } else { *i });
        sum.data[at] += value;
    }
    let count: usize = axes.iter().map(|a| x.dims[*a]).product();
    let y = if mean { sum.map(|s| s / count as f64) } else { sum };
    let left =
        (0..kept.len()).filter(|i| keep || !axes.contains(i)).map(|i| kept[i]).collect::<Vec<_>>();
    Array::new(&left, y.data)
}

/// The normalised value, the mean, the inverse deviation.
fn layer_normalization(node: &NodeProto, inputs: &[&Array]) -> Vec<Array> {
    let x = inputs[0];
    let rank = x.dims.len() as i64;
    let axes: Vec<i64> = (node.int("axis").unwrap_or(-1).rem_euclid(rank)..rank).collect();
    let mean = reduce(x, &axes, true, true);
    let centred = broadcast(&[x, &mean], |v| v[0] - v[1]);
    let variance = reduce(&centred.map(|x| x * x), &axes, true, true);
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let inverse = variance.map(|v| (v + epsilon).sqrt().recip());
    let normal = broadcast(&[&centred, &inverse], |v| v[0] * v[1]);
    let scaled = broadcast(&[&normal, inputs[1]], |v| v[0] * v[1]);
    let y = inputs.get(2).map(|bias| broadcast(&[&scaled, bias], |v| v[0] + v[1]));
    vec![y.unwrap_or(scaled), mean, inverse]
}
