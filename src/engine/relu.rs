//! The gradient of `Relu` and its sum over a batch on slices, in one pass over memory.

use multiversion::multiversion;

/// `gradient = g (y > 0)`, and its sum over the rows of the length of `sum`, if there is one. `None` when
/// a size is wrong.
pub(super) fn relu_gradient(
    (g, y): (&[f32], &[f32]),
    gradient: &mut [f32],
    sum: Option<&mut [f32]>,
) -> Option<()> {
    if g.len() != y.len() || g.len() != gradient.len() {
        return None;
    }
    match sum {
        None => mask(g, y, gradient),
        Some(sum) if sum.is_empty() || !g.len().is_multiple_of(sum.len()) => return None,
        Some(sum) => mask_and_sum(g, y, gradient, sum),
    }
    Some(())
}

/// A comparison as a factor: what is not finite stays so, as in a product.
fn factor(y: f32) -> f32 {
    if y > 0.0 { 1.0 } else { 0.0 }
}

#[multiversion(targets = "simd")]
fn mask(g: &[f32], y: &[f32], gradient: &mut [f32]) {
    for ((g, y), part) in g.iter().zip(y).zip(gradient) {
        *part = g * factor(*y);
    }
}

#[multiversion(targets = "simd")]
fn mask_and_sum(g: &[f32], y: &[f32], gradient: &mut [f32], sum: &mut [f32]) {
    sum.fill(0.0);
    let width = sum.len();
    let rows = g.chunks_exact(width).zip(y.chunks_exact(width));
    for ((g, y), part) in rows.zip(gradient.chunks_exact_mut(width)) {
        for (((g, y), part), sum) in g.iter().zip(y).zip(part).zip(&mut *sum) {
            *part = g * factor(*y);
            *sum += *part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_above_zero_passes_and_is_summed() {
        let (rows, width) = (3, 37);
        let g: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let y: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.3).cos().max(0.0)).collect();
        let expected: Vec<f32> =
            g.iter().zip(&y).map(|(g, y)| if *y > 0.0 { *g } else { 0.0 }).collect();
        let (mut found, mut sum) = (vec![7.0; g.len()], vec![7.0; width]);
        relu_gradient((&g, &y), &mut found, Some(&mut sum)).unwrap();
        assert_eq!(found, expected);
        for (column, sum) in sum.iter().enumerate() {
            let one = (0..rows).map(|row| expected[row * width + column]);
            assert!((sum - one.sum::<f32>()).abs() < 1e-6);
        }
        found.fill(7.0);
        relu_gradient((&g, &y), &mut found, None).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let mut out = [0.0; 6];
        assert_eq!(relu_gradient((&[0.0; 6], &[0.0; 5]), &mut out, None), None);
        for width in [0, 4] {
            let sum = Some(&mut [0.0; 4][..width]);
            assert_eq!(relu_gradient((&[0.0; 6], &[0.0; 6]), &mut out, sum), None);
        }
    }
}
