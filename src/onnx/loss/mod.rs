//! Losses of behaviour cloning, by what a policy says of the demonstrated action.
//!
//! Every loss is the weighted mean of the samples' own losses, `sum_i w_i l_i / sum_i w_i`; the
//! formulas of `l_i` stand at [`BcLoss`]. They are plain nodes, so every engine runs them and they
//! differentiate like the policy itself.

mod density;

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Builder, Dim, OnnxError, Value};

/// How far an action is from the demonstrated one, per element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distance {
    /// `e^2`.
    Squared,
    /// `|e|`.
    Absolute,
    /// `e^2 / 2` up to `|e| = delta`, `delta (|e| - delta / 2)` beyond (Huber, 1964).
    Huber {
        /// Where the parabola becomes a line, in units of the action; above 0.
        delta: f32,
    },
}

/// How a policy gives the width of a Gaussian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As the logarithm of the standard deviation.
    LogStd,
    /// As the standard deviation.
    Std,
}

/// The loss `l` of one sample, by what the policy puts out. Widths may have fewer axes than means:
/// they broadcast, so that one vector `[a]` serves every sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BcLoss {
    /// Output action `[N, ..]`: the mean distance of its elements.
    Distance(Distance),
    /// Output a chunk of actions `[N, k, a]`; input `is_pad` `[N, k]` is 1 where the demonstration
    /// had ended. The mean distance of what is not padding, over the whole batch:
    /// `sum_it w_i (1 - pad_it) mean_j d_itj / sum_it w_i (1 - pad_it)` (the loss of ACT, Zhao et al.
    /// 2023, but for the divisor, which there counts padding too).
    Chunk(Distance),
    /// Outputs mean `[N, a]` and width, or both as one output `[N, 2a]`: the negative logarithm of the
    /// density, `sum_j (z_j^2 / 2 + log s_j + log(2 pi) / 2)` with `z = (target - mean) / s`.
    Gaussian(Scale),
    /// Outputs logits `[N, k]`, means `[N, k, a]` and widths `[N, k, a]` (Bishop, 1994):
    /// `-log sum_m softmax(logits)_m N(target; mean_m, s_m)`.
    Mixture(Scale),
    /// Outputs of logits `[N, c]` for one choice or `[N, d, c]` for several; targets are the numbers of
    /// the chosen classes `[N, d]` over all outputs, as floats, each below its `c`:
    /// `sum_d (log sum_c exp(logit_dc) - logit_d,target)`.
    Categorical,
}

impl Default for BcLoss {
    fn default() -> Self {
        Self::Distance(Distance::Squared)
    }
}

/// What a loss is made of.
pub(crate) struct Sample {
    /// The loss of each sample `[N]`, or of each action of a chunk `[N, k]`.
    pub each: Value,
    /// 1 where `each` counts and 0 where it does not; `None` when all count.
    pub mask: Option<Value>,
}

impl BcLoss {
    /// The step's input for the demonstrated actions.
    pub const TARGET: &'static str = "target_action";
    /// The step's input for the samples' weights, `[N]`.
    pub const WEIGHT: &'static str = "weight";
    /// The step's input that marks padding in a chunk, `[N, k]`.
    pub const IS_PAD: &'static str = "is_pad";

    /// The power of the action's unit that the loss is measured in; 0 for densities, which have none
    /// that scales.
    pub fn unit_power(&self) -> i32 {
        match self {
            Self::Distance(Distance::Absolute) | Self::Chunk(Distance::Absolute) => 1,
            Self::Distance(_) | Self::Chunk(_) => 2,
            Self::Gaussian(_) | Self::Mixture(_) | Self::Categorical => 0,
        }
    }

    /// Appends the loss of a policy's outputs, given in the order of the enum's description, with its
    /// inputs `target_action`, `weight` and, for chunks, `is_pad`.
    ///
    /// # Errors
    /// The outputs are not those of this loss.
    pub fn append(
        &self,
        b: &mut Builder,
        outputs: &[Value],
        batch: usize,
    ) -> Result<Value, OnnxError> {
        let sizes: Vec<Vec<usize>> =
            outputs.iter().map(|v| fixed(b, *v)).collect::<Result<_, _>>()?;
        let wrong = || self.wrong(&sizes);
        if outputs.is_empty() || self.needs_rows(&sizes).any(|s| s.first() != Some(&batch)) {
            return Err(wrong());
        }
        let sample = match (self, outputs, sizes.as_slice()) {
            (Self::Distance(distance), [action], [_]) => distance.of_actions(b, *action),
            (Self::Chunk(distance), [action], [s]) if s.len() == 3 => {
                distance.of_chunk(b, *action, s)
            }
            (Self::Gaussian(scale), _, _) => {
                density::gaussian(b, *scale, outputs, &sizes).ok_or_else(wrong)?
            }
            (Self::Mixture(scale), _, _) => {
                density::mixture(b, *scale, outputs, &sizes).ok_or_else(wrong)?
            }
            (Self::Categorical, _, _) => {
                density::categorical(b, outputs, &sizes).ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
        let weight = b.input(Self::WEIGHT, &[Dim::Fixed(batch)]);
        let loss = weighted_mean(b, &sample, weight, batch);
        b.check()?;
        Ok(loss)
    }

    /// The outputs that must have one row per sample: widths need not.
    fn needs_rows<'a>(&self, sizes: &'a [Vec<usize>]) -> impl Iterator<Item = &'a Vec<usize>> {
        let widths = match self {
            Self::Gaussian(_) => 1,
            Self::Mixture(_) => 2,
            _ => sizes.len(),
        };
        sizes.iter().take(widths)
    }

    fn wrong(&self, sizes: &[Vec<usize>]) -> OnnxError {
        let expected = match self {
            Self::Distance(_) => "one output [N, a]",
            Self::Chunk(_) => "one output [N, k, a]",
            Self::Gaussian(_) => "outputs mean [N, a] and width [N, a] or [a], or one [N, 2a]",
            Self::Mixture(_) => "outputs logits [N, k], means [N, k, a] and widths [N, k, a]",
            Self::Categorical => "outputs of logits [N, c] or [N, d, c]",
        };
        OnnxError::invalid(format!("loss `{self}`"), expected, format!("{sizes:?}"))
    }
}

impl Distance {
    fn of(self, b: &mut Builder, action: Value, target: Value) -> Value {
        let error = b.sub(action, target);
        match self {
            Self::Squared => b.mul(error, error),
            Self::Absolute => b.abs(error),
            // With c the error limited to delta, both branches are c (e - c / 2).
            Self::Huber { delta } => {
                let limited = b.clip(error, -delta, delta);
                let half = b.scalar(0.5);
                let half = b.mul(limited, half);
                let rest = b.sub(error, half);
                b.mul(limited, rest)
            }
        }
    }

    fn of_actions(self, b: &mut Builder, action: Value) -> Sample {
        let dims = b.dims(action).unwrap_or(&[]).to_vec();
        let target = b.input(BcLoss::TARGET, &dims);
        let distance = self.of(b, action, target);
        let axes: Vec<i64> = (1..dims.len() as i64).collect();
        // Without axes a reduction would take them all.
        let each = if axes.is_empty() { distance } else { b.reduce_mean(distance, &axes, false) };
        Sample { each, mask: None }
    }

    fn of_chunk(self, b: &mut Builder, action: Value, sizes: &[usize]) -> Sample {
        let dims: Vec<Dim> = sizes.iter().copied().map(Dim::Fixed).collect();
        let target = b.input(BcLoss::TARGET, &dims);
        let steps = dims.get(..2).unwrap_or(&[]);
        let is_pad = b.input(BcLoss::IS_PAD, steps);
        let distance = self.of(b, action, target);
        let each = b.reduce_mean(distance, &[2], false);
        let one = b.scalar(1.0);
        Sample { each, mask: Some(b.sub(one, is_pad)) }
    }
}

/// `sum w l / sum w`, where `w` is each sample's weight times its mask.
fn weighted_mean(b: &mut Builder, sample: &Sample, weight: Value, batch: usize) -> Value {
    let weight = match sample.mask {
        Some(mask) => {
            let column = b.reshape(weight, &[batch as i64, 1]);
            b.mul(mask, column)
        }
        None => weight,
    };
    let weighted = b.mul(sample.each, weight);
    let sum = b.reduce_sum(weighted, &[], false);
    let weights = b.reduce_sum(weight, &[], false);
    b.div(sum, weights)
}

fn fixed(b: &Builder, value: Value) -> Result<Vec<usize>, OnnxError> {
    let size = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
    let sizes = b.dims(value).and_then(|dims| dims.iter().map(size).collect());
    sizes.ok_or_else(|| {
        let found = format!("{:?}", b.dims(value));
        OnnxError::invalid(format!("output `{}`", b.label(value)), "a known shape", found)
    })
}

impl Display for BcLoss {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let huber = |f: &mut Formatter<'_>, stem: &str, d: &f32| match d {
            1.0 => f.write_str(stem),
            delta => write!(f, "{stem}:{delta}"),
        };
        match self {
            Self::Distance(Distance::Squared) => f.write_str("mse"),
            Self::Distance(Distance::Absolute) => f.write_str("l1"),
            Self::Distance(Distance::Huber { delta }) => huber(f, "huber", delta),
            Self::Chunk(Distance::Absolute) => f.write_str("chunk"),
            Self::Chunk(Distance::Squared) => f.write_str("chunk-mse"),
            Self::Chunk(Distance::Huber { delta }) => huber(f, "chunk-huber", delta),
            Self::Gaussian(Scale::LogStd) => f.write_str("gaussian"),
            Self::Gaussian(Scale::Std) => f.write_str("gaussian-std"),
            Self::Mixture(Scale::LogStd) => f.write_str("mixture"),
            Self::Mixture(Scale::Std) => f.write_str("mixture-std"),
            Self::Categorical => f.write_str("categorical"),
        }
    }
}

impl FromStr for BcLoss {
    type Err = String;

    /// Reads the names that are displayed; `huber:DELTA` sets where the line begins (1 without).
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, delta) = match text.split_once(':') {
            Some((name, delta)) => (name, Some(delta)),
            None => (text, None),
        };
        let huber = || {
            let delta = delta.map_or(Ok(1.0), str::parse::<f32>).unwrap_or(f32::NAN);
            let above_0 = delta.is_finite() && delta > 0.0;
            above_0
                .then_some(Distance::Huber { delta })
                .ok_or("expected huber:DELTA, DELTA above 0")
        };
        Ok(match name {
            "huber" => Self::Distance(huber()?),
            "chunk-huber" => Self::Chunk(huber()?),
            _ => match text {
                "mse" => Self::Distance(Distance::Squared),
                "l1" => Self::Distance(Distance::Absolute),
                "chunk" => Self::Chunk(Distance::Absolute),
                "chunk-mse" => Self::Chunk(Distance::Squared),
                "gaussian" => Self::Gaussian(Scale::LogStd),
                "gaussian-std" => Self::Gaussian(Scale::Std),
                "mixture" => Self::Mixture(Scale::LogStd),
                "mixture-std" => Self::Mixture(Scale::Std),
                "categorical" => Self::Categorical,
                _ => {
                    return Err(format!(
                        "expected mse, l1, huber, gaussian, gaussian-std, mixture, mixture-std, \
                         categorical, chunk, chunk-mse or chunk-huber, found {text}"
                    ));
                }
            },
        })
    }
}

impl TryFrom<String> for BcLoss {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BcLoss> for String {
    fn from(loss: BcLoss) -> Self {
        loss.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_read_from_its_own_name() {
        for name in [
            "mse",
            "l1",
            "huber",
            "huber:0.25",
            "gaussian",
            "gaussian-std",
            "mixture",
            "mixture-std",
            "categorical",
            "chunk",
            "chunk-mse",
            "chunk-huber:2",
        ] {
            assert_eq!(name.parse::<BcLoss>().unwrap().to_string(), name);
        }
        for wrong in ["", "l2", "mse:1", "huber:0", "huber:x", "huber:-1", "huber:"] {
            assert!(wrong.parse::<BcLoss>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn outputs_that_do_not_fit_the_loss_are_named() {
        let refusal = |loss: &str, sizes: &[&[usize]]| {
            let mut b = Builder::new();
            let value = |b: &mut Builder, (i, s): (usize, &&[usize])| {
                let dims: Vec<Dim> = s.iter().copied().map(Dim::Fixed).collect();
                b.input(&format!("x{i}"), &dims)
            };
            let outputs: Vec<Value> = sizes.iter().enumerate().map(|s| value(&mut b, s)).collect();
            let loss: BcLoss = loss.parse().unwrap();
            loss.append(&mut b, &outputs, 4).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("chunk", &[&[4, 3]]),
            "loss `chunk`: expected one output [N, k, a], found [[4, 3]]"
        );
        for (loss, sizes) in [
            ("mse", &[&[5, 3][..]][..]),
            ("mse", &[&[4, 3], &[4, 3]]),
            ("gaussian", &[&[4, 3]]),
            ("gaussian", &[&[4, 3], &[2]]),
            ("mixture", &[&[4, 2], &[4, 3, 2], &[4, 3, 2]]),
            ("categorical", &[&[4]]),
        ] {
            assert!(refusal(loss, sizes).contains("expected"), "{loss} {sizes:?}");
        }
    }
}
