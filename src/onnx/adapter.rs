//! Low-rank adapters on linear layers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::selection::{expect_match, matches};
use super::usage::Usage;
use super::{Builder, Graph, OnnxError, Tensor, Value};
use crate::rng::{Stream, item, normal};

/// Low-rank adaptation (Hu et al., 2021): in each linear layer the weight `W` stays, and
/// `W + (alpha / rank) A B` is used in its place, where only `A` (inputs, rank) and `B` (rank,
/// outputs) are trained. `A` starts random with variance 1 / inputs and `B` at zero, so training
/// starts from exactly the policy that was given.
///
/// The sum is formed once a step, in the graph, for `6 rank inputs outputs` multiplications forth and
/// back that do not grow with the batch; everything after it is the layer as it was. The gradient of
/// `W` itself is still computed, so a step is no cheaper than one that trains all weights: what shrinks
/// are the optimiser's state and what can be forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// Columns of `A` and rows of `B`, at least 1.
    pub rank: usize,
    /// The product counts `alpha / rank` times.
    pub alpha: f32,
    /// Which weights, by name: `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// Seed of `A`.
    pub seed: u64,
}

impl Adapter {
    /// Adapters of this rank on every linear layer, with `alpha` the rank.
    pub fn new(rank: usize) -> Self {
        Self { rank, alpha: rank as f32, pattern: "*".into(), seed: 0 }
    }

    /// The weights it goes on, in order of name, with whether their rows are the layer's inputs:
    /// matrices that every use multiplies with, in Gemm or MatMul, all in the same orientation,
    /// transposed before or not.
    ///
    /// # Errors
    /// The pattern matches no weight of a linear layer, or the rank is 0.
    pub fn layers(&self, policy: &Graph) -> Result<BTreeMap<String, bool>, OnnxError> {
        if self.rank == 0 {
            return Err(OnnxError::invalid("adapter", "a rank of at least 1", 0));
        }
        let usage = Usage::of(policy);
        let mut layers = BTreeMap::new();
        let mut matrices = policy.parameters()?;
        matrices.retain(|name, tensor| {
            let rows_are_inputs = rows_are_inputs(&usage, name).filter(|_| tensor.dims.len() == 2);
            if let Some(rows) = rows_are_inputs.filter(|_| matches(&self.pattern, name)) {
                layers.insert(name.clone(), rows);
            }
            rows_are_inputs.is_some()
        });
        expect_match(&self.pattern, &matrices)?;
        Ok(layers)
    }

    /// Adds the factors as parameters and returns them with the adapted weights, to be bound to the
    /// layers' names when the policy is appended.
    pub(super) fn bind(
        &self,
        b: &mut Builder,
        policy: &Graph,
        layers: &BTreeMap<String, bool>,
    ) -> Result<Vec<(Adapted, Value)>, OnnxError> {
        let mut parameters = policy.parameters()?;
        let weights = layers.iter().enumerate().filter_map(|(index, (name, rows_are_inputs))| {
            Some((index as u64, name, *rows_are_inputs, parameters.remove(name)?))
        });
        let mut bound = Vec::new();
        for (index, name, rows_are_inputs, weight) in weights.collect::<Vec<_>>() {
            let &[rows, columns] = weight.dims.as_slice() else { continue };
            let random = |dims: [usize; 2], inputs: usize| {
                let mut rng = item(self.seed, Stream::Weights, index);
                let deviation = (inputs as f64).sqrt().recip();
                let data =
                    (0..dims.iter().product()).map(|_| (deviation * normal(&mut rng)) as f32);
                Tensor { dims: dims.to_vec(), data: data.collect() }
            };
            let (left, right) = if rows_are_inputs {
                (random([rows, self.rank], rows), Tensor::zeros([self.rank, columns]))
            } else {
                (Tensor::zeros([rows, self.rank]), random([self.rank, columns], columns))
            };
            let adapted = Adapted::of(name, weight, self.alpha / self.rank as f32);
            let base = b.parameter(name, adapted.base.clone());
            let left = b.parameter(&adapted.left, left);
            let right = b.parameter(&adapted.right, right);
            let scale = b.scalar(adapted.scale);
            let product = b.matmul(left, right);
            let product = b.mul(product, scale);
            bound.push((adapted, b.add(base, product)));
        }
        Ok(bound)
    }
}

/// An adapted weight: `base + scale left right`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adapted {
    pub name: String,
    pub left: String,
    pub right: String,
    base: Tensor,
    scale: f32,
}

impl Adapted {
    fn of(name: &str, base: Tensor, scale: f32) -> Self {
        let (left, right) = (format!("{name}.lora_left"), format!("{name}.lora_right"));
        Self { name: name.into(), left, right, base, scale }
    }

    /// Replaces the factors by the weight that they make of the base.
    pub fn merge(&self, parameters: &mut BTreeMap<String, Tensor>) {
        let factors = (parameters.remove(&self.left), parameters.remove(&self.right));
        let (Some(left), Some(right), &[_, columns]) =
            (factors.0, factors.1, self.base.dims.as_slice())
        else {
            return;
        };
        let rank = left.dims.last().copied().unwrap_or(1).max(1);
        let mut data = self.base.data.clone();
        let rows = data.chunks_exact_mut(columns.max(1)).zip(left.data.chunks_exact(rank));
        for (row, factors) in rows {
            for (column, w) in row.iter_mut().enumerate() {
                let of_column = right.data.iter().skip(column).step_by(columns.max(1));
                let sum: f64 =
                    factors.iter().zip(of_column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                *w = (f64::from(*w) + f64::from(self.scale) * sum) as f32;
            }
        }
        parameters.insert(self.name.clone(), Tensor { dims: self.base.dims.clone(), data });
    }
}

/// Whether a weight's rows are its layer's inputs; `None` when it is not the weight of linear layers
/// alone, or they use it in both orientations.
fn rows_are_inputs(usage: &Usage<'_>, name: &str) -> Option<bool> {
    let uses = usage.uses(name);
    let mut orientations = uses.iter().map(|place| {
        let flag = |name| place.node.int(name).unwrap_or(0) != 0;
        let straight = match (place.node.op(), place.input) {
            ("MatMul", 1) => true,
            ("MatMul", 0) => false,
            ("Gemm", 1) => !flag("transB"),
            ("Gemm", 0) => flag("transA"),
            _ => return None,
        };
        Some(straight != place.turned)
    });
    let first = orientations.next()??;
    orientations.all(|o| o == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Dim;

    #[test]
    fn the_orientation_of_a_layer_follows_from_its_use() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Fixed(3), Dim::Fixed(3)]);
        let names = ["straight", "flag", "turned", "both_turned", "left"];
        let [straight, flag, turned, both, left] =
            names.map(|name| b.parameter(name, Tensor::zeros([3, 3])));
        let h = b.matmul(x, straight);
        let h = b.product((h, false), (flag, true), 1.0);
        let turned = b.transpose(turned, &[1, 0]);
        let h = b.matmul(h, turned);
        let both = b.transpose(both, &[1, 0]);
        let h = b.product((h, false), (both, true), 1.0);
        let h = b.matmul(left, h);
        b.output("y", h);
        let layers = Adapter::new(1).layers(&b.finish().unwrap()).unwrap();
        let rows_are_inputs = names.map(|name| layers[name]);
        assert_eq!(rows_are_inputs, [true, false, false, true, false]);
    }

    #[test]
    fn a_rank_of_0_is_refused() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(1)]);
        b.output("y", x);
        let policy = b.finish().unwrap();
        assert!(Adapter::new(0).layers(&policy).unwrap_err().to_string().contains("rank"));
    }
}
