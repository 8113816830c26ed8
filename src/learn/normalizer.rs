//! Running means and deviations of what a network sees.

use super::checkpoint::{Checkpoint, CheckpointError};
use crate::env::EnvSpec;
use crate::onnx::{Builder, Dim, Tensor, Value};

/// Sums over all rows seen, `[n]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalizer {
    count: f64,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

/// The smallest deviation that is divided by: inputs that hardly vary must not explode.
const FLOOR: f64 = 0.01;
/// Normalised inputs are cut off here.
const CLIP: f32 = 5.0;

impl Normalizer {
    /// For rows of `size` numbers.
    pub fn new(size: usize) -> Self {
        Self { count: 0.0, sum: vec![0.0; size], squares: vec![0.0; size] }
    }

    /// Takes rows of all numbers into account, one behind the other.
    pub fn observe(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.sum.len().max(1)) {
            self.count += 1.0;
            for ((x, sum), squares) in row.iter().zip(&mut self.sum).zip(&mut self.squares) {
                let x = f64::from(*x);
                *sum += x;
                *squares += x * x;
            }
        }
    }

    /// Means, then deviations: `[2 n]`, the input of [`apply`].
    pub fn vector(&self) -> Vec<f32> {
        let n = self.count.max(1.0);
        let mean = |sum: &f64| sum / n;
        let deviation = |(sum, squares): (&f64, &f64)| {
            let variance = (squares / n - mean(sum).powi(2)).max(0.0);
            if self.count > 0.0 { variance.sqrt().max(FLOOR) as f32 } else { 1.0 }
        };
        let means = self.sum.iter().map(|sum| mean(sum) as f32);
        means.chain(self.sum.iter().zip(&self.squares).map(deviation)).collect()
    }

    /// Keeps it under a name. Sums are kept as bits, so that nothing is rounded.
    pub fn save(&self, name: &str, kept: &mut Checkpoint) {
        kept.put_count(&format!("{name}.count"), self.count.to_bits());
        for (i, (sum, squares)) in self.sum.iter().zip(&self.squares).enumerate() {
            kept.put_count(&format!("{name}.sum{i}"), sum.to_bits());
            kept.put_count(&format!("{name}.squares{i}"), squares.to_bits());
        }
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// There is none of this name and size.
    pub fn restore(&mut self, name: &str, kept: &Checkpoint) -> Result<(), CheckpointError> {
        self.count = f64::from_bits(kept.count(&format!("{name}.count"))?);
        for (i, (sum, squares)) in self.sum.iter_mut().zip(&mut self.squares).enumerate() {
            *sum = f64::from_bits(kept.count(&format!("{name}.sum{i}"))?);
            *squares = f64::from_bits(kept.count(&format!("{name}.squares{i}"))?);
        }
        Ok(())
    }
}

/// An input `name` `[2 n]` for [`Normalizer::vector`].
pub fn given(b: &mut Builder, name: &str, size: usize) -> [Value; 2] {
    let vector = b.input(name, &[Dim::Fixed(2 * size)]);
    let size = size as i64;
    [b.slice(vector, 0, 0, size), b.slice(vector, 0, size, 2 * size)]
}

/// The same as constants of a file, `normalizer.mean` and `normalizer.deviation`.
pub fn stored(b: &mut Builder, vector: &[f32]) -> [Value; 2] {
    let (mean, deviation) = vector.split_at(vector.len() / 2);
    let tensor = |data: &[f32]| Tensor { dims: vec![data.len()], data: data.to_vec() };
    let mean = b.parameter("normalizer.mean", tensor(mean));
    [mean, b.parameter("normalizer.deviation", tensor(deviation))]
}

/// `clip((x - mean) / deviation, -5, 5)` for `x` `[N, n]`.
pub fn apply(b: &mut Builder, [mean, deviation]: [Value; 2], x: Value) -> Value {
    let centred = b.sub(x, mean);
    let scaled = b.div(centred, deviation);
    b.clip(scaled, -CLIP, CLIP)
}

/// The normalised `(s, g)` of a policy file: open batch, inputs `observation` and, with goals,
/// `desired_goal`.
pub fn deployed(b: &mut Builder, env: &EnvSpec, vector: &[f32]) -> Value {
    let seen = b.input("observation", &[Dim::Batch, Dim::Fixed(env.observation)]);
    let both = if env.goal > 0 {
        let goal = b.input("desired_goal", &[Dim::Batch, Dim::Fixed(env.goal)]);
        b.concat(&[seen, goal], 1)
    } else {
        seen
    };
    let stored = stored(b, vector);
    apply(b, stored, both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_is_means_then_deviations_with_a_floor() {
        let mut normalizer = Normalizer::new(2);
        assert_eq!(normalizer.vector(), [0.0, 0.0, 1.0, 1.0]);
        normalizer.observe(&[1.0, 7.0, 3.0, 7.0]);
        assert_eq!(normalizer.vector(), [2.0, 7.0, 1.0, 0.01]);
        let (mut kept, mut again) = (Checkpoint::default(), Normalizer::new(2));
        normalizer.save("n", &mut kept);
        again.restore("n", &kept).unwrap();
        assert_eq!(again, normalizer);
    }
}
