//! One step of each recurrent cell, as ONNX defines it.

use crate::onnx::proto::AttributeProto;
use crate::onnx::{Builder, Value};

/// What is computed in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// `h = tanh(x + R h)` (Elman, 1990).
    Rnn,
    /// Cho et al. (2014); with `after`, the reset gate acts after the product (PyTorch, cuDNN).
    Gru { after: bool },
    /// Hochreiter & Schmidhuber (1997) with a forget gate (Gers et al., 2000).
    Lstm,
}

/// What a layer keeps from step to step; `None` stands for zeros.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// `[N, H]`.
    pub h: Option<Value>,
    /// The memory of an LSTM, `[N, H]`.
    pub c: Option<Value>,
}

/// The weights that act on the state, split for [`Cell::step`].
#[derive(Debug, Clone)]
pub(super) struct Recurrent {
    /// One matrix for each of [`Cell::widths`].
    pub matrices: Vec<Value>,
    /// A GRU's `[1, H]` that is added before the reset gate acts.
    pub inner_bias: Option<Value>,
}

impl Cell {
    /// The parts into which the rows of weights are split, in hidden sizes: gates that one product
    /// makes stay together.
    pub(super) fn widths(self) -> &'static [i64] {
        match self {
            Self::Rnn => &[1],
            Self::Gru { .. } => &[2, 1],
            Self::Lstm => &[4],
        }
    }

    /// The next state. `x` is the projected input with the biases added, in parts as
    /// [`widths`](Self::widths).
    pub(super) fn step(self, b: &mut Builder, x: &[Value], r: &Recurrent, old: State) -> State {
        match (self, x, r.matrices.as_slice()) {
            (Self::Rnn, [x], [r]) => {
                let sum = with_state(b, *x, old.h, *r);
                State { h: Some(b.tanh(sum)), c: None }
            }
            (Self::Gru { after }, [x_zr, x_n], [r_zr, r_n]) => {
                let zr = with_state(b, *x_zr, old.h, *r_zr);
                let zr = b.sigmoid(zr);
                let (z, reset) = halves(b, zr);
                let n = if after {
                    new_after(b, *x_n, old.h, (*r_n, r.inner_bias), reset)
                } else {
                    let kept = old.h.map(|h| b.mul(reset, h));
                    with_state(b, *x_n, kept, *r_n)
                };
                let n = b.tanh(n);
                // (1 - z) n + z h = n + z (h - n)
                let change = match old.h {
                    Some(h) => b.sub(h, n),
                    None => b.neg(n),
                };
                let change = b.mul(z, change);
                State { h: Some(b.add(n, change)), c: None }
            }
            (Self::Lstm, [x], [r]) => lstm(b, *x, old, *r),
            // `widths` says how many parts there are.
            _ => old,
        }
    }
}

/// `x + reset (R h + bias)`.
fn new_after(
    b: &mut Builder,
    x: Value,
    h: Option<Value>,
    (r, bias): (Value, Option<Value>),
    reset: Value,
) -> Value {
    let inner = h.map(|h| linear(b, h, r, bias)).or(bias);
    let Some(inner) = inner else { return x };
    let inner = b.mul(reset, inner);
    b.add(x, inner)
}

/// Gates in the order input, output, forget, new.
fn lstm(b: &mut Builder, x: Value, old: State, r: Value) -> State {
    let sum = with_state(b, x, old.h, r);
    let n = width(b, sum) / 4;
    let parts = b.split(sum, 1, &[3 * n, n]);
    let &[gates, new] = parts.as_slice() else { return old };
    let gates = b.sigmoid(gates);
    let gates = b.split(gates, 1, &[n, n, n]);
    let &[input, output, forget] = gates.as_slice() else { return old };
    let new = b.tanh(new);
    let mut c = b.mul(input, new);
    if let Some(before) = old.c {
        let kept = b.mul(forget, before);
        c = b.add(c, kept);
    }
    let shown = b.tanh(c);
    State { h: Some(b.mul(output, shown)), c: Some(c) }
}

/// `x + h R'` in one node.
fn with_state(b: &mut Builder, x: Value, h: Option<Value>, r: Value) -> Value {
    h.map_or(x, |h| linear(b, h, r, Some(x)))
}

/// `x W' + bias` with `W` of shape [outputs, inputs].
pub(super) fn linear(b: &mut Builder, x: Value, w: Value, bias: Option<Value>) -> Value {
    let inputs: Vec<Value> = [x, w].into_iter().chain(bias).collect();
    b.op("Gemm", &inputs, vec![AttributeProto::int("transB", 1)])
}

fn halves(b: &mut Builder, x: Value) -> (Value, Value) {
    let n = width(b, x) / 2;
    match b.split(x, 1, &[n, n]).as_slice() {
        &[first, second] => (first, second),
        _ => (x, x),
    }
}

/// The size of the last axis.
fn width(b: &Builder, x: Value) -> i64 {
    b.dims(x).and_then(|dims| dims.last()).map_or(0, |d| d.at(1) as i64)
}
