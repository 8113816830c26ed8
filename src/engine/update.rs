//! An optimiser's update on slices: what the operators of domain `regoal` do on a processor.
//!
//! One pass over memory reads and writes parameters and moments, block by block; where the gradient is
//! clipped, its norm takes a pass of its own before. Nothing is allocated. The loops run over zipped slices, which the compiler
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
    let mut sizes = parameters.iter().zip(gradients).zip(new_parameters.iter());
    if !sizes.all(|((p, g), new)| p.len() == g.len() && p.len() == new.len()) {
        return None;
    }
    let lr = *lr.first()?;
    let kept = 1.0 - lr * optimiser.weight_decay();
    let limit = optimiser.clip_norm();
    let before = limit.map(|_| gradients.iter().map(|g| squares(g)).sum::<f64>());
    let clip = limit.zip(before).map(|(limit, sum)| limit / (sum.sqrt() as f32 + TINY_NORM));
    let clip = clip.map_or(1.0, |clip| clip.min(1.0));
    let mut sum = before.unwrap_or(0.0);
    let pieces = parameters.iter().zip(gradients).zip(new_parameters.iter_mut());
    let blocks = pieces.flat_map(|((p, g), new)| {
        let read = p.chunks(BLOCK).zip(g.chunks(BLOCK));
        read.zip(new.chunks_mut(BLOCK)).map(|((p, g), new)| Block { p, g, new })
    });
    let blocks = blocks.inspect(|block| {
        if before.is_none() {
            sum += sum_of_squares(block.g);
        }
    });
    let own = states - usize::from(optimiser.ema().is_some());
    let (own_state, average) = state.split_at_checked(own)?;
    let (own_new, new_average) = new_state.split_at_mut_checked(own)?;
    match optimiser {
        Optimiser::AdamW(adam) => {
            let [c1, c2] = sums(adam, own_state.get(2)?, own_new.get_mut(2)?)?;
            let rule = Adam::new(adam, [c1, c2], lr, clip, kept);
            rule.run(blocks, own_state, own_new)?;
        }
        Optimiser::Sgd(sgd) => Descent { sgd, lr, clip, kept }.run(blocks, own_state, own_new)?,
    }
    *norm_out.first_mut()? = sum.sqrt() as f32;
    match (optimiser.ema(), average, new_average) {
        (Some(decay), [average], [new]) => follow(decay, average, new_parameters, new),
        _ => Some(()),
    }
}

/// Numbers that are worked on at once: what one pass has read is still in the nearest cache for the next.
/// The sum of their squares is in single precision, which vectorises; between blocks it is double, which
/// keeps the sum of millions exact.
const BLOCK: usize = 1024;

/// A block of a parameter, its gradient, and where its new value goes.
struct Block<'a> {
    p: &'a [f32],
    g: &'a [f32],
    new: &'a mut [f32],
}

fn squares(gradient: &[f32]) -> f64 {
    gradient.chunks(BLOCK).map(sum_of_squares).sum()
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
        blocks: impl Iterator<Item = Block<'a>>,
        state: &[&[f32]],
        new: &mut [&mut [f32]],
    ) -> Option<()> {
        let (&[mut m, mut v, _], [new_m, new_v, _]) = (state, new) else { return None };
        let (mut new_m, mut new_v) = (&mut **new_m, &mut **new_v);
        for block in blocks {
            let n = block.p.len();
            let moments = (m.split_off(..n)?, v.split_off(..n)?);
            let new_moments = (new_m.split_off_mut(..n)?, new_v.split_off_mut(..n)?);
            adam_block(self, block, moments, new_moments);
        }
        Some(())
    }
}

#[multiversion(targets = "simd")]
fn adam_block(rule: &Adam, block: Block<'_>, old: (&[f32], &[f32]), new: (&mut [f32], &mut [f32])) {
    let &Adam { beta: [beta1, beta2], rest: [rest1, rest2], epsilon, rate, kept } = rule;
    let read = block.p.iter().zip(block.g).zip(old.0).zip(old.1);
    let write = block.new.iter_mut().zip(new.0).zip(new.1);
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
        blocks: impl Iterator<Item = Block<'a>>,
        state: &[&[f32]],
        new: &mut [&mut [f32]],
    ) -> Option<()> {
        let (mut old, mut new) = match (state, new) {
            (&[], []) => {
                blocks.for_each(|block| descend(self, block));
                return Some(());
            }
            (&[velocity], [new]) => (velocity, &mut **new),
            _ => return None,
        };
        for block in blocks {
            let n = block.p.len();
            descend_with_momentum(self, block, old.split_off(..n)?, new.split_off_mut(..n)?);
        }
        Some(())
    }
}

#[multiversion(targets = "simd")]
fn descend(rule: &Descent<'_>, block: Block<'_>) {
    let (kept, rate) = (rule.kept, rule.lr * rule.clip);
    for ((p, g), new) in block.p.iter().zip(block.g).zip(block.new) {
        *new = p * kept - g * rate;
    }
}

#[multiversion(targets = "simd")]
fn descend_with_momentum(rule: &Descent<'_>, block: Block<'_>, old: &[f32], new: &mut [f32]) {
    let &Descent { sgd, lr, clip, kept } = rule;
    let momentum = sgd.momentum;
    // The step is `lr (a g + b u)`: all of the velocity, or with Nesterov the gradient and the
    // velocity one step ahead.
    let (a, b) = if sgd.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
    let read = block.p.iter().zip(block.g).zip(old);
    for (((p, g), u), (new, new_u)) in read.zip(block.new.iter_mut().zip(new)) {
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
        let found = (squares(&piece) + squares(&[3.0])).sqrt() as f32;
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
        let block = Block { p: &p, g: &g, new: &mut new };
        adam_block(&rule, block, (&m, &v), (&mut new_m, &mut new_v));
        for i in 0..p.len() {
            let m = m[i] * rule.beta[0] + g[i] * rule.rest[0];
            let v = v[i] * rule.beta[1] + g[i] * g[i] * rule.rest[1];
            let p = p[i] * rule.kept - m / (v.sqrt() + rule.epsilon) * rule.rate;
            assert_eq!((new[i], new_m[i], new_v[i]), (p, m, v), "parameter {i}");
        }
    }

    #[test]
    fn the_norm_is_the_same_whether_it_is_needed_before_or_not() {
        let p: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.37).sin()).collect();
        let run = |clip_norm| {
            let optimiser = Optimiser::from(Sgd { momentum: 0.0, clip_norm, ..Sgd::default() });
            let (mut norm, mut new) = ([0.0], vec![0.0; p.len()]);
            update(&optimiser, &[&[0.1], &p, &p], &mut [&mut norm, &mut new]).unwrap();
            (norm[0], new)
        };
        let (free, loose, tight) = (run(None), run(Some(1e9)), run(Some(1.0)));
        assert_eq!(free, loose);
        assert_eq!(free.0, tight.0);
        assert_ne!(free.1, tight.1);
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
