//! Writes graphs as formulas.
//!
//! ```
//! use regoal::onnx::{Builder, Dim, Tensor};
//! let mut b = Builder::new();
//! let x = b.input("observation", &[Dim::Batch, Dim::Fixed(2)]);
//! let w = b.parameter("weight", Tensor::new([2, 1], [0.5, -0.5])?);
//! let y = b.matmul(x, w);
//! let y = b.tanh(y);
//! b.output("action", y);
//! assert_eq!(b.finish()?.outputs()?[0].name, "action");
//! # Ok::<(), regoal::onnx::OnnxError>(())
//! ```

mod append;
mod ops;

use std::collections::{HashMap, HashSet};

use super::infer::{Info, infer};
use super::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use super::tensor::ElementType;
use super::verify::check_size;
use super::{Dim, Graph, Limits, OnnxError, Tensor, ValueInfo};

/// A value of the graph that a [`Builder`] writes: a cheap handle, valid for that builder only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(usize);

/// A node whose names are settled when the graph is finished.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Operator, attributes and the rest; its lists of names are filled in by `finish`.
    pub proto: NodeProto,
    pub inputs: Vec<Option<Value>>,
    pub outputs: Vec<Option<Value>>,
}

/// Where a value comes from, which decides whether it may be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Outside,
    Node,
    Output,
}

#[derive(Debug, Clone)]
struct Slot {
    name: String,
    info: Info,
    origin: Origin,
}

/// Builds a graph node by node, checking types and shapes as it goes. The first mistake is kept and
/// reported by [`Builder::finish`], so that formulas stay formulas.
#[derive(Debug, Clone)]
pub struct Builder {
    opset: i64,
    limits: Limits,
    slots: Vec<Slot>,
    names: HashMap<String, Value>,
    /// Names that no new value may take by chance.
    reserved: HashSet<String>,
    pub(crate) nodes: Vec<Node>,
    initializers: Vec<TensorProto>,
    constants: HashMap<Vec<u8>, Value>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    error: Option<OnnxError>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// The operator set of graphs that are not built on another graph.
    pub const OPSET: i64 = 18;

    /// An empty graph of opset [`Builder::OPSET`].
    pub fn new() -> Self {
        Self::with_opset(Self::OPSET)
    }

    /// An empty graph of another opset: that of a policy which will be appended.
    pub fn with_opset(opset: i64) -> Self {
        Self {
            opset,
            limits: Limits::default(),
            slots: Vec::new(),
            names: HashMap::new(),
            reserved: HashSet::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            constants: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            error: None,
        }
    }

    /// Keeps these names for values that will ask for them.
    pub(crate) fn reserve(&mut self, names: impl IntoIterator<Item = String>) {
        self.reserved.extend(names);
    }

    pub(crate) fn opset(&self) -> i64 {
        self.opset
    }

    /// An f32 input of the graph.
    pub fn input(&mut self, name: &str, dims: &[Dim]) -> Value {
        let info = Info { element: ElementType::F32, dims: Some(dims.to_vec()), ints: None };
        self.input_of(name, info)
    }

    pub(crate) fn input_of(&mut self, name: &str, info: Info) -> Value {
        let value = self.define(name, info, Origin::Outside);
        self.inputs.push(value);
        value
    }

    /// A named initializer: a weight, a bias, a normaliser.
    pub fn parameter(&mut self, name: &str, tensor: Tensor) -> Value {
        if let Err(error) = tensor.check(&format!("parameter `{name}`")) {
            self.fail(error);
        }
        let dims = tensor.dims.iter().copied().map(Dim::Fixed).collect();
        let info = Info { element: ElementType::F32, dims: Some(dims), ints: None };
        self.initializers.push(tensor.to_proto(name));
        self.define(name, info, Origin::Outside)
    }

    /// Names a value as an output of the graph.
    pub fn output(&mut self, name: &str, value: Value) {
        let value = match self.slots.get(value.0).map(|slot| slot.origin) {
            Some(Origin::Node) => value,
            _ => self.op("Identity", &[value], vec![]),
        };
        if self.names.contains_key(name) && self.value(name) != Some(value) {
            self.fail(OnnxError::Duplicate { name: name.into() });
        }
        if let Some(slot) = self.slots.get_mut(value.0) {
            self.names.remove(&slot.name);
            slot.name = name.to_owned();
            slot.origin = Origin::Output;
            self.names.insert(name.to_owned(), value);
        }
        self.outputs.push(value);
    }

    /// The finished graph. Nodes stand in the order in which they were built.
    ///
    /// # Errors
    /// The first mistake made while building.
    pub fn finish(self) -> Result<Graph, OnnxError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let name = |v: &Value| self.slots.get(v.0).map_or(String::new(), |slot| slot.name.clone());
        let info = |v: &Value| {
            let slot = self.slots.get(v.0)?;
            let dims = slot.info.dims.clone()?;
            Some(ValueInfo { name: slot.name.clone(), element: slot.info.element, dims }.to_proto())
        };
        let infos = |values: &[Value]| {
            let all = values.iter().map(|v| {
                let unknown = || {
                    OnnxError::invalid(
                        format!("value `{}`", name(v)),
                        "a known shape",
                        "an unknown one",
                    )
                };
                info(v).ok_or_else(unknown)
            });
            all.collect::<Result<Vec<_>, _>>()
        };
        let names = |values: &[Option<Value>]| {
            values.iter().map(|v| v.as_ref().map_or(String::new(), name)).collect()
        };
        let (input, output) = (infos(&self.inputs)?, infos(&self.outputs)?);
        let node = self.nodes.iter().map(|node| NodeProto {
            input: names(&node.inputs),
            output: names(&node.outputs),
            ..node.proto.clone()
        });
        let graph = GraphProto {
            node: node.collect(),
            name: Some("regoal".into()),
            initializer: self.initializers,
            input,
            output,
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(self.opset) };
        let model = ModelProto {
            ir_version: Some(8),
            producer_name: Some("regoal".into()),
            opset_import: vec![opset],
            ..ModelProto::default()
        };
        Ok(Graph { model, graph })
    }

    /// A value by its name.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.names.get(name).copied()
    }

    /// The sizes of a value's axes, if they are known.
    pub fn dims(&self, value: Value) -> Option<&[Dim]> {
        self.slots.get(value.0)?.info.dims.as_deref()
    }

    pub(crate) fn info(&self, value: Value) -> Option<&Info> {
        Some(&self.slots.get(value.0)?.info)
    }

    pub(crate) fn label(&self, value: Value) -> &str {
        self.slots.get(value.0).map_or("", |slot| slot.name.as_str())
    }

    /// The number that a one-element f32 constant or initializer holds.
    pub(crate) fn number(&self, value: Value) -> Option<f32> {
        let name = self.label(value);
        let stored = self.initializers.iter().find(|t| t.name.as_deref() == Some(name));
        let made = || self.nodes.iter().find(|n| n.outputs.contains(&Some(value)));
        let tensor = match stored {
            Some(tensor) => tensor,
            None => made().filter(|n| n.proto.op() == "Constant")?.proto.tensor("value")?,
        };
        match Tensor::from_proto(tensor).ok()?.data.as_slice() {
            [number] => Some(*number),
            _ => None,
        }
    }

    /// Keeps the first mistake.
    pub(crate) fn fail(&mut self, error: OnnxError) {
        self.error.get_or_insert(error);
    }

    /// The first mistake, if any was made.
    pub(crate) fn check(&self) -> Result<(), OnnxError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// A node with one output, which gets a name of its own.
    pub(crate) fn op(
        &mut self,
        op: &str,
        inputs: &[Value],
        attributes: Vec<super::proto::AttributeProto>,
    ) -> Value {
        let proto =
            NodeProto { op_type: Some(op.into()), attribute: attributes, ..NodeProto::default() };
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.node(proto, &inputs, 1).first().copied().unwrap_or(Value(0))
    }

    /// A node with `count` outputs, which get names of their own.
    pub(crate) fn node(
        &mut self,
        proto: NodeProto,
        inputs: &[Option<Value>],
        count: usize,
    ) -> Vec<Value> {
        let stem = proto.op().to_lowercase();
        let names: Vec<String> = (0..count)
            .map(|i| self.unreserved(&format!("{stem}_{}", self.nodes.len() + i)))
            .collect();
        self.named_node(proto, inputs, &names).into_iter().flatten().collect()
    }

    /// A node whose outputs have these names; an empty name is an output left out.
    pub(crate) fn named_node(
        &mut self,
        mut proto: NodeProto,
        inputs: &[Option<Value>],
        names: &[String],
    ) -> Vec<Option<Value>> {
        proto.output = names.to_vec();
        let known: Vec<Option<&Info>> = inputs.iter().map(|v| self.info((*v)?)).collect();
        let infos = infer(&proto, &known).unwrap_or_else(|error| {
            self.fail(error);
            vec![Info { element: ElementType::F32, dims: None, ints: None }; names.len()]
        });
        let define = |(name, info): (&String, Info)| match name.as_str() {
            "" => None,
            name => Some(self.define(name, info, Origin::Node)),
        };
        let outputs: Vec<_> = names.iter().zip(infos).map(define).collect();
        self.nodes.push(Node { proto, inputs: inputs.to_vec(), outputs: outputs.clone() });
        outputs
    }

    /// Takes the last node back, of which nothing has been read; its names are free again.
    pub(crate) fn take_back(&mut self) {
        let outputs = self.nodes.pop().map_or(Vec::new(), |node| node.outputs);
        for slot in outputs.into_iter().flatten().filter_map(|v| self.slots.get(v.0)) {
            self.names.remove(&slot.name);
        }
    }

    /// A name nobody has yet, like `stem`.
    fn fresh(&self, stem: &str) -> String {
        like(stem).find(|name| !self.names.contains_key(name)).unwrap_or_default()
    }

    /// A name nobody has yet or will ask for, like `stem`.
    fn unreserved(&self, stem: &str) -> String {
        let free = |n: &String| !self.names.contains_key(n) && !self.reserved.contains(n);
        like(stem).find(free).unwrap_or_default()
    }

    fn define(&mut self, name: &str, info: Info, origin: Origin) -> Value {
        if let Some(error) = self.refuse(name, &info) {
            self.fail(error);
        }
        let value = Value(self.slots.len());
        self.slots.push(Slot { name: name.to_owned(), info, origin });
        self.names.insert(name.to_owned(), value);
        value
    }

    fn refuse(&self, name: &str, info: &Info) -> Option<OnnxError> {
        let taken = || OnnxError::Duplicate { name: name.into() };
        let size = check_size(name, info, &self.limits).err();
        size.or_else(|| self.names.contains_key(name).then(taken))
    }
}

/// `stem`, `stem_1`, `stem_2` and so on.
fn like(stem: &str) -> impl Iterator<Item = String> {
    std::iter::once(stem.to_owned()).chain((1..).map(move |i| format!("{stem}_{i}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_appended_twice_shares_its_parameters() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2)]);
        let w = b.parameter("w", Tensor::zeros([2, 2]));
        let y = b.matmul(x, w);
        b.output("y", y);
        let policy = b.finish().unwrap();

        let mut b = Builder::new();
        let first = b.append(&policy, &[]).unwrap()[0];
        let w = b.value("w").unwrap();
        let second = b.append(&policy, &[("x", first), ("w", w)]).unwrap()[0];
        b.output("twice", second);
        let graph = b.finish().unwrap();
        assert_eq!(graph.parameters().unwrap().len(), 1);
        assert_eq!((graph.nodes()[1].input[1].as_str(), graph.inputs().unwrap().len()), ("w", 1));
        crate::onnx::Verified::try_from(graph).unwrap();
    }

    #[test]
    fn the_first_mistake_is_what_finish_reports() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2)]);
        let w = b.parameter("w", Tensor::zeros([3, 2]));
        let y = b.matmul(x, w);
        let z = b.concat(&[y, x], 7);
        b.output("z", z);
        let error = b.finish().unwrap_err().to_string();
        assert!(error.ends_with("expected an inner size of Fixed(2), found Fixed(3)"), "{error}");
    }

    #[test]
    fn an_input_or_a_value_can_be_an_output_under_several_names() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Fixed(2)]);
        let y = b.tanh(x);
        for (name, value) in [("same", x), ("first", y), ("second", y)] {
            b.output(name, value);
        }
        let graph = crate::onnx::Verified::try_from(b.finish().unwrap()).unwrap();
        let names: Vec<String> = graph.outputs().unwrap().into_iter().map(|o| o.name).collect();
        assert_eq!(names, ["same", "first", "second"]);
    }

    #[test]
    fn equal_constants_are_stored_once() {
        let mut b = Builder::new();
        assert_eq!(b.scalar(0.5), b.scalar(0.5));
        assert_ne!(b.scalar(0.0), b.scalar(-0.0));
        assert_eq!(b.int64s(&[1, 2]), b.int64s(&[1, 2]));
    }
}
