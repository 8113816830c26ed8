//! Recurrent cells, Einsum and root mean square normalisation.

use regoal::onnx::proto::NodeProto;

use super::{Array, transpose, unravel};

/// The outputs of a node of this family.
pub fn evaluate(node: &NodeProto, inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    match node.op() {
        "GRU" | "LSTM" | "RNN" => Some(layer(node, inputs)),
        "Einsum" => Some(vec![einsum(node, inputs)]),
        _ => None,
    }
}

/// Weights, biases and states by (direction, row, column), as ONNX's formulas write them.
struct Layer<'a> {
    node: &'a NodeProto,
    x: Array,
    w: &'a Array,
    r: &'a Array,
    b: Option<&'a Array>,
    initial: [Option<Array>; 2],
}

fn layer(node: &NodeProto, inputs: &[Option<&Array>]) -> Vec<Array> {
    let get = |i: usize| inputs.get(i).copied().flatten();
    let batch_first = node.int("layout") == Some(1);
    let turned = |x: &Array| if batch_first { transpose(x, &[1, 0, 2]) } else { x.clone() };
    let layer = Layer {
        node,
        x: turned(get(0).unwrap()),
        w: get(1).unwrap(),
        r: get(2).unwrap(),
        b: get(3),
        initial: [get(5).map(turned), get(6).map(turned)],
    };
    let (t, n, h) = (layer.x.dims[0], layer.x.dims[1], layer.r.dims[2]);
    let backwards: &[bool] = match node.string("direction").unwrap_or("forward") {
        "forward" => &[false],
        "reverse" => &[true],
        _ => &[false, true],
    };
    let d = backwards.len();
    let mut y = Array::build(&[t, d, n, h], |_| 0.0);
    let mut last = [Array::build(&[d, n, h], |_| 0.0), Array::build(&[d, n, h], |_| 0.0)];
    for (direction, backwards) in backwards.iter().enumerate() {
        for sample in 0..n {
            let start = |i: usize, j: usize| {
                layer.initial[i].as_ref().map_or(0.0, |a| a.at(&[direction, sample, j]))
            };
            let mut state: Vec<f64> = (0..h).map(|j| start(0, j)).collect();
            let mut cell: Vec<f64> = (0..h).map(|j| start(1, j)).collect();
            for step in 0..t {
                let time = if *backwards { t - 1 - step } else { step };
                (state, cell) = layer.step(direction, [time, sample], &state, &cell);
                let at = ((time * d + direction) * n + sample) * h;
                y.data[at..at + h].copy_from_slice(&state);
            }
            let at = (direction * n + sample) * h;
            last[0].data[at..at + h].copy_from_slice(&state);
            last[1].data[at..at + h].copy_from_slice(&cell);
        }
    }
    let [h, c] = last;
    let y = if batch_first { transpose(&y, &[2, 0, 1, 3]) } else { y };
    let mut outputs = vec![y, turned(&h), turned(&c)];
    outputs.truncate(node.output.len());
    outputs
}

impl Layer<'_> {
    fn bias(&self, direction: usize, row: usize) -> f64 {
        self.b.map_or(0.0, |b| b.at(&[direction, row]))
    }

    /// Gate `k`'s row `j`: of the input, with its bias.
    fn of_input(&self, direction: usize, at: [usize; 2], k: usize, j: usize) -> f64 {
        let row = k * self.r.dims[2] + j;
        let product = (0..self.x.dims[2])
            .map(|i| self.x.at(&[at[0], at[1], i]) * self.w.at(&[direction, row, i]));
        product.sum::<f64>() + self.bias(direction, row)
    }

    /// Gate `k`'s row `j`: of the state, with its bias.
    fn of_state(&self, direction: usize, state: &[f64], k: usize, j: usize) -> f64 {
        let row = k * state.len() + j;
        let product = state.iter().enumerate().map(|(i, s)| s * self.r.at(&[direction, row, i]));
        product.sum::<f64>() + self.bias(direction, self.r.dims[1] + row)
    }

    fn step(
        &self,
        direction: usize,
        at: [usize; 2],
        state: &[f64],
        cell: &[f64],
    ) -> (Vec<f64>, Vec<f64>) {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let both = |k: usize, j: usize| {
            self.of_input(direction, at, k, j) + self.of_state(direction, state, k, j)
        };
        let rows = 0..state.len();
        match self.node.op() {
            "RNN" => (rows.map(|j| both(0, j).tanh()).collect(), cell.to_vec()),
            "LSTM" => {
                let gate = |k: usize, j: usize| sigmoid(both(k, j));
                let new: Vec<f64> = rows
                    .clone()
                    .map(|j| gate(2, j) * cell[j] + gate(0, j) * both(3, j).tanh())
                    .collect();
                (rows.map(|j| gate(1, j) * new[j].tanh()).collect(), new)
            }
            _ => {
                let z: Vec<f64> = rows.clone().map(|j| sigmoid(both(0, j))).collect();
                let r: Vec<f64> = rows.clone().map(|j| sigmoid(both(1, j))).collect();
                let reset: Vec<f64> = rows.clone().map(|j| r[j] * state[j]).collect();
                let inner = |j: usize| match self.node.int("linear_before_reset") {
                    Some(1) => r[j] * self.of_state(direction, state, 2, j),
                    _ => self.of_state(direction, &reset, 2, j),
                };
                let new = |j: usize| (self.of_input(direction, at, 2, j) + inner(j)).tanh();
                (rows.map(|j| (1.0 - z[j]) * new(j) + z[j] * state[j]).collect(), cell.to_vec())
            }
        }
    }
}

/// The sum over every assignment of the letters; `...` stands for the digits here.
fn einsum(node: &NodeProto, inputs: &[Option<&Array>]) -> Array {
    let text = node.string("equation").unwrap().replace(' ', "");
    let (left, right) = text.split_once("->").expect("an explicit output");
    let named = |term: &str, rank: usize| -> Vec<char> {
        let Some((front, back)) = term.split_once("...") else { return term.chars().collect() };
        let open = rank - front.len() - back.len();
        let digits = (0..open as u8).rev().map(|i| char::from(b'0' + i));
        front.chars().chain(digits).chain(back.chars()).collect()
    };
    let inputs: Vec<&Array> = inputs.iter().copied().flatten().collect();
    let terms: Vec<Vec<char>> =
        left.split(',').zip(&inputs).map(|(term, x)| named(term, x.dims.len())).collect();
    let open = terms.iter().flatten().filter(|c| c.is_ascii_digit()).max();
    let open = open.map_or(0, |c| (*c as u8 - b'0') as usize + 1);
    let output = named(right, right.replace("...", "").len() + open);
    let mut letters: Vec<char> = terms.iter().flatten().copied().collect();
    letters.sort_unstable();
    letters.dedup();
    let size = |c: &char| {
        let sizes = terms.iter().zip(&inputs).flat_map(|(t, x)| t.iter().zip(&x.dims));
        sizes.filter(|(l, _)| *l == c).map(|(_, n)| *n).max().unwrap()
    };
    let all: Vec<usize> = letters.iter().map(size).collect();
    let pick = |term: &[char], index: &[usize]| -> Vec<usize> {
        term.iter().map(|c| index[letters.iter().position(|l| l == c).unwrap()]).collect()
    };
    let mut result = Array::build(&output.iter().map(size).collect::<Vec<_>>(), |_| 0.0);
    for flat in 0..all.iter().product() {
        let index = unravel(flat, &all);
        let value: f64 = terms.iter().zip(&inputs).map(|(t, x)| x.at(&pick(t, &index))).product();
        let at = pick(&output, &index).iter().zip(&result.dims).fold(0, |at, (i, n)| at * n + i);
        result.data[at] += value;
    }
    result
}
