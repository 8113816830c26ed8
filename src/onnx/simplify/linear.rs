//! Linear layers in one node: `x W' + bias` as one `Gemm`, whatever the exporter made of it.
//!
//! A layer over more than two axes becomes a product of two matrices between two changes of shape,
//! which cost nothing. Then the weight's gradient is one product too, the bias is added while the
//! product is written, and no weight is transposed in each step.

use super::{Simplifier, sizes};
use crate::onnx::Value;
use crate::onnx::proto::{AttributeProto, NodeProto};

/// `x w` or `x w'`.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    x: Value,
    w: Value,
    transposed: bool,
}

impl Simplifier {
    /// The value of a linear layer whose last node is `node`; `None` when it is none, or is as simple
    /// as it can be.
    pub(super) fn linear(&mut self, node: &NodeProto, inputs: &[Option<Value>]) -> Option<Value> {
        match (node.op(), inputs) {
            ("Add", [Some(a), Some(b)]) => {
                self.with_bias(node, 0, *a, *b).or_else(|| self.with_bias(node, 1, *b, *a))
            }
            ("MatMul", [Some(x), Some(w)]) => {
                let (w, transposed) = self.untransposed(*w)?;
                let y = if transposed { self.layer(*x, w, true, None) } else { None }?;
                self.layers.insert(y, Layer { x: *x, w, transposed });
                Some(y)
            }
            ("Gemm", [x, Some(w), rest @ ..]) => {
                let (w, transposed) = self.untransposed(*w)?;
                let mut proto = node.clone();
                let flag = node.int("transB").unwrap_or(0) == 0;
                proto.attribute.retain(|a| a.name.as_deref() != Some("transB"));
                proto.attribute.push(AttributeProto::int("transB", flag.into()));
                let inputs: Vec<_> =
                    [*x, Some(w)].into_iter().chain(rest.iter().copied()).collect();
                let made = || self.b.node(proto, &inputs, 1).first().copied();
                transposed.then(made).flatten()
            }
            _ => None,
        }
    }

    /// `product + bias` where the product is a layer that nobody else reads.
    fn with_bias(
        &mut self,
        node: &NodeProto,
        index: usize,
        product: Value,
        bias: Value,
    ) -> Option<Value> {
        let Layer { x, w, transposed } = self.product(product)?;
        if self.uses.get(node.input.get(index)?) != Some(&1) {
            return None;
        }
        let width = *sizes(self.b.dims(product)?)?.last()?;
        if sizes(self.b.dims(bias)?)? != [width] {
            return None;
        }
        self.layer(x, w, transposed, Some(bias))
    }

    /// The layer without a bias that gives `y`.
    fn product(&self, y: Value) -> Option<Layer> {
        let made = || {
            let node = self.b.nodes.get(*self.made_by.get(&y)?)?;
            match node.inputs.as_slice() {
                &[Some(x), Some(w)] if node.proto.op() == "MatMul" => {
                    Some(Layer { x, w, transposed: false })
                }
                _ => None,
            }
        };
        self.layers.get(&y).copied().or_else(made)
    }

    /// `x w' + bias` over the last axis of `x`.
    fn layer(
        &mut self,
        x: Value,
        w: Value,
        transposed: bool,
        bias: Option<Value>,
    ) -> Option<Value> {
        let (from, weight) = (sizes(self.b.dims(x)?)?, sizes(self.b.dims(w)?)?);
        let (&[rows, columns], [lead @ .., inner]) = (weight.as_slice(), from.as_slice()) else {
            return None;
        };
        if lead.is_empty() {
            return None;
        }
        let width = if transposed { rows } else { columns };
        let flat = lead.len() == 1;
        let x = if flat { x } else { self.b.reshape(x, &[-1, *inner as i64]) };
        let proto = NodeProto {
            op_type: Some("Gemm".into()),
            attribute: vec![AttributeProto::int("transB", transposed.into())],
            ..NodeProto::default()
        };
        let inputs: Vec<_> = [Some(x), Some(w)].into_iter().chain(bias.map(Some)).collect();
        let y = self.b.node(proto, &inputs, 1).first().copied()?;
        let shape: Vec<i64> = lead.iter().chain([&width]).map(|n| *n as i64).collect();
        Some(if flat { y } else { self.b.reshape(y, &shape) })
    }

    /// The matrix that `w` is the transpose of.
    fn untransposed(&self, w: Value) -> Option<(Value, bool)> {
        let turned = self.made_by.get(&w).and_then(|place| self.b.nodes.get(*place));
        match turned {
            Some(node) if node.proto.op() == "Transpose" && self.b.dims(w)?.len() == 2 => {
                let order = node.proto.ints("perm").unwrap_or(&[1, 0]);
                let source = node.inputs.first().copied().flatten()?;
                Some((source, order == [1, 0]))
            }
            _ => Some((w, false)),
        }
    }
}
