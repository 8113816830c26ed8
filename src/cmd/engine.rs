//! The choice of an engine, the same for every verb that trains.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::builder::PossibleValue;
use clap::{Args as ClapArgs, ValueEnum};

use crate::clock::Clock;
use crate::engine::isolate::Isolation;
use crate::engine::{Device, Engine};
use crate::onnx::{Precision, Verified};

/// What runs training steps.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct EngineArgs {
    /// What runs the training step
    #[arg(long, value_enum, default_value_t, value_name = "ENGINE")]
    pub engine: Choice,
    /// The ONNX Runtime library; without it the cache and the system are searched
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// How the factors of matrix products are rounded in training, on a card
    #[arg(long, value_enum, default_value_t, value_name = "PRECISION")]
    pub precision: Rounding,
}

/// The precisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Rounding {
    /// Not at all
    #[default]
    F32,
    /// To bfloat16
    Bf16,
    /// To IEEE half precision, in which small gradients may vanish
    F16,
}

impl From<Rounding> for Precision {
    fn from(rounding: Rounding) -> Self {
        match rounding {
            Rounding::F32 => Self::F32,
            Rounding::Bf16 => Self::Bf16,
            Rounding::F16 => Self::F16,
        }
    }
}

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Choice {
    /// ONNX Runtime on the processor where it is installed, else tract
    #[default]
    Auto,
    /// The engine inside this program
    Tract,
    /// ONNX Runtime on the processor
    Ort,
    /// ONNX Runtime on an NVIDIA card, or on the processor where that does not work
    Cuda,
}

impl EngineArgs {
    /// The same choice for another process.
    pub fn arguments(&self) -> Vec<OsString> {
        let name = |value: Option<PossibleValue>| value.map(|v| v.get_name().to_owned());
        let named = [
            ("--engine", name(self.engine.to_possible_value())),
            ("--precision", name(self.precision.to_possible_value())),
        ];
        let named =
            named.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?.into()]));
        let library = self.onnxruntime.as_ref().map(|l| ["--onnxruntime".into(), l.into()]);
        named.chain(library).flatten().collect()
    }

    /// Opens the engine, and says on stderr which one it is and why.
    ///
    /// # Errors
    /// The library that was named cannot be used, or ONNX Runtime was asked for and there is none.
    pub fn open(&self) -> Result<Engine> {
        let library = self.onnxruntime.as_deref();
        let engine = match self.engine {
            Choice::Tract => {
                ensure!(
                    library.is_none(),
                    "expected --engine tract or --onnxruntime FILE, found both"
                );
                Engine::tract()
            }
            Choice::Auto | Choice::Ort => Engine::best(library, Device::Cpu)?,
            Choice::Cuda => Engine::best(library, Device::Cuda)?,
        };
        let note = engine.note().unwrap_or_default();
        let asked = matches!(self.engine, Choice::Ort | Choice::Cuda);
        ensure!(!asked || engine.name() == "ort", "expected ONNX Runtime: {note}");
        remark!("engine: {engine} ({})", self.reason(&engine));
        Ok(engine.with_precision(self.precision.into())?)
    }

    fn reason(&self, engine: &Engine) -> String {
        let found = engine.library().map(|path| format!("found in {}", path.display()));
        let asked = (self.engine == Choice::Tract).then(|| "as asked for".to_owned());
        let parts = found.into_iter().chain(asked).chain(engine.note().map(str::to_owned));
        parts.collect::<Vec<_>>().join("; ")
    }
}

/// The engine that answers fastest with a policy file; tract for what is no ONNX file, so that
/// loading it says why. Says on stderr what was measured.
///
/// # Errors
/// No engine runs the graph.
pub fn for_policy(file: &[u8], clock: &dyn Clock) -> Result<Engine> {
    Isolation::of_this_program()?.try_load(file, &Engine::tract())?;
    let graph = Verified::from_bytes(file)?;
    let engine = Engine::for_inference(&graph, clock)?;
    if let Some(note) = engine.note() {
        remark!("engine of the policy: {engine} ({note})");
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(engine: Choice, library: &str) -> String {
        let args = EngineArgs {
            engine,
            onnxruntime: Some(library.into()),
            precision: Rounding::default(),
        };
        args.open().unwrap_err().to_string()
    }

    #[test]
    fn an_engine_that_cannot_be_had_as_asked_for_is_refused() {
        let found = refusal(Choice::Tract, "x.so");
        assert_eq!(found, "expected --engine tract or --onnxruntime FILE, found both");
        for choice in [Choice::Auto, Choice::Ort, Choice::Cuda] {
            assert!(refusal(choice, "/no/such.so").starts_with("cannot use /no/such.so"));
        }
    }

    #[test]
    fn the_reason_names_the_library_or_the_wish() {
        let args = EngineArgs { engine: Choice::Tract, ..EngineArgs::default() };
        let engine = args.open().unwrap();
        assert_eq!((engine.name(), args.reason(&engine).as_str()), ("tract", "as asked for"));
    }

    #[test]
    fn the_choice_for_another_process_is_the_same() {
        #[derive(Debug, clap::Parser)]
        struct Other {
            #[command(flatten)]
            engine: EngineArgs,
        }
        let args = EngineArgs {
            engine: Choice::Cuda,
            onnxruntime: Some("a b.so".into()),
            precision: Rounding::Bf16,
        };
        let line = std::iter::once("other".into()).chain(args.arguments());
        let other = <Other as clap::Parser>::parse_from(line).engine;
        assert_eq!(format!("{other:?}"), format!("{args:?}"));
    }
}
