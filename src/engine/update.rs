//! An optimiser's update on slices: what the operators of domain `regoal` do on a processor.
//!
//! One pass over memory reads and writes parameters and moments; the gradient's norm takes a pass of
//! its own before. Nothing is allocated. The loops run over zipped slices, which the compiler
//! vectorises, once for each generation of vector instructions; the processor's own is chosen at the
//! first call. Products and sums are rounded apart (no fused operations), so that all give the same
//! bits.

use multiversion::multiversion;

use crate::onnx::{AdamW, Optimiser, Sgd, TINY_NORM};

/// Computes the node's `outputs` from its `inputs`, in the order of
/// [`Optimiser::operator`]. `None` when their number or a size is wrong.
pub(super) fn update(
    optimiser: &Optimiser,
    inputs: &[&[f32]],
    outputs: &mut [&mut [f32]],
) -> Option<()> {
    let states = optimiser.states();
    let (lr, rest) = inputs.split_first()?;
    let (state, rest) = rest.split_at_checked(states)?;
    let (parameters, gradients) = rest.split_at_checked(rest.len() / 2)?;
    let (norm_out, rest) = outputs.split_first_mut()?;
    let (new_state, new_parameters) = rest.split_at_mut_checked(states)?;
    if parameters.len() != gradients.len() || parameters.len() != new_parameters.len() {
        return None;
    }
    let lr = *lr.first()?;
    let norm = norm(gradients);
    *norm_out.first_mut()? = norm;
    let clip = optimiser.clip_norm().map_or(1.0, |limit| (limit / (norm + TINY_NORM)).min(1.0));
    let kept = 1.0 - lr * optimiser.weight_decay();
    let pieces = parameters.iter().zip(gradients).zip(new_parameters.iter_mut());
    let pieces = pieces.map(|((p, g), new)| Piece { p, g, new });
    let own = states - usize::from(optimiser.ema().is_some());
    let (own_state, average) = state.split_at_checked(own)?;
    let (own_new, new_average) = new_state.split_at_mut_checked(own)?;
    match optimiser {
        Optimiser::AdamW(adam) => {
            let [c1, c2] = sums(adam, own_state.get(2)?, own_new.get_mut(2)?)?;
            let rule = Adam::new(adam, [c1, c2], lr, clip, kept);
            rule.run(pieces, own_state, own_new)?;
        }
        Optimiser::Sgd(sgd) => Descent { sgd, lr, clip, kept }.run(pieces, own_state, own_new)?,
    }
    match (optimiser.ema(), average, new_average) {
        (Some(decay), [average], [new]) => follow(decay, average, new_parameters, new),
        _ => Some(()),
    }
}

/// One parameter, its gradient, and where its new value goes.
struct Piece<'a> {
    p: &'a [f32],
    g: &'a [f32],
    new: &'a mut [f32],
}

impl Piece<'_> {
    fn len(&self) -> Option<usize> {
        (self.p.len() == self.g.len() && self.p.len() == self.new.len()).then_some(self.p.len())
    }
}

/// The Euclidean norm of all pieces. Single precision within a block, which vectorises; double
/// between blocks, which keeps the sum of millions exact.
fn norm(pieces: &[&[f32]]) -> f32 {
    let blocks = pieces.iter().flat_map(|piece| piece.chunks(1024));
    blocks.map(sum_of_squares).sum::<f64>().sqrt() as f32
}

#[multiversion(targets = "simd")]
fn sum_of_squares(block: &[f32]) -> f64 {
    // Four registers of sixteen numbers hide an addition's latency.
    const LANES: usize = 64;
    let (groups, rest) = block.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for group in groups {
        for (sum, x) in sums.iter_mut().zip(group) {
            *sum += x * x;
        }
    }
    let whole: f64 = sums.iter().copied().map(f64::from).sum();
    whole + rest.iter().map(|x| f64::from(x * x)).sum::<f64>()
}

/// The new sums of averaging weights, also written to `new`.
fn sums(adam: &AdamW, old: &[f32], new: &mut [f32]) -> Option<[f32; 2]> {
    let (&[old1, old2], [new1, new2]) = (old, new) else { return None };
    *new1 = adam.beta1 * old1 + (1.0 - adam.beta1);
    *new2 = adam.beta2 * old2 + (1.0 - adam.beta2);
    Some([*new1, *new2])
}

/// AdamW's scalars in one step.
struct Adam {
    beta: [f32; 2],
    rest: [f32; 2],
    epsilon: f32,
    rate: f32,
    kept: f32,
}

impl Adam {
    fn new(adam: &AdamW, sums: [f32; 2], lr: f32, clip: f32, kept: f32) -> Self {
        let [c1, c2] = sums;
        Self {
            beta: [adam.beta1, adam.beta2],
            rest: [(1.0 - adam.beta1) * clip, (1.0 - adam.beta2) * (clip * clip)],
            epsilon: adam.epsilon * c2.sqrt(),
            rate: lr * c2.sqrt() / c1,
            kept,
        }
    }

    fn run<'a>(
        &self,
        pieces: impl Iterator<Item = Piece<'a>>,
        state: &[&[f32]],
        new: &mut [&mut [f32]],
    ) -> Option<()> {
        let (&[mut m, mut v, _], [new_m, new_v, _]) = (state, new) else { return None };
        let (mut new_m, mut new_v) = (&mut **new_m, &mut **new_v);
        for piece in pieces {
            let n = piece.len()?;
            let moments = (m.split_off(..n)?, v.split_off(..n)?);
            adam_piece(
                self,
                piece,
                moments,
                (new_m.split_off_mut(..n)?, new_v.split_off_mut(..n)?),
            );
        }
        Some(())
    }
}

#[multiversion(targets = "simd")]
fn adam_piece(rule: &Adam, piece: Piece<'_>, old: (&[f32], &[f32]), new: (&mut [f32], &mut [f32])) {
    let &Adam { beta: [beta1, beta2], rest: [rest1, rest2], epsilon, rate, kept } = rule;
    let read = piece.p.iter().zip(piece.g).zip(old.0).zip(old.1);
    let write = piece.new.iter_mut().zip(new.0).zip(new.1);
    for ((((p, g), m), v), ((new, new_m), new_v)) in read.zip(write) {
        let m = m * beta1 + g * rest1;
        let v = v * beta2 + g * g * rest2;
        *new_m = m;
        *new_v = v;
        *new = p * kept - m / (v.sqrt() + epsilon) * rate;
    }
}

/// Gradient descent's scalars in one step.
struct Descent<'a> {
    sgd: &'a Sgd,
    lr: f32,
    clip: f32,
    kept: f32,
}

impl Descent<'_> {
    fn run<'a>(
        &self,
        pieces: impl Iterator<Item = Piece<'a>>,
        state: &[&[f32]],
        new: &mut [&mut [f32]],
    ) -> Option<()> {
        let (mut old, mut new) = match (state, new) {
            (&[], []) => {
                pieces.for_each(|piece| descend(self, piece));
                return Some(());
            }
            (&[velocity], [new]) => (velocity, &mut **new),
            _ => return None,
        };
        for piece in pieces {
            let n = piece.len()?;
            descend_with_momentum(self, piece, old.split_off(..n)?, new.split_off_mut(..n)?);
        }
        Some(())
    }
}

#[multiversion(targets = "simd")]
fn descend(rule: &Descent<'_>, piece: Piece<'_>) {
    let (kept, rate) = (rule.kept, rule.lr * rule.clip);
    for ((p, g), new) in piece.p.iter().zip(piece.g).zip(piece.new) {
        *new = p * kept - g * rate;
    }
}

#[multiversion(targets = "simd")]
fn descend_with_momentum(rule: &Descent<'_>, piece: Piece<'_>, old: &[f32], new: &mut [f32]) {
    let &Descent { sgd, lr, clip, kept } = rule;
    let momentum = sgd.momentum;
    // The step is `lr (a g + b u)`: all of the velocity, or with Nesterov the gradient and the
    // velocity one step ahead.
    let (a, b) = if sgd.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
    let read = piece.p.iter().zip(piece.g).zip(old);
    for (((p, g), u), (new, new_u)) in read.zip(piece.new.iter_mut().zip(new)) {
        let g = g * clip;
        let u = u * momentum + g;
        *new_u = u;
        *new = p * kept - (a * g + b * u) * lr;
    }
}

/// `new = decay average + (1 - decay) parameters`.
fn follow(
    decay: f32,
    mut average: &[f32],
    parameters: &[&mut [f32]],
    mut new: &mut [f32],
) -> Option<()> {
    for p in parameters {
        mix(decay, average.split_off(..p.len())?, p, new.split_off_mut(..p.len())?);
    }
    Some(())
}

#[multiversion(targets = "simd")]
fn mix(decay: f32, average: &[f32], parameters: &[f32], new: &mut [f32]) {
    for ((old, p), new) in average.iter().zip(parameters).zip(new) {
        *new = old * decay + p * (1.0 - decay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_many_small_numbers_is_exact() {
        let piece = vec![1e-3f32; 3_000_001];
        let found = norm(&[&piece, &[3.0]]);
        let expected = (3_000_001.0 * f64::from(1e-3f32).powi(2) + 9.0).sqrt() as f32;
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn a_step_has_the_bits_of_a_plain_loop() {
        let numbers = |scale: f32| -> Vec<f32> {
            (0..1003).map(|i| scale * (i as f32 * 0.37).sin().abs()).collect()
        };
        let (p, g, m, v) = (numbers(0.3), numbers(0.7), numbers(0.1), numbers(1e-3));
        let rule = Adam::new(&AdamW::default(), [0.5, 0.1], 1e-3, 0.9, 0.999);
        let (mut new, mut new_m, mut new_v) = (vec![0.0; 1003], vec![0.0; 1003], vec![0.0; 1003]);
        let piece = Piece { p: &p, g: &g, new: &mut new };
        adam_piece(&rule, piece, (&m, &v), (&mut new_m, &mut new_v));
        for i in 0..p.len() {
            let m = m[i] * rule.beta[0] + g[i] * rule.rest[0];
            let v = v[i] * rule.beta[1] + g[i] * g[i] * rule.rest[1];
            let p = p[i] * rule.kept - m / (v.sqrt() + rule.epsilon) * rule.rate;
            assert_eq!((new[i], new_m[i], new_v[i]), (p, m, v), "parameter {i}");
        }
    }

    #[test]
    fn pieces_of_another_size_are_refused() {
        let optimiser = Optimiser::from(Sgd { momentum: 0.9, ..Sgd::default() });
        let (mut norm, mut u, mut p) = ([0.0], [0.0; 2], [0.0; 2]);
        let mut run = |gradient: &[f32]| {
            let inputs: [&[f32]; 4] = [&[0.1], &[0.0; 2], &[1.0; 2], gradient];
            update(&optimiser, &inputs, &mut [&mut norm, &mut u, &mut p])
        };
        assert_eq!(run(&[1.0; 3]), None);
        assert_eq!(run(&[1.0; 2]), Some(()));
        assert_eq!((p, u), ([0.9; 2], [1.0; 2]));
    }
}
