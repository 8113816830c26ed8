//! What an exported graph does with its stored tensors: the only witness of which of them were
//! parameters, since exporters store weights and constants alike.

use std::collections::HashMap;

use super::Graph;
use super::proto::NodeProto;

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
        Self { consumers, producers }
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

    /// Whether this use is one that only parameters have: the weight or bias of a layer.
    pub fn is_layer(&self, place: &Use<'_>) -> bool {
        match (place.node.op(), place.input) {
            ("Gemm" | "MatMul" | "Einsum", _) => true,
            ("Conv" | "ConvTranspose", 1 | 2) => true,
            ("GRU" | "LSTM" | "RNN", 1..=3) => true,
            ("PRelu", 1) | ("Gather", 0) => true,
            ("Add", input) => self.follows_product(place.node, input),
            _ => is_norm(place),
        }
    }

    /// Whether the other input of a node is a product, which makes this one its bias.
    fn follows_product(&self, node: &NodeProto, input: usize) -> bool {
        let other = node.input.get(1 - input.min(1));
        let producer = other.and_then(|name| self.producers.get(name.as_str()));
        producer.is_some_and(|p| matches!(p.op(), "MatMul" | "Gemm" | "Conv"))
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
/// and `lifted_tensor_0`, JAX's exporters `const_4` and `var_7`.
pub(crate) fn is_made_up(name: &str) -> bool {
    let numbered = |stem: &str| {
        name.strip_prefix(stem)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '_'))
    };
    let stems = [
        "",
        "val_",
        "const_",
        "constant_",
        "Constant_",
        "var_",
        "tensor_constant",
        "_tensor_constant",
    ];
    name.starts_with("onnx::")
        || name.starts_with('/')
        || name.contains("Constant_output")
        || name.contains("lifted_tensor")
        || name.contains("scalar_tensor")
        || stems.iter().any(|stem| numbered(stem))
}
