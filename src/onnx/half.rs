//! Matrix products in half precision, everything else in f32.
//!
//! Mixed precision (Micikevicius et al., 2018): the factors of products and convolutions are rounded
//! to 16 bits, which is where a card's speed is; weights, their updates, sums, normalisation and the
//! loss stay f32. bf16 has the range of f32 and needs no scaling of the loss.

use std::collections::HashSet;

use super::Graph;
use super::proto::{AttributeProto, NodeProto, data_type};

/// How the factors of products are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// To bfloat16: 8 bits of precision, the range of f32.
    Bf16,
    /// To IEEE half precision: 11 bits, numbers up to 65504; small gradients may vanish.
    F16,
}

/// The operators that are products.
const PRODUCTS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

impl Precision {
    /// The graph with its products in this precision. Only ONNX Runtime runs every such graph.
    pub(crate) fn apply(self, graph: &Graph) -> Graph {
        let to = match self {
            Self::F32 => return graph.clone(),
            Self::Bf16 => data_type::BFLOAT16,
            Self::F16 => data_type::FLOAT16,
        };
        let mut rounded = graph.clone();
        let mut done = HashSet::new();
        rounded.graph.node.clear();
        for node in graph.nodes() {
            if !PRODUCTS.contains(&node.op()) {
                rounded.graph.node.push(node.clone());
                continue;
            }
            let factors = node.input.iter().filter(|name| !name.is_empty());
            for name in factors {
                if done.insert(name) {
                    rounded.graph.node.push(cast(name, &half(name), to));
                }
            }
            let half_unless_empty =
                |name: &String| if name.is_empty() { String::new() } else { half(name) };
            let product = NodeProto {
                input: node.input.iter().map(half_unless_empty).collect(),
                output: node.output.iter().map(|name| product_of(name)).collect(),
                ..node.clone()
            };
            rounded.graph.node.push(product);
            let back =
                node.output.iter().map(|name| cast(&product_of(name), name, data_type::FLOAT));
            rounded.graph.node.extend(back);
        }
        rounded
    }
}

fn half(name: &str) -> String {
    format!("{name}.half")
}

fn product_of(name: &str) -> String {
    format!("{name}.product")
}

fn cast(from: &str, to: &str, element: i32) -> NodeProto {
    NodeProto {
        op_type: Some("Cast".into()),
        input: vec![from.into()],
        output: vec![to.into()],
        attribute: vec![AttributeProto::int("to", element.into())],
        ..NodeProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Builder, Dim, Tensor};

    #[test]
    fn only_products_are_rounded_and_each_factor_once() {
        let mut b = Builder::new();
        let x = b.input("x", &[2, 2].map(Dim::Fixed));
        let w = b.parameter("w", Tensor::zeros([2, 2]));
        let y = b.matmul(x, w);
        let y = b.tanh(y);
        let z = b.matmul(y, w);
        b.output("z", z);
        let graph = b.finish().unwrap();
        let ops = |p: Precision| {
            p.apply(&graph).nodes().iter().map(|n| n.op().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ops(Precision::F32), ["MatMul", "Tanh", "MatMul"]);
        let expected = ["Cast", "Cast", "MatMul", "Cast", "Tanh", "Cast", "MatMul", "Cast"];
        assert_eq!(ops(Precision::Bf16), expected);
        assert_eq!(Precision::F16.apply(&graph).outputs(), graph.outputs());
    }
}
