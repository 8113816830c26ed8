//! What an exported graph does with its stored tensors: the only witness of which of them were
//! parameters, since exporters store weights and constants alike.

use std::collections::{HashMap, HashSet};

use super::proto::NodeProto;
use super::{Graph, Tensor};

/// One place where a tensor is used, behind any operators that only arrange it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use<'a> {
    pub node: &'a NodeProto,
    /// Which of the node's inputs it is.
    pub input: usize,
    /// Whether a transposition stands between them.
    pub turned: bool,
}

/// The uses of every value of a graph.
pub(crate) struct Usage<'a> {
    consumers: HashMap<&'a str, Vec<(&'a NodeProto, usize)>>,
    producers: HashMap<&'a str, &'a NodeProto>,
    inputs: HashSet<&'a str>,
}

impl<'a> Usage<'a> {
    pub fn of(graph: &'a Graph) -> Self {
        let mut consumers: HashMap<&str, Vec<_>> = HashMap::new();
        let mut producers = HashMap::new();
        for node in graph.nodes() {
            for (input, name) in node.input.iter().enumerate() {
                consumers.entry(name.as_str()).or_default().push((node, input));
            }
            producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
        }
        let stored: HashSet<_> =
            graph.graph.initializer.iter().map(|t| t.name.as_deref()).collect();
        let inputs = graph.graph.input.iter().map(|input| input.name.as_deref());
        let inputs = inputs.filter(|name| !stored.contains(name)).flatten().collect();
        Self { consumers, producers, inputs }
    }

    /// Where a value is used, in the graph's order.
    pub fn uses(&self, name: &str) -> Vec<Use<'a>> {
        let mut found = Vec::new();
        let mut open = vec![(name, false)];
        while let Some((name, turned)) = open.pop() {
            for (node, input) in self.consumers.get(name).into_iter().flatten().copied() {
                let arranged = node.output.first().filter(|_| input == 0);
                match (node.op(), arranged) {
                    ("Transpose", Some(next)) => open.push((next, !turned)),
                    ("Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Cast", Some(next)) => {
                        open.push((next, turned));
                    }
                    _ => found.push(Use { node, input, turned }),
                }
            }
        }
        found
    }

    /// Whether this use is one that only parameters have: the weight or bias of a layer, or a token
    /// that is repeated for every sample.
    pub fn is_layer(&self, place: &Use<'_>) -> bool {
        match (place.node.op(), place.input) {
            ("Gemm" | "MatMul" | "Einsum", _) => true,
            ("Conv" | "ConvTranspose", 1 | 2) => true,
            ("GRU" | "LSTM" | "RNN", 1..=3) => true,
            ("PRelu", 1) | ("Gather" | "Expand", 0) => true,
            ("Add", _) if self.follows(place, &[], &["MatMul", "Gemm", "Conv"]) => true,
            // GroupNormalization as the exporters write it.
            ("Add" | "Mul", _) => {
                self.follows(place, &["Reshape", "Mul"], &["InstanceNormalization"])
            }
            _ => is_norm(place),
        }
    }

    /// Whether this use shifts or scales an input of the graph, with nothing learned before it.
    pub fn is_normaliser(&self, place: &Use<'_>) -> bool {
        let arranging =
            ["Cast", "Clip", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Unsqueeze"];
        let scaling = ["Add", "Div", "Mul", "Sub"];
        let through = [&arranging[..], &scaling].concat();
        scaling.contains(&place.node.op()) && self.follows(place, &through, &[])
    }

    /// Whether a use's other operand comes from one of `sources`, or without any from an input of the
    /// graph, through no other operators than `through`, first inputs first.
    fn follows(&self, place: &Use<'_>, through: &[&str], sources: &[&str]) -> bool {
        let mut name = place.node.input.get(1 - place.input.min(1));
        // A graph has no longer way than it has producers.
        for _ in 0..=self.producers.len() {
            match name.map(|name| (name, self.producers.get(name.as_str()))) {
                Some((_, Some(node))) if sources.contains(&node.op()) => return true,
                Some((_, Some(node))) if through.contains(&node.op()) => name = node.input.first(),
                Some((name, None)) => {
                    return sources.is_empty() && self.inputs.contains(name.as_str());
                }
                _ => return false,
            }
        }
        false
    }
}

/// Whether this is a normalisation's scale or bias.
pub(crate) fn is_norm(place: &Use<'_>) -> bool {
    let norms = [
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
    ];
    norms.contains(&place.node.op()) && matches!(place.input, 1 | 2)
}

/// Whether this is BatchNormalization's running mean or variance.
pub(crate) fn is_statistic(place: &Use<'_>) -> bool {
    place.node.op() == "BatchNormalization" && matches!(place.input, 3 | 4)
}

/// Whether an exporter made a name up, as opposed to taking it from the module tree: PyTorch's older
/// exporter writes `onnx::MatMul_12`, `/net/Constant_output_0` and bare numbers, its newer one `val_3`
/// or the operator that it folded (`unsqueeze_1`), JAX's exporters `const_4` and `var_7`.
pub(crate) fn is_made_up(name: &str) -> bool {
    const NUMBERED: [&str; 6] = ["", "val_", "const_", "constant_", "Constant_", "var_"];
    const FOLDED: [&str; 13] = [
        "add",
        "cat",
        "clone",
        "div",
        "expand",
        "getitem",
        "mul",
        "permute",
        "repeat",
        "sub",
        "transpose",
        "unsqueeze",
        "view",
    ];
    let number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let folded = |stem: &str| {
        let rest = name.strip_prefix(stem);
        rest.is_some_and(|r| r.is_empty() || r.strip_prefix('_').is_some_and(number))
    };
    let inside = ["Constant_output", "lifted_tensor", "scalar_tensor", "tensor_constant"];
    name.starts_with("onnx::")
        || name.starts_with('/')
        || inside.iter().any(|part| name.contains(part))
        || NUMBERED.iter().any(|stem| name.strip_prefix(stem).is_some_and(number))
        || FOLDED.iter().any(|stem| folded(stem))
}

/// Whether all elements are the same number, as parameters are only before any training.
pub(crate) fn is_uniform(tensor: &Tensor) -> bool {
    tensor.data.iter().all(|x| Some(x) == tensor.data.first())
}
