//! Negative logarithms of densities and probabilities.

use super::{BcLoss, Sample, Scale};
use crate::onnx::infer::broadcast;
use crate::onnx::proto::AttributeProto;
use crate::onnx::{Builder, Dim, ElementType, Tensor, Value};

/// `log(2 pi) / 2`.
const LOG_ROOT_TAU: f32 = 0.918_938_5;

/// `sum_j (z_j^2 / 2 + log s_j + log(2 pi) / 2)`; `None` when the outputs do not fit.
pub(super) fn gaussian(
    b: &mut Builder,
    scale: Scale,
    outputs: &[Value],
    sizes: &[Vec<usize>],
) -> Option<Sample> {
    let (mean, width) = match (outputs, sizes) {
        (&[mean, width], [m, w]) if m.len() >= 2 && fits(w, m) => (mean, width),
        (&[both], [s]) if s.len() == 2 && s.last()?.is_multiple_of(2) => {
            let half = (s.last()? / 2) as i64;
            match b.split(both, 1, &[half, half]).as_slice() {
                &[mean, width] => (mean, width),
                _ => return None,
            }
        }
        _ => return None,
    };
    let dims = b.dims(mean)?.to_vec();
    let target = b.input(BcLoss::TARGET, &dims);
    let parts = surprise(b, scale, target, mean, width);
    let axes: Vec<i64> = (1..dims.len() as i64).collect();
    Some(Sample { each: b.reduce_sum(parts, &axes, false), mask: None })
}

/// `log sum_m exp(l_m) - log sum_m exp(l_m - e_m)` with `l` the logits and `e_m` the negative log
/// density of component `m`: the mixture's weights never leave the logarithm.
pub(super) fn mixture(
    b: &mut Builder,
    scale: Scale,
    outputs: &[Value],
    sizes: &[Vec<usize>],
) -> Option<Sample> {
    let (&[logits, means, widths], [l, m, w]) = (outputs, sizes) else { return None };
    let &[batch, components, actions] = m.as_slice() else { return None };
    if *l != [batch, components] || !fits(w, m) {
        return None;
    }
    let target = b.input(BcLoss::TARGET, &[Dim::Fixed(batch), Dim::Fixed(actions)]);
    let target = b.reshape(target, &[batch as i64, 1, actions as i64]);
    let parts = surprise(b, scale, target, means, widths);
    let energy = b.reduce_sum(parts, &[2], false);
    let (logits, _) = lowered(b, logits);
    let joint = b.sub(logits, energy);
    let (joint, shift) = lowered(b, joint);
    let (all, likely) = (log_sum_exp(b, logits), log_sum_exp(b, joint));
    let each = b.sub(all, likely);
    let each = b.sub(each, shift);
    Some(Sample { each: b.reshape(each, &[batch as i64]), mask: None })
}

/// `sum_d (log sum_c exp(logit_dc) - logit_d,target)`; `None` when the outputs do not fit. The chosen
/// logit is found by comparing the target with the row `0, 1, ..`: no integer input, a gradient that
/// every engine runs, and classes masked with a logit of minus infinity stay masked.
pub(super) fn categorical(
    b: &mut Builder,
    outputs: &[Value],
    sizes: &[Vec<usize>],
) -> Option<Sample> {
    let choices = |size: &Vec<usize>| match *size.as_slice() {
        [batch, classes] => Some([batch, 1, classes]),
        [batch, choices, classes] => Some([batch, choices, classes]),
        _ => None,
    };
    let sizes = sizes.iter().map(choices).collect::<Option<Vec<_>>>()?;
    let [batch, ..] = *sizes.first()?;
    let all = sizes.iter().map(|[_, choices, _]| choices).sum();
    let target = b.input(BcLoss::TARGET, &[Dim::Fixed(batch), Dim::Fixed(all)]);
    let (mut start, mut sum) = (0, None);
    for (logits, [_, choices, classes]) in outputs.iter().zip(sizes) {
        let end = start + choices as i64;
        let target = b.slice(target, 1, start, end);
        let target = b.reshape(target, &[-1, 1]);
        let logits = b.reshape(*logits, &[-1, classes as i64]);
        let each = surprise_of_class(b, logits, target, classes);
        let each = b.reshape(each, &[batch as i64, choices as i64]);
        let each = b.reduce_sum(each, &[1], false);
        sum = Some(sum.map_or(each, |sum| b.add(sum, each)));
        start = end;
    }
    Some(Sample { each: sum?, mask: None })
}

/// `log sum_c exp(logit_c) - logit_target` of each row, `[rows, 1]`.
fn surprise_of_class(b: &mut Builder, logits: Value, target: Value, classes: usize) -> Value {
    let numbers = (0..classes).map(|c| c as f32).collect();
    let numbers = b.constant(Tensor { dims: vec![1, classes], data: numbers });
    let chosen = b.equal(target, numbers);
    let (logits, _) = lowered(b, logits);
    let zero = b.scalar(0.0);
    let logit = b.op("Where", &[chosen, logits, zero], vec![]);
    let logit = b.reduce_sum(logit, &[1], true);
    let all = log_sum_exp(b, logits);
    b.sub(all, logit)
}

/// Each element's negative log density, `z^2 / 2 + log s + log(2 pi) / 2`.
fn surprise(b: &mut Builder, scale: Scale, target: Value, mean: Value, width: Value) -> Value {
    let error = b.sub(target, mean);
    let (z, log_std) = match scale {
        Scale::LogStd => {
            let less = b.neg(width);
            let precision = b.exp(less);
            (b.mul(error, precision), width)
        }
        Scale::Std => (b.div(error, width), b.log(width)),
    };
    let (half, constant) = (b.scalar(0.5), b.scalar(LOG_ROOT_TAU));
    let square = b.mul(z, z);
    let square = b.mul(square, half);
    let log_std = b.add(log_std, constant);
    b.add(square, log_std)
}

/// The rows of a matrix less their largest element, which is first cut to an integer, and what was
/// taken away. What is left cannot overflow in an exponential, nor vanish in all of them. Softmax and
/// its like do not change, so no gradient need flow through the shift, and none does over integers.
fn lowered(b: &mut Builder, x: Value) -> (Value, Value) {
    let largest = b.reduce("ReduceMax", x, &[1], true);
    let to = AttributeProto::int("to", ElementType::I32.to_onnx().into());
    let shift = b.op("Cast", &[largest], vec![to]);
    let shift = b.to_f32(shift);
    (b.sub(x, shift), shift)
}

/// `log sum_j exp(x_ij)` of [`lowered`] rows, `[N, 1]`.
fn log_sum_exp(b: &mut Builder, x: Value) -> Value {
    let exp = b.exp(x);
    let sum = b.reduce_sum(exp, &[1], true);
    b.log(sum)
}

/// Whether `width` broadcasts to exactly `mean`.
fn fits(width: &[usize], mean: &[usize]) -> bool {
    let dims = |sizes: &[usize]| sizes.iter().copied().map(Dim::Fixed).collect::<Vec<_>>();
    broadcast(&dims(width), &dims(mean)) == Some(dims(mean))
}
