//! The gradient of `Relu` and its sum over a batch as one node.
//!
//! A comparison, a cast, a product, and a product with ones for the bias are a pass over memory each;
//! engines on a processor that have our operators need one. Like the update, the node stands for a
//! function of plain nodes that is kept in the file.

use std::collections::{HashMap, HashSet};

use crate::onnx::optimiser::DOMAIN;
use crate::onnx::proto::{FunctionProto, NodeProto, OperatorSetIdProto};
use crate::onnx::{Builder, Dim, ElementType, Graph, OnnxError, Tensor};

/// The operator of domain [`DOMAIN`]. Inputs: the gradient `g` of a `Relu`'s output and that output `y`,
/// of one shape. Outputs: the gradient `g (y > 0)` of its input, and if it is asked for the sum over its
/// first axis, which stays with length 1.
pub(crate) const RELU_GRADIENT: &str = "ReluGradient";

/// The places of the nodes of one gradient.
struct Found {
    product: usize,
    mask: [usize; 2],
    sum: Option<usize>,
    /// `g` and `y`.
    input: [String; 2],
}

/// Joins the nodes of each `Relu`'s gradient in a graph.
///
/// # Errors
/// The graph is none that a [`Builder`] takes.
pub(super) fn join(graph: &mut Graph) -> Result<(), OnnxError> {
    let found = find(graph)?;
    if found.is_empty() {
        return Ok(());
    }
    let nodes = std::mem::take(&mut graph.graph.node);
    let gone: HashSet<usize> = found.iter().flat_map(|f| f.mask.into_iter().chain(f.sum)).collect();
    let by_product: HashMap<usize, &Found> = found.iter().map(|f| (f.product, f)).collect();
    let name = |place: usize| nodes.get(place).and_then(|node| node.output.first()).cloned();
    let joined = |node: &NodeProto, found: &Found| NodeProto {
        input: found.input.to_vec(),
        output: node.output.iter().cloned().chain(found.sum.and_then(name)).collect(),
        name: node.name.clone(),
        op_type: Some(RELU_GRADIENT.into()),
        domain: Some(DOMAIN.into()),
        ..NodeProto::default()
    };
    let kept = nodes.iter().enumerate().filter(|(place, _)| !gone.contains(place));
    graph.graph.node = kept
        .map(|(place, node)| {
            by_product.get(&place).map_or_else(|| node.clone(), |f| joined(node, f))
        })
        .collect();
    graph.model.functions.push(function(graph.opset())?);
    Ok(())
}

/// Every `g Cast(Greater(y, 0))` whose mask serves nothing else.
fn find(graph: &Graph) -> Result<Vec<Found>, OnnxError> {
    let mut shapes = Builder::with_opset(graph.opset());
    shapes.append(graph, &[])?;
    let dims = |name: &str| shapes.dims(shapes.value(name)?);
    let nodes = &graph.graph.node;
    let mut uses: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, node) in nodes.iter().enumerate() {
        node.input.iter().for_each(|name| uses.entry(name).or_default().push(place));
    }
    let outputs: HashSet<&str> =
        graph.graph.output.iter().filter_map(|output| output.name.as_deref()).collect();
    let made: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(place, node)| node.output.iter().map(move |name| (name.as_str(), place)))
        .collect();
    let maker = |name: &str, op: &str| {
        let place = *made.get(name)?;
        let node = nodes.get(place).filter(|node| node.op() == op)?;
        Some((place, node))
    };
    let once = |name: &str| {
        !outputs.contains(name) && uses.get(name).is_some_and(|places| places.len() == 1)
    };
    let constant = |name: &str| -> Option<Tensor> {
        let (_, node) = maker(name, "Constant")?;
        Tensor::from_proto(node.tensor("value")?).ok()
    };
    let mask = |name: &str| {
        let (cast, node) = maker(name, "Cast").filter(|_| once(name))?;
        let compared = node.input.first()?;
        let (greater, node) = maker(compared, "Greater").filter(|_| once(compared))?;
        let [y, zero] = node.input.as_slice() else { return None };
        let zero = constant(zero)?;
        (zero.dims.is_empty() && zero.data == [0.0]).then_some(([greater, cast], y))
    };
    let sum = |name: &str, rows: &Dim| {
        let all = uses.get(name)?.iter();
        let mut products =
            all.filter(|place| nodes.get(**place).is_some_and(|n| n.op() == "MatMul"));
        products.find(|place| {
            let ones = nodes.get(**place).and_then(|node| match node.input.as_slice() {
                [ones, g] if g == name => constant(ones),
                _ => None,
            });
            ones.is_some_and(|ones| {
                ones.dims.first() == Some(&1)
                    && ones.dims.get(1).is_some_and(|n| Dim::Fixed(*n) == *rows)
                    && ones.data.iter().all(|x| *x == 1.0)
            })
        })
    };
    let gradient = |(product, node): (usize, &NodeProto)| {
        let (Some("Mul"), [a, b], [part]) =
            (node.op_type.as_deref(), node.input.as_slice(), node.output.as_slice())
        else {
            return None;
        };
        let (g, (places, y)) = match (mask(b), mask(a)) {
            (Some(mask), _) => (a, mask),
            (None, Some(mask)) => (b, mask),
            (None, None) => return None,
        };
        let shape = dims(y).filter(|shape| dims(g) == Some(shape))?;
        let sum = match shape {
            [rows, _] => sum(part, rows).copied(),
            _ => None,
        };
        Some(Found { product, mask: places, sum, input: [g.clone(), y.clone()] })
    };
    Ok(nodes.iter().enumerate().filter_map(gradient).collect())
}

/// What the node stands for.
fn function(opset: i64) -> Result<FunctionProto, OnnxError> {
    let mut b = Builder::with_opset(opset);
    // A function has no shapes: these are any.
    let any = [Dim::Fixed(1), Dim::Fixed(1)];
    let (g, y) = (b.input("g", &any), b.input("y", &any));
    let zero = b.scalar(0.0);
    let positive = b.greater(y, zero);
    let mask = b.cast(positive, ElementType::F32);
    let part = b.mul(g, mask);
    b.output("gradient", part);
    let sum = b.reduce_sum(part, &[0], true);
    b.output("sum", sum);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) };
    Ok(FunctionProto {
        name: Some(RELU_GRADIENT.into()),
        input: names(&["g", "y"]),
        output: names(&["gradient", "sum"]),
        node: b.finish()?.graph.node,
        opset_import: vec![opset],
        domain: Some(DOMAIN.into()),
        ..FunctionProto::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{AdamW, TrainStep};

    fn ops(graph: &Graph) -> Vec<&str> {
        graph.nodes().iter().map(NodeProto::op).collect()
    }

    #[test]
    fn the_gradients_of_a_network_are_joined_with_the_sums_for_its_biases() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Fixed(4), Dim::Fixed(3)]);
        let mut hidden = x;
        let mut names = Vec::new();
        for (layer, width) in [(0, 3), (1, 5)] {
            let (w, c) = (format!("w{layer}"), format!("b{layer}"));
            let weight = b.parameter(&w, Tensor::zeros([width, 5]));
            let bias = b.parameter(&c, Tensor::zeros([5]));
            hidden = b.gemm(hidden, weight, bias);
            hidden = b.relu(hidden);
            names.extend([w, c]);
        }
        let square = b.mul(hidden, hidden);
        let loss = b.reduce_sum(square, &[], false);
        b.output("loss", loss);
        let step = TrainStep::new(&b.finish().unwrap(), "loss", &names, AdamW::default()).unwrap();
        let form = step.fused();
        let found = ops(form.graph());
        assert!(!found.contains(&"Greater") && !found.contains(&"Cast"), "{found:?}");
        let gradients = form.graph().nodes().iter().filter(|node| node.op() == RELU_GRADIENT);
        assert_eq!(gradients.map(|node| node.output.len()).collect::<Vec<_>>(), [2, 2]);
        let plain = step.plain();
        assert!(ops(plain.graph()).contains(&"Greater"), "other engines have plain nodes");
    }

    #[test]
    fn what_only_looks_like_a_gradient_stays() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Fixed(4), Dim::Fixed(3)]);
        let row = b.input("row", &[Dim::Fixed(3)]);
        let (zero, one) = (b.scalar(0.0), b.scalar(1.0));
        let mut mask = |of, limit| {
            let above = b.greater(of, limit);
            b.to_f32(above)
        };
        // Of another shape; above another limit; used twice.
        let (other, limit, twice) = (mask(row, zero), mask(x, one), mask(x, zero));
        for (i, mask) in [other, limit, twice, twice].into_iter().enumerate() {
            let product = b.mul(x, mask);
            b.output(&format!("y{i}"), product);
        }
        let mut graph = b.finish().unwrap();
        let before = graph.clone();
        join(&mut graph).unwrap();
        assert_eq!(graph.to_bytes(), before.to_bytes());
    }
}
