//! A graph made plain before it is differentiated: the same function of the same inputs and
//! initializers, with fewer and simpler nodes.
//!
//! Exporters leave much in a file that a gradient would have to go through: shapes computed from
//! shapes (all of it with a dynamic batch), constants computed from constants, weights transposed
//! in each run. Once the batch is fixed all of that is known: it is folded here, and what nobody
//! uses is dropped. Initializers stay as they are, so that weights go back by name.

mod linear;

use std::collections::{HashMap, HashSet};

use super::expand::{expand, is_rewritten};
use super::infer::Info;
use super::known::{self, Known};
use super::proto::{NodeProto, TensorProto, data_type};
use super::tensor::ElementType;
use super::usage::is_made_up;
use super::{Builder, Dim, Graph, OnnxError, Value};
use linear::Layer;

/// The same function with recurrent layers and Einsum written out, known values folded, copies left out, linear layers in one node each, and
/// nodes dropped that no output needs. Fix the batch first ([`Graph::with_batch`]): what depends on
/// an open size stays.
///
/// # Errors
/// When the graph breaks a rule of [`verify`](super::verify).
pub fn simplify(graph: &Graph) -> Result<Graph, OnnxError> {
    let plain = fold(graph)?;
    // What is written out needs shapes, which exporters may compute.
    let layers = plain.nodes().iter().any(|node| is_rewritten(&plain, node));
    if layers { fold(&expand(&plain)?) } else { Ok(plain) }
}

fn fold(graph: &Graph) -> Result<Graph, OnnxError> {
    let mut simplifier = Simplifier {
        b: Builder::with_opset(graph.opset()),
        entries: HashMap::new(),
        made_by: HashMap::new(),
        uses: uses(graph),
        layers: HashMap::new(),
    };
    simplifier.b.reserve(graph.nodes().iter().flat_map(|node| node.output.clone()));
    for tensor in &graph.graph.initializer {
        simplifier.initializer(tensor)?;
    }
    for input in graph.inputs()? {
        let info = Info { element: input.element, dims: Some(input.dims), ints: None };
        let value = simplifier.b.input_of(&input.name, info);
        simplifier.entries.insert(input.name, Entry::Value(value));
    }
    for node in graph.nodes() {
        simplifier.node(node)?;
    }
    for output in graph.outputs()? {
        let value = simplifier.value(&output.name, "the graph's outputs")?;
        simplifier.b.output(&output.name, value);
    }
    let mut simple = simplifier.b.finish()?;
    simple.model.metadata_props.clone_from(&graph.model.metadata_props);
    prune(&mut simple);
    Ok(simple)
}

/// Drops the nodes that no output needs.
fn prune(graph: &mut Graph) {
    let outputs = graph.graph.output.iter().filter_map(|o| o.name.clone());
    let mut needed: HashSet<String> = outputs.collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.graph.node).into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.graph.node = kept;
}

/// How often each name is read.
fn uses(graph: &Graph) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    let outputs = graph.graph.output.iter().filter_map(|o| o.name.as_ref());
    for name in graph.nodes().iter().flat_map(|node| &node.input).chain(outputs) {
        *uses.entry(name.clone()).or_insert(0) += 1;
    }
    uses
}

/// What one of the old graph's names has become.
#[derive(Clone)]
enum Entry {
    Value(Value),
    Known(Known),
}

struct Simplifier {
    b: Builder,
    entries: HashMap<String, Entry>,
    /// The node of `b` that gives a value.
    made_by: HashMap<Value, usize>,
    uses: HashMap<String, usize>,
    /// Products with a weight that was transposed, which may still get a bias.
    layers: HashMap<Value, Layer>,
}

impl Simplifier {
    /// Weights stay named; numbers, shapes and masks are constants.
    fn initializer(&mut self, tensor: &TensorProto) -> Result<(), OnnxError> {
        let name = tensor.name.clone().unwrap_or_default();
        let number = tensor.dims.is_empty() && is_made_up(&name);
        let weight = tensor.data_type == Some(data_type::FLOAT) && !number;
        let entry = if weight {
            Entry::Value(self.b.initializer(tensor)?)
        } else {
            Entry::Known(Known::from_proto(tensor)?)
        };
        self.entries.insert(name, entry);
        Ok(())
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), OnnxError> {
        if let [output] = node.output.as_slice()
            && let Some(entry) = self.folded(node)
        {
            self.entries.insert(output.clone(), entry);
            return Ok(());
        }
        let at = format!("node `{}`", node.label());
        let mut inputs = Vec::new();
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.value(name, &at)?) });
        }
        if let [output] = node.output.as_slice()
            && let Some(value) = self.linear(node, &inputs)
        {
            self.entries.insert(output.clone(), Entry::Value(value));
            return self.b.check();
        }
        let place = self.b.nodes.len();
        let outputs = self.b.named_node(node.clone(), &inputs, &node.output);
        self.b.check()?;
        for (name, value) in node.output.iter().zip(outputs) {
            if let Some(value) = value {
                self.made_by.insert(value, place);
                self.entries.insert(name.clone(), Entry::Value(value));
            }
        }
        if let [output] = node.output.as_slice()
            && let Some(entry) = self.copied(node)
        {
            self.b.take_back();
            self.entries.insert(output.clone(), entry);
        }
        Ok(())
    }

    /// A node's output when it is known already.
    fn folded(&self, node: &NodeProto) -> Option<Entry> {
        let entry = |name: &String| if name.is_empty() { None } else { self.entries.get(name) };
        let first = node.input.first().and_then(entry);
        let known = match node.op() {
            "Constant" => known::constant(node),
            "Shape" | "Size" => {
                let dims = self.sizes(first?)?;
                let part = |name, default| {
                    let axis = node.int(name).unwrap_or(default);
                    let rank = dims.len() as i64;
                    (if axis < 0 { axis + rank } else { axis }).clamp(0, rank) as usize
                };
                match node.op() {
                    "Size" => {
                        let count = dims.iter().product::<usize>() as f64;
                        Some(Known::scalar(ElementType::I64, count))
                    }
                    _ => {
                        let range = part("start", 0)..part("end", dims.len() as i64);
                        Some(Known::int64s(dims.get(range)?.iter().copied()))
                    }
                }
            }
            _ => {
                let known = |name: &String| match (name.as_str(), entry(name)) {
                    ("", _) => Some(None),
                    (_, Some(Entry::Known(known))) => Some(Some(known)),
                    _ => None,
                };
                let inputs: Option<Vec<_>> = node.input.iter().map(known).collect();
                inputs.and_then(|inputs| known::evaluate(node, &inputs))
            }
        };
        // `CastLike` needs only the type of its second input.
        known.map(Entry::Known).or_else(|| self.cast_like(node, first?))
    }

    fn cast_like(&self, node: &NodeProto, x: &Entry) -> Option<Entry> {
        let to = match self.entries.get(node.input.get(1)?)? {
            Entry::Value(value) => self.b.info(*value)?.element,
            Entry::Known(known) => known.element,
        };
        if node.op() != "CastLike" {
            return None;
        }
        match x {
            Entry::Known(known) => Some(Entry::Known(known.cast(to))),
            Entry::Value(value) if self.b.info(*value)?.element == to => Some(x.clone()),
            Entry::Value(_) => None,
        }
    }

    /// The input of a node that gives it back as it is.
    fn copied(&self, node: &NodeProto) -> Option<Entry> {
        let entry = self.entries.get(node.input.first()?)?;
        let &Entry::Value(x) = entry else { return None };
        let y = match self.entries.get(node.output.first()?)? {
            Entry::Value(y) => *y,
            Entry::Known(_) => return None,
        };
        let (from, to) = (self.b.info(x)?, self.b.info(y)?);
        let same = from.dims.is_some() && from.dims == to.dims && from.element == to.element;
        let copies = match node.op() {
            "Identity" => true,
            "Dropout" => node.input.get(2).is_none_or(String::is_empty),
            "Cast" | "Expand" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Slice" => {
                // A slice of full length may still turn its axis around.
                same && (node.op() != "Slice" || node.input.get(4).is_none_or(String::is_empty))
            }
            "Transpose" => {
                let order = node.ints("perm")?;
                order.iter().copied().eq(0..order.len() as i64)
            }
            "Concat" => node.input.len() == 1,
            _ => false,
        };
        copies.then(|| entry.clone())
    }

    /// A name as a value of the new graph; what is known becomes a constant when it is first used.
    fn value(&mut self, name: &str, at: &str) -> Result<Value, OnnxError> {
        match self.entries.get(name) {
            Some(Entry::Value(value)) => Ok(*value),
            Some(Entry::Known(known)) => Ok(self.b.stored(known.to_proto())),
            None => Err(OnnxError::Undefined { at: at.into(), name: name.into() }),
        }
    }

    fn sizes(&self, entry: &Entry) -> Option<Vec<usize>> {
        match entry {
            Entry::Known(known) => Some(known.dims.clone()),
            Entry::Value(value) => sizes(self.b.dims(*value)?),
        }
    }
}

/// The sizes of a shape without open ones.
fn sizes(dims: &[Dim]) -> Option<Vec<usize>> {
    let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
    dims.iter().map(fixed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Tensor;
    use crate::onnx::proto::AttributeProto;

    fn ops(graph: &Graph) -> Vec<&str> {
        graph.nodes().iter().map(NodeProto::op).filter(|op| *op != "Constant").collect()
    }

    /// A layer as exporters write it: `x` [2, 3, 4] times a transposed weight, plus a bias.
    fn layer(b: &mut Builder) -> Value {
        let x = b.input("x", &[2, 3, 4].map(Dim::Fixed));
        let w = b.parameter("w", Tensor::new([5, 4], vec![0.5; 20]).unwrap());
        let bias = b.parameter("bias", Tensor::zeros([5]));
        let turned = b.transpose(w, &[1, 0]);
        let y = b.matmul(x, turned);
        b.add(y, bias)
    }

    #[test]
    fn shapes_computed_from_a_fixed_batch_are_folded() {
        let mut b = Builder::new();
        let y = layer(&mut b);
        let shape = b.op("Shape", &[y], vec![]);
        let (zero, rest) = (b.int64s(&[0]), b.int64s(&[-1]));
        let batch = b.op("Gather", &[shape, zero], vec![AttributeProto::int("axis", 0)]);
        let wished = b.concat(&[batch, rest], 0);
        let flat = b.op("Reshape", &[y, wished], vec![]);
        let same = b.identity(flat);
        b.output("action", same);
        let simple = simplify(&b.finish().unwrap()).unwrap();
        assert_eq!(ops(&simple), ["Reshape", "Gemm", "Reshape", "Reshape"]);
        assert_eq!(simple.outputs().unwrap()[0].dims_at(1), [2, 15]);
        assert_eq!(simple.parameters().unwrap().len(), 2);
    }
}
