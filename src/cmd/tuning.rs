//! Arguments of learning that several verbs take.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::learn::gcbc::Gcbc;
use crate::learn::{Rule, Schedule, Shape};
use crate::onnx::{Adapter, BcLoss, Selection};

/// Learning rates.
#[derive(Debug, Clone, Args)]
pub struct Rates {
    /// The largest learning rate
    #[arg(long, value_name = "RATE", default_value_t = Schedule::default().peak, value_parser = above_0)]
    pub learning_rate: f64,
    /// How the learning rate falls to 2 % of itself
    #[arg(long, value_enum, default_value_t)]
    pub schedule: Shape,
    /// Steps over which the learning rate first rises from 0
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    pub warmup: usize,
}

/// How parameters follow their gradient.
#[derive(Debug, Clone, Args)]
pub struct Descent {
    /// The optimiser; sgd needs a larger learning rate, such as 0.1
    #[arg(long, value_enum, default_value_t)]
    pub optimiser: Kind,
    /// Decay of sgd's velocity, 0.9 by default and 0 for none
    #[arg(long, value_name = "DECAY", value_parser = below_1)]
    pub momentum: Option<f64>,
    /// Let sgd look ahead along its velocity
    #[arg(long)]
    pub nesterov: bool,
    /// Write the moving average of the weights with this decay, such as 0.999, instead of the last ones
    #[arg(long, value_name = "DECAY", value_parser = below_1)]
    pub ema: Option<f64>,
}

/// The optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Kind {
    /// Adam with decoupled weight decay
    #[default]
    Adamw,
    /// Gradient descent with momentum
    Sgd,
}

impl Descent {
    /// The method with what was asked for.
    ///
    /// # Errors
    /// A setting of another optimiser.
    pub fn apply(&self, method: Gcbc) -> Result<Gcbc> {
        let nesterov = self.nesterov;
        let rule = match self.optimiser {
            Kind::Adamw => {
                let own = self.momentum.is_none() && !nesterov;
                ensure!(
                    own,
                    "expected --optimiser sgd with --momentum and --nesterov, found adamw"
                );
                Rule::AdamW
            }
            Kind::Sgd => Rule::Sgd { momentum: self.momentum.unwrap_or(0.9), nesterov },
        };
        Ok(Gcbc { rule, ema: self.ema, ..method })
    }
}

/// What is minimised, and over which parameters.
#[derive(Debug, Clone, Args)]
pub struct Tuning {
    /// What is minimised: mse, l1, huber[:DELTA], gaussian, gaussian-std, mixture, mixture-std, chunk,
    /// chunk-mse or chunk-huber[:DELTA]; by default chunk for a policy of chunks, mse for others
    #[arg(long)]
    pub loss: Option<BcLoss>,
    /// The policy's value that the loss takes, instead of its action: an output, or anything inside by
    /// its name; several times where the loss takes several, such as mean and log_std
    #[arg(long = "output", value_name = "NAME")]
    pub outputs: Vec<String>,
    /// Do not train parameters whose name matches, such as `encoder.*`; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub freeze: Vec<String>,
    /// Train only parameters whose name matches, such as `*.bias`; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub train_only: Vec<String>,
    /// Train low-rank adapters on linear layers, merged into the candidate's weights
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u16).range(1..))]
    pub lora: Option<u16>,
    /// How strongly adapters count, RANK by default
    #[arg(long, value_name = "ALPHA", requires = "lora")]
    pub lora_alpha: Option<f32>,
    /// Which layers' weights get an adapter
    #[arg(long, value_name = "PATTERN", requires = "lora", default_value = "*")]
    pub lora_layers: String,
}

impl Rates {
    /// The learning rates asked for.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            shape: self.schedule,
            warmup: self.warmup,
            ..Schedule::default()
        }
    }
}

impl Tuning {
    /// The method with what was asked for.
    pub fn apply(&self, method: Gcbc, seed: u64) -> Gcbc {
        let adapter = self.lora.map(|rank| Adapter {
            alpha: self.lora_alpha.unwrap_or(f32::from(rank)),
            pattern: self.lora_layers.clone(),
            seed,
            ..Adapter::new(rank.into())
        });
        let outputs = if self.outputs.is_empty() { method.outputs } else { self.outputs.clone() };
        let selection = Selection { freeze: self.freeze.clone(), only: self.train_only.clone() };
        Gcbc { loss: self.loss, outputs, selection, adapter, ..method }
    }
}

fn below_1(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|x| (0.0..1.0).contains(x));
    found.ok_or_else(|| format!("expected a number of at least 0 and below 1, found {text}"))
}

fn above_0(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    found.ok_or_else(|| format!("expected a number above 0, found {text}"))
}
