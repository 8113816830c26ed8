//! An update as one node, which engines on a processor run in one pass over memory.
//!
//! The node takes the parameters and gradients piece by piece, as they are: nothing is cut out of
//! the flat vector or joined into it. What it computes stands in the file as a function of plain
//! nodes (a model-local function of the ONNX specification), so that any engine can run the file.

use super::Optimiser;
use crate::onnx::proto::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto};
use crate::onnx::{AdamW, Builder, Dim, OnnxError, Sgd, Tensor};

/// The domain of our operators.
pub(crate) const DOMAIN: &str = "regoal";

impl Optimiser {
    /// The operator of domain [`DOMAIN`] that is this update. Inputs: `lr`, the
    /// [`state`](Optimiser::state), the parameters, their gradients; outputs: the gradient's norm,
    /// the new state, the new parameters.
    pub(crate) fn operator(&self) -> &'static str {
        match self {
            Self::AdamW(_) => "AdamW",
            Self::Sgd(_) => "Sgd",
        }
    }

    /// The operators of [`Optimiser::operator`].
    pub(crate) const OPERATORS: [&'static str; 2] = ["AdamW", "Sgd"];

    /// The attributes of the node.
    fn attributes(&self) -> Vec<(&'static str, f32)> {
        let mut all = match self {
            Self::AdamW(adam) => {
                vec![("beta1", adam.beta1), ("beta2", adam.beta2), ("epsilon", adam.epsilon)]
            }
            Self::Sgd(sgd) => {
                vec![("momentum", sgd.momentum), ("nesterov", f32::from(u8::from(sgd.nesterov)))]
            }
        };
        all.push(("weight_decay", self.weight_decay()));
        all.extend(self.clip_norm().map(|limit| ("clip_norm", limit)));
        all.extend(self.ema().map(|decay| ("ema", decay)));
        all
    }

    /// The optimiser that a node describes; `None` when it is no operator of ours or lacks an
    /// attribute.
    pub(crate) fn from_node(
        operator: &str,
        attribute: impl Fn(&str) -> Option<f32>,
    ) -> Option<Self> {
        let weight_decay = attribute("weight_decay")?;
        let (clip_norm, ema) = (attribute("clip_norm"), attribute("ema"));
        match operator {
            "AdamW" => Some(Self::AdamW(AdamW {
                beta1: attribute("beta1")?,
                beta2: attribute("beta2")?,
                epsilon: attribute("epsilon")?,
                weight_decay,
                clip_norm,
                ema,
            })),
            "Sgd" => Some(Self::Sgd(Sgd {
                momentum: attribute("momentum")?,
                nesterov: attribute("nesterov")? != 0.0,
                weight_decay,
                clip_norm,
                ema,
            })),
            _ => None,
        }
    }

    /// The node, with the names of its inputs and outputs.
    pub(crate) fn node(&self, input: Vec<String>, output: Vec<String>) -> NodeProto {
        NodeProto {
            input,
            output,
            name: Some("update".into()),
            op_type: Some(self.operator().into()),
            attribute: self
                .attributes()
                .iter()
                .map(|(n, x)| AttributeProto::float(n, *x))
                .collect(),
            domain: Some(DOMAIN.into()),
            ..NodeProto::default()
        }
    }

    /// The function that the node stands for, for parameters of these sizes.
    ///
    /// # Errors
    /// Never for sizes that [`Builder`] accepts.
    pub(crate) fn function(
        &self,
        opset: i64,
        pieces: &[Vec<usize>],
    ) -> Result<FunctionProto, OnnxError> {
        let count = |dims: &Vec<usize>| dims.iter().product::<usize>();
        let flat = Tensor::zeros([pieces.iter().map(count).sum()]);
        let fixed = |dims: &[usize]| dims.iter().copied().map(Dim::Fixed).collect::<Vec<_>>();
        let mut b = Builder::with_opset(opset);
        let lr = b.input("lr", &[]);
        let state: Vec<_> =
            self.state(&flat).iter().map(|(name, t)| b.input(name, &fixed(&t.dims))).collect();
        let joined = |b: &mut Builder, what: &str| {
            let parts = pieces.iter().enumerate().map(|(i, dims)| {
                let part = b.input(&format!("{what}{i}"), &fixed(dims));
                b.reshape(part, &[-1])
            });
            let parts: Vec<_> = parts.collect();
            b.concat(&parts, 0)
        };
        let (p, g) = (joined(&mut b, "parameter"), joined(&mut b, "gradient"));
        let wrong = || OnnxError::invalid("optimiser", "its own state", "another");
        let update = self.update(&mut b, p, g, lr, &state).ok_or_else(wrong)?;
        b.output("norm", update.gradient_norm);
        for (i, value) in update.state.iter().enumerate() {
            b.output(&format!("next{i}"), *value);
        }
        let sizes: Vec<i64> = pieces.iter().map(|dims| count(dims) as i64).collect();
        let parts = b.split(update.parameters, 0, &sizes);
        for (i, (part, dims)) in parts.into_iter().zip(pieces).enumerate() {
            let shape: Vec<i64> = dims.iter().map(|n| *n as i64).collect();
            let part = b.reshape(part, &shape);
            b.output(&format!("new{i}"), part);
        }
        let graph = b.finish()?.graph;
        let names = |values: &[crate::onnx::proto::ValueInfoProto]| {
            values.iter().filter_map(|v| v.name.clone()).collect()
        };
        Ok(FunctionProto {
            name: Some(self.operator().into()),
            input: names(&graph.input),
            output: names(&graph.output),
            attribute: self.attributes().iter().map(|(name, _)| (*name).to_owned()).collect(),
            node: graph.node,
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(opset),
            }],
            domain: Some(DOMAIN.into()),
            ..FunctionProto::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_all_of_its_optimiser() {
        let adam = AdamW { clip_norm: Some(2.0), ..AdamW::default() };
        let sgd = Sgd { nesterov: true, ema: Some(0.99), ..Sgd::default() };
        for optimiser in [Optimiser::from(adam), Optimiser::from(sgd)] {
            let node = optimiser.node(vec![], vec![]);
            let found = Optimiser::from_node(node.op(), |name| node.float(name));
            assert_eq!(found, Some(optimiser));
            assert!(Optimiser::OPERATORS.contains(&node.op()));
        }
    }
}
