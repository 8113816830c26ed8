//! Shapes of a family: recurrent layers, Einsum and root mean square normalisation.

use super::{Call, Equation, Info};
use crate::onnx::{Dim, OnnxError};

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    match op {
        "Einsum" => Some((1, 64, 1)),
        "GRU" | "RNN" => Some((3, 6, 2)),
        "LSTM" => Some((3, 8, 3)),
        _ => None,
    }
}

/// The rows of a recurrent layer's weights, counted in hidden sizes; `None` for other operators.
pub(crate) fn gates(op: &str) -> Option<usize> {
    match op {
        "RNN" => Some(1),
        "GRU" => Some(3),
        "LSTM" => Some(4),
        _ => None,
    }
}

impl Call<'_> {
    pub(super) fn recurrent(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        match (self.node.op(), gates(self.node.op())) {
            ("Einsum", _) => Ok(Some(vec![self.einsum()?])),
            (_, Some(gates)) => self.layer(gates).map(Some),
            _ => Ok(None),
        }
    }

    /// The states of every step `[T, directions, N, H]`, then the last states `[directions, N, H]`.
    fn layer(&self, gates: usize) -> Result<Vec<Info>, OnnxError> {
        self.refuse_variants()?;
        let (x, w, r) = (self.input(0)?, self.input(1)?, self.input(2)?);
        for (index, info) in self.inputs.iter().enumerate() {
            // Input 4 counts the valid steps of each sequence.
            if let Some(found) = info.filter(|i| index != 4 && i.element != x.element) {
                let expected = format!("inputs of one type, {:?}", x.element);
                return Err(self.wrong(expected, format!("{:?}", found.element)));
            }
        }
        let (Some(x), Some(w), Some(r)) = (&x.dims, &w.dims, &r.dims) else {
            return Ok(vec![self.of(None)?; self.node.output.len()]);
        };
        let (&[first, second, inputs], &[_, _, hidden]) = (x.as_slice(), r.as_slice()) else {
            return Err(self.wrong("X and R of 3 axes", format!("{x:?} and {r:?}")));
        };
        let Dim::Fixed(n) = hidden else {
            return Err(self.wrong("a fixed hidden size", format!("{hidden:?}")));
        };
        let directions = Dim::Fixed(self.directions()?);
        let rows = Dim::Fixed(gates.saturating_mul(n));
        if self.node.int("hidden_size").is_some_and(|size| usize::try_from(size) != Ok(n)) {
            return Err(self.wrong(format!("a hidden_size of {n}"), "another"));
        }
        self.expect(Some(w.as_slice()), &[directions, rows, inputs], "W")?;
        self.expect(Some(r.as_slice()), &[directions, rows, hidden], "R")?;
        let both = Dim::Fixed(gates.saturating_mul(n).saturating_mul(2));
        self.expect(self.optional(3), &[directions, both], "B")?;
        let batch_first = self.node.int("layout").unwrap_or(0) != 0;
        let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
        self.expect(self.optional(4), &[batch], "sequence_lens")?;
        let (all, last) = if batch_first {
            (vec![batch, steps, directions, hidden], [batch, directions, hidden])
        } else {
            (vec![steps, directions, batch, hidden], [directions, batch, hidden])
        };
        self.expect(self.optional(5), &last, "initial_h")?;
        if self.node.op() == "LSTM" {
            self.expect(self.optional(6), &last, "initial_c")?;
            self.expect(self.optional(7), &[directions, Dim::Fixed(n.saturating_mul(3))], "P")?;
        }
        let last = self.of(Some(last.to_vec()))?;
        let outputs = [self.of(Some(all))?, last.clone(), last];
        Ok(outputs.into_iter().take(self.node.output.len()).collect())
    }

    /// Variants that tract would run as if they were the plain layer.
    fn refuse_variants(&self) -> Result<(), OnnxError> {
        let default: &[&str] = match self.node.op() {
            "RNN" => &["Tanh"],
            "GRU" => &["Sigmoid", "Tanh"],
            _ => &["Sigmoid", "Tanh", "Tanh"],
        };
        let functions = self.node.strings("activations");
        let count = default.len() * self.directions()?;
        if !functions.is_empty() && !functions.iter().eq(default.iter().cycle().take(count)) {
            return Err(self.wrong(format!("activations {default:?}"), format!("{functions:?}")));
        }
        if self.node.float("clip").is_some() {
            return Err(self.wrong("no clip", "one"));
        }
        if self.node.int("input_forget").unwrap_or(0) != 0 {
            return Err(self.wrong("separate input and forget gates", "input_forget"));
        }
        Ok(())
    }

    fn directions(&self) -> Result<usize, OnnxError> {
        match self.node.string("direction").unwrap_or("forward") {
            "forward" => Ok(1),
            "bidirectional" => Ok(2),
            // tract runs a layer with only the reverse direction forward.
            other => Err(self.wrong("direction forward or bidirectional", other)),
        }
    }

    fn optional(&self, index: usize) -> Option<&[Dim]> {
        self.inputs.get(index).copied().flatten()?.dims.as_deref()
    }

    fn expect(&self, found: Option<&[Dim]>, expected: &[Dim], what: &str) -> Result<(), OnnxError> {
        match found {
            Some(dims) if dims != expected => {
                Err(self.wrong(format!("{what} of dims {expected:?}"), format!("{dims:?}")))
            }
            _ => Ok(()),
        }
    }

    fn einsum(&self) -> Result<Info, OnnxError> {
        self.same_elements()?;
        let text = self.node.string("equation").unwrap_or("");
        let all: Option<Vec<&[Dim]>> =
            self.inputs.iter().map(|i| i.as_ref()?.dims.as_deref()).collect();
        let Some(all) = all else { return self.of(None) };
        let ranks: Vec<usize> = all.iter().map(|dims| dims.len()).collect();
        let wrong = |reason| self.wrong("a valid equation", format!("`{text}`: {reason}"));
        let equation = Equation::parse(text, &ranks).map_err(wrong)?;
        let sizes = equation.sizes(&all).map_err(wrong)?;
        self.of(equation.output.iter().map(|label| sizes.get(label).copied()).collect())
    }
}
