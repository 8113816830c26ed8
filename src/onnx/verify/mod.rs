//! Checks a graph before any engine sees it: parse, don't validate.
//!
//! Engines may panic on a name nobody produces, never return from an absurd axis, or ask for all
//! memory there is, so only [`Verified`] graphs reach them, and only this module makes one.

mod attributes;
mod batch;
mod schema;
mod values;

use std::ops::Deref;

pub(crate) use values::check_size;

use super::sequence::without_sequences;
use super::{Graph, OnnxError, inline, wire};

/// What a graph may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_bytes: usize,
    /// The most levels of messages in messages.
    pub max_depth: usize,
    /// The most memory for what is not tensor data once a file is decoded, in bytes.
    pub max_structure: usize,
    /// The most nodes.
    pub max_nodes: usize,
    /// The most elements of one value, counted with a batch of 1.
    pub max_elements: usize,
    /// The most elements of all values together, counted with a batch of 1.
    pub max_total: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 512 << 20,
            max_depth: 32,
            max_structure: 128 << 20,
            max_nodes: 20_000,
            max_elements: 128 << 20,
            max_total: 1 << 30,
        }
    }
}

/// The operator sets we read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=22;

/// The versions of the file format that we read: those of the operator sets, and what exporters
/// write for them.
pub const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;

/// A graph that any engine can be given: every name resolved and unique, nodes in order of use,
/// known operators of a known opset, attributes, shapes and axes that fit, one open size at most,
/// weights inside and whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Graph);

impl Verified {
    /// Decodes and checks an ONNX file with the default limits. Functions that the file defines are
    /// [inlined](super::inline), and pieces that it takes out of sequences become slices.
    ///
    /// # Errors
    /// When the file is not ONNX or breaks a rule of [`verify`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OnnxError> {
        let graph = Graph::from_bytes(bytes)?;
        let graph = if graph.model.functions.is_empty() { graph } else { inline(&graph)? };
        verify(without_sequences(graph), &Limits::default())
    }

    /// The graph, free to be changed: it must be verified again before an engine runs it.
    pub fn into_graph(self) -> Graph {
        self.0
    }
}

impl Deref for Verified {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.0
    }
}

impl TryFrom<Graph> for Verified {
    type Error = OnnxError;
    fn try_from(graph: Graph) -> Result<Self, OnnxError> {
        verify(graph, &Limits::default())
    }
}

/// Checks a graph: first as it is, then with a batch of 1, where the size of every value must
/// follow.
///
/// # Errors
/// The first rule that the graph breaks, with the place and what was expected.
pub fn verify(graph: Graph, limits: &Limits) -> Result<Verified, OnnxError> {
    at_most("nodes", graph.nodes().len(), limits.max_nodes)?;
    check_versions(&graph)?;
    refuse_exotic(&graph)?;
    if graph.outputs()?.is_empty() {
        return Err(OnnxError::invalid("graph", "at least one output", "none"));
    }
    for node in graph.nodes() {
        attributes::check(node)?;
        schema::check(node, graph.opset())?;
    }
    let open = batch::check(&graph)?;
    values::check(&graph, None, limits)?;
    if open {
        values::check(&graph, Some(1), limits)?;
    }
    Ok(Verified(graph))
}

/// Checks what a file asks of its decoder, before it is decoded.
///
/// # Errors
/// When the bytes are not protobuf or break the limits on size, depth, nodes or structure.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), OnnxError> {
    wire::check(bytes, &Limits::default())
}

fn check_versions(graph: &Graph) -> Result<(), OnnxError> {
    if !OPSETS.contains(&graph.opset()) {
        let (min, max) = (*OPSETS.start(), *OPSETS.end());
        return Err(OnnxError::Opset { min, max, found: graph.opset() });
    }
    let ours = graph.model.opset_import.iter();
    let ours = ours.filter(|i| matches!(i.domain.as_deref(), None | Some("" | "ai.onnx"))).count();
    if ours > 1 {
        return Err(OnnxError::invalid("model", "one opset of domain ai.onnx", ours));
    }
    if !IR_VERSIONS.contains(&graph.ir_version()) {
        let expected = format!("a file format of version {IR_VERSIONS:?}");
        return Err(OnnxError::invalid("model", expected, graph.ir_version()));
    }
    Ok(())
}

/// Parts of the format that engines read and we do not check.
fn refuse_exotic(graph: &Graph) -> Result<(), OnnxError> {
    let model = &graph.model;
    let exotic = [
        ("functions", model.functions.len()),
        ("training graphs", model.training_info.len()),
        ("device configurations", model.configuration.len()),
        ("sparse initializers", graph.graph.sparse_initializer.len()),
        ("quantization annotations", graph.graph.quantization_annotation.len()),
    ];
    match exotic.iter().find(|(_, count)| *count > 0) {
        Some((what, count)) => Err(OnnxError::invalid("model", format!("no {what}"), count)),
        None => Ok(()),
    }
}

pub(super) fn at_most(what: &str, found: usize, limit: usize) -> Result<(), OnnxError> {
    if found <= limit {
        Ok(())
    } else {
        Err(OnnxError::TooLarge { what: what.into(), limit, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
    use crate::onnx::{Builder, Dim, Tensor};

    fn policy() -> Graph {
        let mut b = Builder::new();
        let x = b.input("observation", &[Dim::Batch, Dim::Fixed(3)]);
        let w = b.parameter("w", Tensor::zeros([3, 2]));
        let bias = b.parameter("b", Tensor::zeros([2]));
        let h = b.gemm(x, w, bias);
        let h = b.tanh(h);
        b.output("action", h);
        b.finish().unwrap()
    }

    /// What is said of the policy after `damage`.
    fn refusal(damage: impl Fn(&mut Graph)) -> String {
        let mut graph = policy();
        damage(&mut graph);
        let error = Verified::from_bytes(&graph.to_bytes()).expect_err("it should be refused");
        error.to_string()
    }

    #[test]
    fn a_built_graph_verifies_and_survives_its_encoding() {
        let bytes = policy().to_bytes();
        let verified = Verified::from_bytes(&bytes).unwrap();
        assert_eq!(*verified, policy());
        assert_eq!(verified.to_bytes(), bytes);
    }

    #[test]
    fn each_broken_rule_is_named_with_its_place() {
        type Damage = fn(&mut GraphProto);
        let cases: &[(Damage, &str)] = &[
            (
                |g| g.output[0].name = Some("nobody".into()),
                "the graph's outputs: nothing before it produces `nobody`",
            ),
            (|g| g.node.reverse(), "node `action`: nothing before it produces `gemm_0`"),
            (|g| g.node[1].output[0] = "w".into(), "the name `w` is given to two values"),
            (|g| g.initializer[1].name = Some("w".into()), "the name `w` is given to two values"),
            (
                |g| g.node[1].op_type = Some("Loop".into()),
                "node `action`: operator `Loop` is not supported; `regoal policy inspect --operators`",
            ),
            (
                |g| g.node[1].op_type = Some("TanH".into()),
                "operator `TanH` is not supported, `Tanh` is; `regoal policy",
            ),
            (
                |g| g.node[1].domain = Some("com.microsoft".into()),
                "operator `com.microsoft::Tanh` is not supported",
            ),
            (
                |g| g.initializer[0].raw_data = Some(vec![0; 23].into()),
                "tensor `w`: expected 24 of data for dims [3, 2], found 23",
            ),
            (|g| g.initializer[0].dims = vec![-1, 2], "tensor `w`: expected dims of at least 0"),
            (
                |g| g.initializer[0].dims = vec![1 << 40, 1 << 40],
                "tensor `w`: expected a size that fits memory",
            ),
            (
                |g| g.initializer[0].data_type = Some(10),
                "tensor `w`: expected a float, double, int32, int64 or bool tensor, found float16",
            ),
            (
                |g| g.initializer[0].data_location = Some(1),
                "tensor `w`: its data is in another file",
            ),
            (
                |g| g.initializer[0].dims = vec![2, 3],
                "expected an inner size of Fixed(3), found Fixed(2)",
            ),
            (
                |g| {
                    g.node[1].op_type = Some("Softmax".into());
                    g.node[1].attribute.push(AttributeProto::int("axis", i64::MAX));
                },
                "expected an axis of -8 to 7",
            ),
            (|g| g.node[1].input.push("w".into()), "expected 1 to 1 inputs, found 2"),
            (|g| g.node[1].output.clear(), "expected 1 to 1 outputs, found 0"),
            (|g| g.output.clear(), "expected at least one output, found none"),
            (
                |g| g.output[0].r#type = None,
                "value `action`: expected a tensor, found another type",
            ),
            (|g| g.sparse_initializer.push(vec![]), "expected no sparse initializers, found 1"),
        ];
        for (damage, says) in cases {
            let found = refusal(|graph| damage(&mut graph.graph));
            assert!(found.contains(says), "{found}\nshould say\n{says}");
        }
        assert!(refusal(|g| g.model.opset_import.clear()).starts_with("opset: expected 13 to 22"));
        let mut calling = policy();
        calling.model.functions.push(Default::default());
        assert!(Verified::try_from(calling).unwrap_err().to_string().contains("no functions"));
    }

    #[test]
    fn what_is_wrong_with_a_constant_is_said_of_its_node() {
        let said = |data_type, data_location| {
            refusal(|g| {
                let value = TensorProto { data_type, data_location, ..TensorProto::default() };
                let constant = NodeProto {
                    op_type: Some("Constant".into()),
                    output: vec!["c".into()],
                    attribute: vec![AttributeProto::tensor("value", value)],
                    ..NodeProto::default()
                };
                g.graph.node.push(constant);
            })
        };
        let found = said(Some(10), None);
        assert!(found.starts_with("node `c` (Constant): expected a float,"), "{found}");
        let found = said(Some(1), Some(1));
        assert!(found.starts_with("tensor `value of c`: its data is in another file"), "{found}");
    }

    #[test]
    fn a_few_bytes_cannot_ask_for_much_memory() {
        let found = refusal(|g| {
            let shape = AttributeProto::tensor(
                "value",
                crate::onnx::tensor::int64_proto("", &[1 << 20, 1 << 20]),
            );
            let constant = |op: &str, input: Vec<String>, output: &str, attribute| NodeProto {
                op_type: Some(op.into()),
                input,
                output: vec![output.into()],
                attribute,
                ..NodeProto::default()
            };
            g.graph.node.push(constant("Constant", vec![], "shape", vec![shape]));
            g.graph.node.push(constant("ConstantOfShape", vec!["shape".into()], "huge", vec![]));
        });
        assert!(found.starts_with("value `huge`: elements: expected at most"), "{found}");
    }

    #[test]
    fn limits_hold_for_bytes_and_nodes() {
        let limits = Limits { max_nodes: 1, ..Limits::default() };
        let error = verify(policy(), &limits).unwrap_err();
        assert_eq!(error.to_string(), "nodes: expected at most 1, found 2");
    }

    #[test]
    fn typed_and_raw_tensor_data_read_alike() {
        let mut graph = policy();
        let raw = graph.parameters().unwrap();
        let tensor: &mut TensorProto = &mut graph.graph.initializer[0];
        (tensor.float_data, tensor.raw_data) = (vec![0.0; 6], None);
        assert_eq!(graph.parameters().unwrap(), raw);
        Verified::try_from(graph).unwrap();
    }
}
