//! Networks of dense layers as graph pieces.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::onnx::{Builder, Dim, OnnxError, Tensor, Value};
use crate::rng::{Rng, normal};
use rand::RngExt as _;

/// What stands between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// How first weights are drawn; biases start at zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform in `±sqrt(6 / (inputs + outputs))` (Glorot & Bengio, 2010).
    Xavier,
    /// Orthogonal rows or columns times a gain, with another gain for the last layer (Saxe et al.,
    /// 2014).
    Orthogonal {
        /// Of the hidden layers.
        gain: f32,
        /// Of the last layer.
        last: f32,
    },
}

/// A multi-layer perceptron: `[N, inputs]` to `[N, outputs]`, and numbers beside it that are trained
/// with it but do not depend on its input (a policy's log standard deviations).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    /// Numbers in.
    pub inputs: usize,
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Numbers out.
    pub outputs: usize,
    /// Numbers beside it.
    pub free: usize,
    /// Between the layers; none stands after the last.
    pub activation: Activation,
}

/// A network's weights as values of a graph: one network may be applied many times.
#[derive(Debug, Clone)]
pub struct Layers {
    layers: Vec<(Value, Value)>,
    free: Option<Value>,
    activation: Activation,
}

impl Mlp {
    /// A network of these sizes with nothing beside it.
    pub fn new(inputs: usize, hidden: &[usize], outputs: usize, activation: Activation) -> Self {
        Self { inputs, hidden: hidden.to_vec(), outputs, free: 0, activation }
    }

    fn sizes(&self) -> impl Iterator<Item = [usize; 2]> {
        let before = std::iter::once(self.inputs).chain(self.hidden.iter().copied());
        let after = self.hidden.iter().copied().chain([self.outputs]);
        before.zip(after).map(|(i, o)| [i, o])
    }

    /// The shapes of all tensors in the order of the flat vector: each layer's weight `[i, o]` and
    /// bias `[o]`, then what is free.
    fn shapes(&self, name: &str) -> Vec<(String, Vec<usize>)> {
        let layers = self.sizes().enumerate().flat_map(|(i, [from, to])| {
            [(format!("{name}.{i}.weight"), vec![from, to]), (format!("{name}.{i}.bias"), vec![to])]
        });
        let free = (self.free > 0).then(|| (format!("{name}.free"), vec![self.free]));
        layers.chain(free).collect()
    }

    /// The names of the initializers that [`trained`](Self::trained) adds.
    pub fn names(&self, name: &str) -> Vec<String> {
        self.shapes(name).into_iter().map(|(name, _)| name).collect()
    }

    /// How many numbers all weights are.
    pub fn size(&self) -> usize {
        self.sizes().map(|[from, to]| from * to + to).sum::<usize>() + self.free
    }

    /// First weights, one flat vector; what is free starts at zero.
    pub fn draw(&self, init: Init, rng: &mut Rng) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.size());
        let layers = self.hidden.len();
        for (layer, [from, to]) in self.sizes().enumerate() {
            match init {
                Init::Xavier => {
                    let limit = (6.0 / (from + to) as f32).sqrt();
                    flat.extend((0..from * to).map(|_| rng.random_range(-limit..=limit)));
                }
                Init::Orthogonal { gain, last } => {
                    let gain = if layer == layers { last } else { gain };
                    flat.extend(orthogonal(from, to, rng).into_iter().map(|w| gain * w));
                }
            }
            flat.extend(std::iter::repeat_n(0.0, to));
        }
        flat.extend(std::iter::repeat_n(0.0, self.free));
        flat
    }

    /// The network with its weights as initializers `NAME.i.weight`, `NAME.i.bias` and `NAME.free`:
    /// parameters that a training step trains or a file keeps.
    ///
    /// # Errors
    /// The flat vector has another size.
    pub fn trained(&self, b: &mut Builder, name: &str, flat: &[f32]) -> Result<Layers, OnnxError> {
        if flat.len() != self.size() {
            let expected = format!("{} weights", self.size());
            return Err(OnnxError::invalid(name.to_owned(), expected, flat.len().to_string()));
        }
        let mut start = 0;
        let values = self.shapes(name).into_iter().map(|(name, dims)| {
            let end = start + dims.iter().product::<usize>();
            let data = flat[start..end].to_vec();
            start = end;
            Ok(b.parameter(&name, Tensor::new(dims, data)?))
        });
        Ok(self.layers(values.collect::<Result<_, OnnxError>>()?))
    }

    /// The network with its weights as one input `NAME`, `[size]`: another learner's network, handed
    /// over with each batch.
    pub fn given(&self, b: &mut Builder, name: &str) -> Layers {
        let flat = b.input(name, &[Dim::Fixed(self.size())]);
        let shapes = self.shapes(name);
        let sizes: Vec<i64> =
            shapes.iter().map(|(_, d)| d.iter().product::<usize>() as i64).collect();
        let pieces = b.split(flat, 0, &sizes);
        let dims = |d: &[usize]| d.iter().map(|n| *n as i64).collect::<Vec<_>>();
        let values = pieces.iter().zip(&shapes).map(|(v, (_, d))| b.reshape(*v, &dims(d)));
        let values = values.collect();
        self.layers(values)
    }

    fn layers(&self, mut values: Vec<Value>) -> Layers {
        let free = if self.free > 0 { values.pop() } else { None };
        let layers = values.as_chunks::<2>().0.iter().map(|[w, bias]| (*w, *bias)).collect();
        Layers { layers, free, activation: self.activation }
    }
}

impl Layers {
    /// The network's output `[N, outputs]` for `x` `[N, inputs]`.
    pub fn apply(&self, b: &mut Builder, x: Value) -> Value {
        let last = self.layers.len().saturating_sub(1);
        self.layers.iter().enumerate().fold(x, |x, (i, (weight, bias))| {
            let y = b.gemm(x, *weight, *bias);
            match self.activation {
                _ if i == last => y,
                Activation::Relu => b.relu(y),
                Activation::Tanh => b.tanh(y),
            }
        })
    }

    /// The numbers beside it, `[free]`.
    pub fn free(&self) -> Option<Value> {
        self.free
    }
}

/// A matrix `[from, to]`, row by row, with orthonormal columns, or rows where there are fewer.
fn orthogonal(from: usize, to: usize, rng: &mut Rng) -> Vec<f32> {
    let (tall, wide) = (from.max(to), from.min(to));
    let gaussian = DMatrix::from_fn(tall, wide, |_, _| normal(rng));
    let qr = gaussian.qr();
    let (q, r) = (qr.q(), qr.r());
    // Signs that make the draw uniform over the orthogonal matrices (Mezzadri, 2007).
    let at = |i: usize, j: usize| (q[(i, j)] * r[(j, j)].signum()) as f32;
    let row = |i: usize| (0..to).map(move |j| (i, j));
    let places = (0..from).flat_map(row);
    places.map(|(i, j)| if from >= to { at(i, j) } else { at(j, i) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, stream};

    #[test]
    fn orthogonal_weights_keep_lengths() {
        let mut rng = stream(1, Stream::Weights);
        for (from, to) in [(5, 3), (3, 5), (4, 4)] {
            let w = DMatrix::from_row_slice(from, to, &orthogonal(from, to, &mut rng));
            let gram = if from >= to { w.transpose() * &w } else { &w * w.transpose() };
            let identity = DMatrix::identity(from.min(to), from.min(to));
            assert!((gram - identity).abs().max() < 1e-5, "{from} {to}");
        }
    }

    #[test]
    fn given_and_trained_weights_are_the_same_network() {
        let mlp = Mlp { free: 2, ..Mlp::new(3, &[8, 4], 2, Activation::Tanh) };
        let mut rng = stream(2, Stream::Weights);
        let flat = mlp.draw(Init::Xavier, &mut rng);
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Fixed(4), Dim::Fixed(3)]);
        let (own, given) = (mlp.trained(&mut b, "own", &flat).unwrap(), mlp.given(&mut b, "given"));
        let (y, z) = (own.apply(&mut b, x), given.apply(&mut b, x));
        let (y, z) = (b.add(y, own.free().unwrap()), b.add(z, given.free().unwrap()));
        b.output("y", y);
        b.output("z", z);
        let graph = crate::onnx::Verified::try_from(b.finish().unwrap()).unwrap();
        let mut session = crate::engine::Engine::tract().load(&graph).unwrap();
        let rows: Vec<f32> = (0..12).map(|i| i as f32 / 7.0 - 0.8).collect();
        let inputs = [("x", &[4usize, 3][..], &rows[..]), ("given", &[mlp.size()], &flat)];
        let found = session.run(&inputs).unwrap();
        assert_eq!(found[0].dims, [4, 2]);
        assert_eq!(found[0].data, found[1].data);
        assert!(found[0].data.iter().any(|x| *x != 0.0));
    }
}
