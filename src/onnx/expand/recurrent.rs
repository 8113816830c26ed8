//! GRU, LSTM and RNN, unrolled over a fixed number of steps.
//!
//! The inputs of all steps are projected by one product before the first step, and the weights are
//! split once, so that a step holds only what depends on the step before.

use super::Call;
use super::cell::{Cell, Recurrent, State, linear};
use crate::onnx::infer::gates;
use crate::onnx::tensor::{ElementType, Stored, stored};
use crate::onnx::{Builder, Limits, OnnxError, Value};

/// A layer's form.
struct Layer {
    cell: Cell,
    /// For each direction, whether it reads the steps backwards.
    backwards: &'static [bool],
    batch_first: bool,
    steps: i64,
    batch: i64,
    inputs: i64,
    hidden: i64,
}

/// What a direction gives: the state after each step, in the order of time, and the last one.
struct Run {
    states: Vec<Value>,
    last: State,
}

impl Call<'_> {
    /// The outputs Y, Y_h and, for an LSTM, Y_c; `None` for those that nobody asks for.
    pub(super) fn recurrent(
        &self,
        b: &mut Builder,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Option<Value>>, OnnxError> {
        let layer = self.layer()?;
        let mut x = self.input(inputs, 0)?;
        if layer.batch_first {
            x = b.transpose(x, &[1, 0, 2]);
        }
        let x = b.reshape(x, &[layer.steps * layer.batch, layer.inputs]);
        let mut runs = Vec::new();
        for direction in 0..layer.backwards.len() {
            runs.push(self.run(b, &layer, (x, inputs), direction)?);
        }
        let wanted = |i: usize| self.node.output.get(i).is_some_and(|name| !name.is_empty());
        let hs: Vec<Value> = runs.iter().filter_map(|run| run.last.h).collect();
        let cs: Vec<Value> = runs.iter().filter_map(|run| run.last.c).collect();
        Ok(vec![
            wanted(0).then(|| layer.all_states(b, &runs)),
            wanted(1).then(|| layer.last_states(b, &hs)),
            wanted(2).then(|| layer.last_states(b, &cs)),
        ])
    }

    /// Refuses what is not rewritten.
    fn layer(&self) -> Result<Layer, OnnxError> {
        let node = self.node;
        let backwards: &[bool] = match node.string("direction").unwrap_or("forward") {
            "bidirectional" => &[false, true],
            _ => &[false],
        };
        if self.infos.get(7).is_some_and(Option::is_some) {
            return Err(self.wrong("no peephole weights", "input P"));
        }
        let (x, r) = (self.sizes(0)?, self.sizes(2)?);
        let (&[first, second, inputs], Some(&hidden)) = (x.as_slice(), r.last()) else {
            return Err(self.wrong("an input of 3 axes", format!("{x:?}")));
        };
        let batch_first = node.int("layout").unwrap_or(0) != 0;
        let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
        self.check_lengths(steps, batch)?;
        let limit = Limits::default().max_nodes;
        if steps as usize > limit {
            let what = format!("steps of node `{}`", node.label());
            return Err(OnnxError::TooLarge { what, limit, found: steps as usize });
        }
        Ok(Layer { cell: self.cell(), backwards, batch_first, steps, batch, inputs, hidden })
    }

    fn cell(&self) -> Cell {
        match self.node.op() {
            "RNN" => Cell::Rnn,
            "GRU" => Cell::Gru { after: self.node.int("linear_before_reset").unwrap_or(0) != 0 },
            _ => Cell::Lstm,
        }
    }

    /// All sequences must be known to be as long as the input.
    fn check_lengths(&self, steps: i64, batch: i64) -> Result<(), OnnxError> {
        if self.infos.get(4).is_none_or(Option::is_none) {
            return Ok(());
        }
        let expected = || format!("sequence_lens of {batch} times {steps}, or none");
        let Some(tensor) = self.stored(4) else {
            return Err(self.wrong(expected(), "lengths computed at run time"));
        };
        let Stored { element, raw, .. } = stored(tensor)?;
        let lengths: Vec<i64> = match raw {
            Some(raw) => raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
            None => tensor.int32_data.iter().map(|n| i64::from(*n)).collect(),
        };
        if element != ElementType::I32 || lengths.iter().any(|n| *n != steps) {
            return Err(self.wrong(expected(), format!("{lengths:?}")));
        }
        Ok(())
    }

    /// All steps of one direction. `x` is `[T N, inputs]`.
    fn run(
        &self,
        b: &mut Builder,
        layer: &Layer,
        (x, inputs): (Value, &[Option<Value>]),
        direction: usize,
    ) -> Result<Run, OnnxError> {
        let rows = gates(self.node.op()).unwrap_or(1) as i64 * layer.hidden;
        let own = |b: &mut Builder, index: usize, shape: &[i64]| {
            let value = inputs.get(index).copied().flatten()?;
            let axis = i64::from(layer.batch_first && index > 4);
            Some(layer.of_direction(b, value, axis, direction, shape))
        };
        let missing = || self.wrong("weights W and R", "none");
        let w = own(b, 1, &[rows, layer.inputs]).ok_or_else(missing)?;
        let r = own(b, 2, &[rows, layer.hidden]).ok_or_else(missing)?;
        let biases = own(b, 3, &[1, 2 * rows]);
        let state = [layer.batch, layer.hidden];
        let mut now = State { h: own(b, 5, &state), c: own(b, 6, &state) };

        let widths: Vec<i64> = layer.cell.widths().iter().map(|n| n * layer.hidden).collect();
        let (bias, inner_bias) = layer.biases(b, biases, rows);
        let r = Recurrent { matrices: pieces(b, r, 0, &widths), inner_bias };
        let x = linear(b, x, w, bias);
        let parts = pieces(b, x, 1, &widths);
        let each = vec![layer.batch; layer.steps as usize];
        let steps: Vec<Vec<Value>> = parts.iter().map(|part| pieces(b, *part, 0, &each)).collect();

        let mut states = Vec::with_capacity(each.len());
        let backwards = layer.backwards.get(direction).copied().unwrap_or(false);
        for step in 0..each.len() {
            let at = if backwards { each.len() - 1 - step } else { step };
            let x: Vec<Value> = steps.iter().filter_map(|part| part.get(at).copied()).collect();
            now = layer.cell.step(b, &x, &r, now);
            states.extend(now.h);
        }
        if backwards {
            states.reverse();
        }
        Ok(Run { states, last: now })
    }
}

impl Layer {
    /// A direction's part of a value, its directions along `axis`, in the given shape.
    fn of_direction(
        &self,
        b: &mut Builder,
        value: Value,
        axis: i64,
        direction: usize,
        shape: &[i64],
    ) -> Value {
        let start = direction as i64;
        let part = match self.backwards.len() {
            1 => value,
            _ => b.slice(value, axis, start, start + 1),
        };
        b.reshape(part, shape)
    }

    /// `[1, rows]` to add to the projected inputs, and what a GRU adds inside its reset.
    fn biases(
        &self,
        b: &mut Builder,
        both: Option<Value>,
        rows: i64,
    ) -> (Option<Value>, Option<Value>) {
        let Some(both) = both else { return (None, None) };
        let n = self.hidden;
        if self.cell == (Cell::Gru { after: true }) {
            let parts = b.split(both, 1, &[2 * n, n, 2 * n, n]);
            let &[w_zr, w_n, r_zr, r_n] = parts.as_slice() else { return (None, None) };
            let zr = b.add(w_zr, r_zr);
            return (Some(b.concat(&[zr, w_n], 1)), Some(r_n));
        }
        let parts = b.split(both, 1, &[rows, rows]);
        let &[w, r] = parts.as_slice() else { return (None, None) };
        (Some(b.add(w, r)), None)
    }

    /// `[T, directions, N, H]`, or `[N, T, directions, H]` with the batch first.
    fn all_states(&self, b: &mut Builder, runs: &[Run]) -> Value {
        let (t, n, h) = (self.steps, self.batch, self.hidden);
        let of = |b: &mut Builder, run: &Run| {
            let all = join(b, &run.states, 0);
            b.reshape(all, &[t, 1, n, h])
        };
        let all: Vec<Value> = runs.iter().map(|run| of(b, run)).collect();
        let y = join(b, &all, 1);
        if self.batch_first { b.transpose(y, &[2, 0, 1, 3]) } else { y }
    }

    /// `[directions, N, H]`, or `[N, directions, H]` with the batch first.
    fn last_states(&self, b: &mut Builder, states: &[Value]) -> Value {
        let (n, h) = (self.batch, self.hidden);
        let shape = if self.batch_first { [n, 1, h] } else { [1, n, h] };
        let all: Vec<Value> = states.iter().map(|state| b.reshape(*state, &shape)).collect();
        join(b, &all, self.batch_first.into())
    }
}

/// `x` cut along `axis`; as it is when there is nothing to cut.
fn pieces(b: &mut Builder, x: Value, axis: i64, sizes: &[i64]) -> Vec<Value> {
    if sizes.len() == 1 { vec![x] } else { b.split(x, axis, sizes) }
}

/// The values joined along `axis`; one value as it is.
fn join(b: &mut Builder, values: &[Value], axis: i64) -> Value {
    match values {
        [one] => *one,
        many => b.concat(many, axis),
    }
}
