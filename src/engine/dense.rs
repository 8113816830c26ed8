//! Networks of dense layers on one sample: the path of a control loop.
//!
//! Engines allocate in each run and spend as long on bookkeeping as on a small network's products.
//! A graph of matrix products and elementwise operators needs neither: its values lie in one block
//! of memory, and a run is a list of loops over it. Graphs with anything else are left to the
//! engines.

mod compile;

use std::ops::Range;

use multiversion::multiversion;

/// Columns of a product that are summed at a time: eight registers of four numbers to two of
/// sixteen, enough to hide an addition's latency behind the reading of the weights.
const LANES: usize = 32;

/// A graph as loops.
pub(super) struct Dense {
    /// The constants, then every value in the order in which it is made.
    memory: Vec<f32>,
    inputs: Vec<Range<usize>>,
    steps: Vec<Step>,
    output: Range<usize>,
}

/// Writes the values at `to` from values that lie before them.
struct Step {
    to: Range<usize>,
    what: What,
}

enum What {
    /// `x w + bias`.
    Product(Range<usize>, Packed),
    Map(Range<usize>, Function),
    Zip(Range<usize>, Range<usize>, Arithmetic),
    /// Values one behind the other.
    Join(Vec<Range<usize>>),
}

/// A matrix `[rows, columns]` in panels of [`LANES`] columns, the last one filled up with zeros.
struct Packed {
    panels: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Abs,
    Clip(f32, f32),
    Elu(f32),
    Exp,
    LeakyRelu(f32),
    Neg,
    Relu,
    Sigmoid,
    Softplus,
    Sqrt,
    Tanh,
}

#[derive(Debug, Clone, Copy)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

impl Dense {
    /// Runs the network on inputs of the right sizes; its output, or `None` for wrong ones.
    pub(super) fn run(&mut self, inputs: &[&[f32]]) -> Option<&[f32]> {
        for (place, data) in self.inputs.iter().zip(inputs) {
            let place = self.memory.get_mut(place.clone())?;
            if place.len() != data.len() {
                return None;
            }
            place.copy_from_slice(data);
        }
        for Step { to, what } in &self.steps {
            let (before, rest) = self.memory.split_at_mut_checked(to.start)?;
            let to = rest.get_mut(..to.len())?;
            match what {
                What::Product(x, weight) => product(weight, before.get(x.clone())?, to),
                What::Map(x, function) => function.apply(before.get(x.clone())?, to),
                What::Zip(a, b, op) => op.apply(before.get(a.clone())?, before.get(b.clone())?, to),
                What::Join(parts) => join(before, parts, to)?,
            }
        }
        self.memory.get(self.output.clone())
    }
}

fn join(before: &[f32], parts: &[Range<usize>], mut to: &mut [f32]) -> Option<()> {
    for part in parts {
        to.split_off_mut(..part.len())?.copy_from_slice(before.get(part.clone())?);
    }
    Some(())
}

impl Packed {
    /// Packs a row-major matrix `[rows, columns]` and a bias of `columns`.
    fn new(columns: usize, weight: &[f32], bias: &[f32]) -> Self {
        let lanes = |row: &[f32], first: usize| {
            let mut lanes = [0.0; LANES];
            for (lane, x) in lanes.iter_mut().zip(row.iter().skip(first)) {
                *lane = *x;
            }
            lanes
        };
        let firsts = || (0..columns).step_by(LANES);
        let rows = || weight.chunks_exact(columns.max(1));
        Self {
            panels: firsts().flat_map(|first| rows().map(move |row| lanes(row, first))).collect(),
            bias: firsts().map(|first| lanes(bias, first)).collect(),
        }
    }
}

/// `to = x weight + bias`. Compiled for each generation of vector instructions, the processor's own
/// being chosen at the first call; products and sums are rounded apart (no fused operations), so
/// that all give the same bits.
#[multiversion(targets = "simd")]
fn product(weight: &Packed, x: &[f32], to: &mut [f32]) {
    let panels = weight.panels.chunks_exact(x.len().max(1));
    for ((panel, bias), to) in panels.zip(&weight.bias).zip(to.chunks_mut(LANES)) {
        let mut sums = *bias;
        for (row, x) in panel.iter().zip(x) {
            for (sum, weight) in sums.iter_mut().zip(row) {
                *sum += weight * x;
            }
        }
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = sum;
        }
    }
}

impl Function {
    fn apply(self, x: &[f32], to: &mut [f32]) {
        let mut each =
            |f: &dyn Fn(f32) -> f32| to.iter_mut().zip(x).for_each(|(to, x)| *to = f(*x));
        match self {
            Self::Abs => each(&f32::abs),
            Self::Clip(min, max) => each(&|x| x.max(min).min(max)),
            Self::Elu(alpha) => each(&|x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            Self::Exp => each(&f32::exp),
            Self::LeakyRelu(alpha) => each(&|x| if x < 0.0 { alpha * x } else { x }),
            Self::Neg => each(&|x| -x),
            // A loop that the compiler vectorises; NaN stays NaN, as in the engines.
            Self::Relu => {
                for (to, x) in to.iter_mut().zip(x) {
                    *to = if *x < 0.0 { 0.0 } else { *x };
                }
            }
            Self::Sigmoid => each(&|x| 1.0 / (1.0 + (-x).exp())),
            Self::Softplus => each(&|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
            Self::Sqrt => each(&f32::sqrt),
            Self::Tanh => each(&f32::tanh),
        }
    }
}

impl Arithmetic {
    fn apply(self, a: &[f32], b: &[f32], to: &mut [f32]) {
        let all = to.iter_mut().zip(a.iter().zip(b));
        match self {
            Self::Add => all.for_each(|(to, (a, b))| *to = a + b),
            Self::Sub => all.for_each(|(to, (a, b))| *to = a - b),
            Self::Mul => all.for_each(|(to, (a, b))| *to = a * b),
            Self::Div => all.for_each(|(to, (a, b))| *to = a / b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with many digits, so that a fused operation would show.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin() / 3.0).collect()
    }

    #[test]
    fn a_product_has_the_bits_of_a_plain_loop() {
        for (rows, columns) in [(1, 1), (19, 7), (33, 64), (256, 95)] {
            let (weight, bias, x) = (numbers(rows * columns), numbers(columns), numbers(rows));
            let plain = |column: usize| {
                let terms = x.iter().zip(weight[column..].iter().step_by(columns));
                terms.fold(bias[column], |sum, (x, weight)| sum + weight * x)
            };
            let expected: Vec<f32> = (0..columns).map(plain).collect();
            let mut found = vec![0.0; columns];
            product(&Packed::new(columns, &weight, &bias), &x, &mut found);
            assert_eq!(found, expected, "{rows} rows, {columns} columns");
        }
    }
}
