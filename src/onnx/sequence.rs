//! Sequences of tensors, which no engine trains with: PyTorch's exporter splits tensors into them
//! when it is told not to optimise, and at once takes the pieces out again.

use std::collections::{HashMap, HashSet};

use super::Graph;
use super::names::Names;
use super::proto::{AttributeProto, NodeProto};
use super::tensor::{int64_proto, int64s};

/// The same graph with each `SequenceAt(SplitToSequence(x, sizes), i)` as a slice of `x`, where the
/// sizes and `i` are constants. Sequences that are used otherwise stay, for `verify` to refuse.
pub(super) fn without_sequences(mut graph: Graph) -> Graph {
    if !graph.nodes().iter().any(|node| node.op() == "SplitToSequence") {
        return graph;
    }
    let mut names = Names::of(&graph.graph);
    let constants = constants(&graph);
    let nodes = std::mem::take(&mut graph.graph.node);
    let splits = splits(&graph, &nodes, &constants);
    for node in nodes {
        let sequence = node.input.first().and_then(|name| splits.get(name.as_str()));
        let piece = sequence.filter(|_| node.op() == "SequenceAt").and_then(|split| {
            let index = constants.get(node.input.get(1)?)?.first()?;
            Some((split, split.bounds(*index)?))
        });
        match piece {
            Some((split, bounds)) => {
                graph.graph.node.extend(split.slice(&node, bounds, &mut names));
            }
            None if node.output.first().is_some_and(|name| splits.contains_key(name)) => {}
            None => graph.graph.node.push(node),
        }
    }
    graph
}

/// A tensor that is cut into pieces.
struct Split {
    x: String,
    axis: i64,
    /// The pieces' sizes, or one size for all but the last.
    sizes: Vec<i64>,
    even: bool,
}

impl Split {
    /// Where a piece begins and ends along the axis.
    fn bounds(&self, index: i64) -> Option<[i64; 2]> {
        if self.even {
            let size = *self.sizes.first().filter(|size| **size > 0)?;
            let start = (index >= 0).then(|| index.checked_mul(size))??;
            return Some([start, start.checked_add(size)?]);
        }
        let count = i64::try_from(self.sizes.len()).ok()?;
        let index = usize::try_from(if index < 0 { index.checked_add(count)? } else { index });
        let (before, rest) = self.sizes.split_at_checked(index.ok()?)?;
        let start = before.iter().try_fold(0i64, |sum, size| sum.checked_add(*size))?;
        Some([start, start.checked_add(*rest.first()?)?])
    }

    /// The nodes that make the piece which `node` takes out.
    fn slice(&self, node: &NodeProto, [start, end]: [i64; 2], names: &mut Names) -> Vec<NodeProto> {
        let mut input = vec![self.x.clone()];
        let mut nodes = Vec::new();
        for (what, value) in [("start", start), ("end", end), ("axis", self.axis)] {
            let name = names.fresh(format!("{}/{what}", node.label()));
            nodes.push(NodeProto {
                op_type: Some("Constant".into()),
                output: vec![name.clone()],
                attribute: vec![AttributeProto::tensor("value", int64_proto("", &[value]))],
                ..NodeProto::default()
            });
            input.push(name);
        }
        nodes.push(NodeProto { op_type: Some("Slice".into()), input, ..node.clone() });
        nodes
    }
}

/// The int64 values that stand in the file.
fn constants(graph: &Graph) -> HashMap<String, Vec<i64>> {
    let stored = graph.graph.initializer.iter().filter_map(|t| Some((t.name.clone()?, t)));
    let made = graph.nodes().iter().filter(|node| node.op() == "Constant");
    let made = made.filter_map(|node| Some((node.output.first()?.clone(), node.tensor("value")?)));
    stored.chain(made).filter_map(|(name, tensor)| Some((name, int64s(tensor).ok()?))).collect()
}

/// The sequences, by name, of which only constant places are asked for.
fn splits(
    graph: &Graph,
    nodes: &[NodeProto],
    constants: &HashMap<String, Vec<i64>>,
) -> HashMap<String, Split> {
    let split = |node: &NodeProto| {
        let sizes = constants.get(node.input.get(1)?)?.clone();
        let axis = node.int("axis").unwrap_or(0);
        let even = is_scalar(graph, nodes, node.input.get(1)?);
        Some((
            node.output.first()?.clone(),
            Split { x: node.input.first()?.clone(), axis, sizes, even },
        ))
    };
    let mut all: HashMap<String, Split> =
        nodes.iter().filter(|node| node.op() == "SplitToSequence").filter_map(split).collect();
    let mut kept: HashSet<&String> =
        graph.graph.output.iter().filter_map(|o| o.name.as_ref()).collect();
    for node in nodes {
        for (place, name) in node.input.iter().enumerate() {
            let Some(split) = all.get(name) else { continue };
            let index = node.input.get(1).and_then(|index| constants.get(index)?.first());
            let taken = node.op() == "SequenceAt" && place == 0;
            if !taken || index.and_then(|index| split.bounds(*index)).is_none() {
                kept.insert(name);
            }
        }
    }
    all.retain(|name, _| !kept.contains(name));
    all
}

/// Whether a constant has no axes.
fn is_scalar(graph: &Graph, nodes: &[NodeProto], name: &String) -> bool {
    let stored = graph.graph.initializer.iter().find(|t| t.name.as_ref() == Some(name));
    let made = || {
        let made = |node: &&NodeProto| node.op() == "Constant" && node.output.contains(name);
        nodes.iter().find(made)?.tensor("value")
    };
    stored.or_else(made).is_some_and(|tensor| tensor.dims.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::TensorProto;
    use crate::onnx::{Builder, Dim, ElementType, ValueInfo, Verified};

    /// The pieces `index` of an `x` of 7 columns split into `sizes` as a file with sequences.
    fn file(sizes: TensorProto, index: &[i64]) -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(7)]);
        for (i, _) in index.iter().enumerate() {
            let y = b.tanh(x);
            b.output(&format!("y{i}"), y);
        }
        let mut graph = b.finish().unwrap();
        let constant = |name: &str, tensor: TensorProto| NodeProto {
            op_type: Some("Constant".into()),
            output: vec![name.into()],
            attribute: vec![AttributeProto::tensor("value", tensor)],
            ..NodeProto::default()
        };
        let op = |op: &str, input: [&str; 2], output: &str| NodeProto {
            op_type: Some(op.into()),
            input: input.map(String::from).to_vec(),
            output: vec![output.into()],
            ..NodeProto::default()
        };
        let mut split = op("SplitToSequence", ["x", "sizes"], "pieces");
        split.attribute.push(AttributeProto::int("axis", 1));
        graph.graph.node = vec![constant("sizes", sizes), split];
        for (i, index) in index.iter().enumerate() {
            let (at, y) = (format!("at{i}"), format!("y{i}"));
            let scalar = TensorProto { dims: vec![], ..int64_proto("", &[*index]) };
            graph.graph.node.push(constant(&at, scalar));
            graph.graph.node.push(op("SequenceAt", ["pieces", &at], &y));
            let dims = vec![Dim::Batch; 2];
            let open = ValueInfo { name: y, element: ElementType::F32, dims };
            graph.graph.output[i] = open.to_proto();
        }
        graph
    }

    /// The widths of the pieces.
    fn widths(sizes: TensorProto, index: &[i64]) -> Vec<usize> {
        let graph = without_sequences(file(sizes, index));
        let mut b = Builder::with_opset(graph.opset());
        b.append(&graph, &[]).unwrap();
        let width = |i: usize| b.dims(b.value(&format!("y{i}")).unwrap()).unwrap()[1].at(1);
        (0..index.len()).map(width).collect()
    }

    #[test]
    fn pieces_of_a_sequence_become_slices() {
        assert_eq!(widths(int64_proto("", &[2, 4, 1]), &[0, 1, 2, -1, -2]), [2, 4, 1, 1, 4]);
        let even = TensorProto { dims: vec![], ..int64_proto("", &[3]) };
        assert_eq!(widths(even, &[0, 1, 2]), [3, 3, 1]);
    }

    #[test]
    fn a_place_that_is_not_there_stays_and_is_refused() {
        let graph = file(int64_proto("", &[2, 4, 1]), &[0, 3]);
        assert_eq!(without_sequences(graph.clone()), graph);
        let error = Verified::from_bytes(&graph.to_bytes()).unwrap_err().to_string();
        assert!(error.contains("operator `SplitToSequence` is not supported"), "{error}");
    }
}
