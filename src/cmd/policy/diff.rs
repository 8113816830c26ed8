//! `regoal policy diff`: what differs between two policies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde::Serialize;
use serde_json::Value;

use super::graph::GraphFacts;
use crate::cmd::{Context, finetune, say, say_json};
use crate::engine::{Engine, Session};
use crate::onnx::{Tensor, Verified};
use crate::policy::tensors::row_of;
use crate::policy::{PolicySpec, id_of};
use crate::rng::{Stream, normal, stream};

/// Says what differs between two policies: their descriptions, graphs and parameters, and how far
/// their actions lie apart on random inputs.
///
/// Example: regoal policy diff models/reach/policy.onnx candidate/policy.onnx
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The one
    pub one: PathBuf,
    /// The other
    pub other: PathBuf,
    /// Random inputs to compare outputs on, standard normal
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub samples: usize,
    /// Name every parameter, not only those that differ most
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A field that differs; null where it is missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Field {
    name: String,
    one: Value,
    other: Value,
}

/// A tensor of parameters that differs: Euclidean norms, and that of the difference where the shapes
/// are the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Parameter {
    name: String,
    one: Option<f64>,
    other: Option<f64>,
    difference: Option<f64>,
}

/// How far an output lies apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Output {
    name: String,
    mean: f64,
    largest: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Difference {
    ids: [String; 2],
    fields: Vec<Field>,
    parameters: Vec<Parameter>,
    /// Empty where the inputs or outputs differ.
    outputs: Vec<Output>,
}

/// Runs the verb.
///
/// # Errors
/// A file cannot be read, is not usable, or does not run.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let read = |path: &Path| -> Result<(Vec<u8>, Verified)> {
        let file = finetune::read(context, path)?;
        let graph = Verified::from_bytes(&file).with_context(|| format!("{}", path.display()))?;
        Ok((file, graph))
    };
    let ((one, a), (other, b)) = (read(&args.one)?, read(&args.other)?);
    let mut fields = Vec::new();
    compare("", &described(&a)?, &described(&b)?, &mut fields);
    let difference = Difference {
        ids: [&one, &other].map(|file| id_of(file).to_string()),
        fields,
        parameters: parameters(&a.parameters()?, &b.parameters()?),
        outputs: outputs(&a, &b, args.samples)?,
    };
    match args.json {
        true => say_json(&difference),
        false => Ok(say(difference.lines(args.all).join("\n"))?),
    }
}

/// A policy's description and graph as one value; a file without a description has none.
fn described(graph: &Verified) -> Result<Value> {
    let spec = PolicySpec::of(graph).ok();
    Ok(serde_json::json!({ "spec": spec, "graph": GraphFacts::of(graph) }))
}

/// The fields, at any depth, that differ.
fn compare(name: &str, one: &Value, other: &Value, found: &mut Vec<Field>) {
    let (Value::Object(a), Value::Object(b)) = (one, other) else {
        if one != other {
            found.push(Field { name: name.into(), one: one.clone(), other: other.clone() });
        }
        return;
    };
    for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        compare(&name, &of(a), &of(b), found);
    }
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// The parameters that differ, those first that differ most as a share of their norm.
fn parameters(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> Vec<Parameter> {
    let differ = |name: &String| {
        let (one, other) = (a.get(name), b.get(name));
        let difference = one.zip(other).filter(|(one, other)| one.dims == other.dims);
        let difference = difference
            .map(|(one, other)| norm(one.data.iter().zip(&other.data).map(|(x, y)| x - y)));
        let norm_of = |tensor: Option<&Tensor>| tensor.map(|t| norm(t.data.iter().copied()));
        let (one, other) = (norm_of(one), norm_of(other));
        Parameter { name: crate::cmd::printable(name), one, other, difference }
    };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut found: Vec<Parameter> = names.into_iter().map(differ).collect();
    found.retain(|parameter| parameter.difference != Some(0.0));
    found.sort_by(|x, y| y.share().total_cmp(&x.share()));
    found
}

impl Parameter {
    /// The difference as a share of the norm.
    fn share(&self) -> f64 {
        match (self.difference, self.one) {
            (Some(difference), Some(norm)) => difference / norm.max(f64::MIN_POSITIVE),
            _ => f64::INFINITY,
        }
    }
}

/// Runs both on the same inputs, where they have the same.
fn outputs(a: &Verified, b: &Verified, samples: usize) -> Result<Vec<Output>> {
    let named = |list: Vec<crate::onnx::ValueInfo>| -> Vec<(String, usize)> {
        list.iter().map(|info| (info.name.clone(), row_of(info))).collect()
    };
    let (inputs, results) = (named(a.inputs()?), named(a.outputs()?));
    if inputs != named(b.inputs()?) || results != named(b.outputs()?) {
        return Ok(Vec::new());
    }
    let (mut one, mut other) = (Engine::tract().load(a)?, Engine::tract().load(b)?);
    let mut rng = stream(0, Stream::Validation);
    let mut sums = vec![(0.0, 0.0f64); results.len()];
    for _ in 0..samples {
        let mut draw = |n: &usize| (0..*n).map(|_| normal(&mut rng) as f32).collect();
        let rows: Vec<Vec<f32>> = inputs.iter().map(|(_, n)| draw(n)).collect();
        let (x, y) = (answer(&mut one, &rows)?, answer(&mut other, &rows)?);
        for ((sum, largest), (x, y)) in sums.iter_mut().zip(x.iter().zip(&y)) {
            let share = 1.0 / (samples * x.data.len().max(1)) as f64;
            for apart in x.data.iter().zip(&y.data).map(|(x, y)| f64::from((x - y).abs())) {
                *sum += apart * share;
                *largest = largest.max(apart);
            }
        }
    }
    let output = |((name, _), (mean, largest)): ((String, usize), (f64, f64))| Output {
        name: crate::cmd::printable(&name),
        mean,
        largest,
    };
    Ok(results.into_iter().zip(sums).map(output).collect())
}

fn answer(session: &mut Session, rows: &[Vec<f32>]) -> Result<Vec<Tensor>> {
    let dims: Vec<_> = session.inputs().iter().map(|i| (i.name.clone(), i.dims_at(1))).collect();
    let inputs: Vec<(&str, &[usize], &[f32])> = (dims.iter().zip(rows))
        .map(|((name, dims), row)| (name.as_str(), dims.as_slice(), row.as_slice()))
        .collect();
    Ok(session.run(&inputs)?)
}

/// Parameters that are named without `--all`.
const NAMED: usize = 8;

impl Difference {
    fn lines(&self, all: bool) -> Vec<String> {
        if self.ids[0] == self.ids[1] {
            return vec!["the same file".into()];
        }
        let field = |f: &Field| format!("{}: {} -> {}", f.name, short(&f.one), short(&f.other));
        let mut lines: Vec<String> = self.fields.iter().map(field).collect();
        let number = |x: Option<f64>| x.map_or("none".into(), |x| format!("{x:.4}"));
        let shown = if all { usize::MAX } else { NAMED };
        lines.push(format!("{} tensors of parameters differ", self.parameters.len()));
        lines.extend(self.parameters.iter().take(shown).map(|p| {
            let by = p
                .difference
                .map_or("another shape".into(), |_| format!("{:.2} %", 100.0 * p.share()));
            format!("  {}: norm {} -> {}, differs by {by}", p.name, number(p.one), number(p.other))
        }));
        if self.parameters.len() > shown {
            lines.push(format!("  and {} more: --all", self.parameters.len() - shown));
        }
        lines.extend(self.outputs.iter().map(|o| {
            format!("output {}: {:.3e} apart on average, {:.3e} at most", o.name, o.mean, o.largest)
        }));
        if self.outputs.is_empty() {
            lines.push(
                "their inputs or outputs differ: they cannot be compared by what they answer"
                    .into(),
            );
        }
        lines
    }
}

/// A value on one line.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => crate::cmd::printable(text),
        value => value.to_string(),
    }
}
