//! Policies as PyTorch's and JAX's exporters write them (`tools/corpus`): each file is verified, run,
//! differentiated and trained on every engine, and compared with what PyTorch computed.
//!
//! `cargo test --test corpus -- --nocapture` prints the table; `CORPUS=act` looks at one architecture.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::engines;
use regoal::engine::Engine;
use regoal::onnx::{
    AdamW, Builder, Dim, Graph, Tensor, TrainStep, Value, Verified, grad, simplify,
};

/// Of the largest element.
const OUTPUTS_TOLERANCE: f32 = 1e-5;
/// Of the tensor's largest element, or of a hundredth of the largest of all: some gradients are
/// nothing but rounding, as that of a bias before a normalisation.
const GRADIENTS_TOLERANCE: f32 = 1e-4;
/// Of the loss, over 200 steps in single precision.
const TRAINING_TOLERANCE: f32 = 1e-3;
/// The same between two engines on the processor.
const ENGINES_TOLERANCE: f32 = 1e-4;
/// What the references were computed with.
const BATCH: usize = 4;
const LEARNING_RATE: f32 = 1e-3;

/// What is known not to work: files whose name begins so, what they say, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// What the index says of a file.
#[derive(serde::Deserialize)]
struct Entry {
    architecture: String,
    exporter: String,
    /// `None` where it is open.
    batch: Option<usize>,
    /// Where PyTorch's parameters went; `None` where they were folded into something else.
    parameters: BTreeMap<String, Option<Stored>>,
}

#[derive(serde::Deserialize)]
struct Stored {
    /// The initializer; that of several parameters where the exporter tied them.
    r#as: String,
    #[serde(default)]
    transposed: bool,
}

/// A file and what PyTorch computed with it.
struct Case {
    name: String,
    entry: Entry,
    file: Vec<u8>,
    opset: i64,
    reference: BTreeMap<String, Tensor>,
}

type Result<T> = std::result::Result<T, String>;

/// The stages in their order.
const STAGES: [&str; 4] = ["verified", "ran", "differentiated", "trained"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn cases() -> Vec<Case> {
    let index = std::fs::read_to_string(folder().join("index.json")).unwrap();
    let index: BTreeMap<String, Entry> = serde_json::from_str(&index).unwrap();
    let wished = std::env::var("CORPUS").unwrap_or_default();
    let case = |(name, entry): (String, Entry)| {
        let reference = read(&format!("{}.reference.onnx", entry.architecture));
        let reference = Graph::from_bytes(&reference).unwrap().parameters().unwrap();
        let file = read(&name);
        let opset = Graph::from_bytes(&file).unwrap().opset();
        Case { name, entry, file, opset, reference }
    };
    index.into_iter().filter(|(name, _)| name.starts_with(&wished)).map(case).collect()
}

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

/// The policy as part of a greater graph, simplified for one batch; its outputs.
fn append(b: &mut Builder, case: &Case) -> Result<Vec<(String, Value)>> {
    let policy = Verified::from_bytes(&case.file).map_err(text)?.with_batch(BATCH);
    let policy = policy.with_floats().and_then(|p| simplify(&p)).map_err(text)?;
    let values = b.append(&policy, &[]).map_err(text)?;
    let names = policy.outputs().map_err(text)?.into_iter().map(|o| o.name);
    Ok(names.zip(values).collect())
}

/// The sum over the outputs of their mean squared errors against inputs `target.NAME`.
fn loss(case: &Case) -> Result<Graph> {
    let mut b = Builder::with_opset(case.opset);
    let outputs = append(&mut b, case)?;
    let mut sum = None;
    for (name, value) in outputs {
        let target = format!("target.{name}");
        let dims = fixed(&case.reference[&target].dims);
        let target = b.input(&target, &dims);
        let error = b.sub(value, target);
        let square = b.mul(error, error);
        let mean = b.reduce_mean(square, &[], false);
        sum = Some(sum.map_or(mean, |sum| b.add(sum, mean)));
    }
    b.output("loss", sum.ok_or("no outputs")?);
    b.finish().map_err(text)
}

fn verified(case: &Case) -> Result<()> {
    Verified::from_bytes(&case.file).map(drop).map_err(text)
}

/// The outputs of the file itself.
fn ran(case: &Case, engine: &Engine) -> Result<()> {
    let graph = Verified::from_bytes(&case.file).map_err(text)?;
    let found = run(engine, &graph, &case.reference)?;
    for (output, found) in graph.outputs().map_err(text)?.iter().zip(found) {
        let expected = &case.reference[&format!("out.{}", output.name)];
        let scale = largest(&expected.data);
        compare(&output.name, &expected.data, &found.data, scale, OUTPUTS_TOLERANCE)?;
    }
    Ok(())
}

/// Runs a graph on the inputs of a reference.
fn run(
    engine: &Engine,
    graph: &Verified,
    reference: &BTreeMap<String, Tensor>,
) -> Result<Vec<Tensor>> {
    let mut session = engine.load(graph).map_err(text)?;
    let names: Vec<String> = session.inputs().iter().map(|i| i.name.clone()).collect();
    let mut feed = Vec::new();
    for name in &names {
        let given = reference.get(name).or_else(|| reference.get(&format!("in.{name}")));
        let given = given.ok_or_else(|| format!("no input `{name}` in the reference"))?;
        feed.push((name.as_str(), given.dims.as_slice(), given.data.as_slice()));
    }
    session.run(&feed).map_err(text)
}

/// The gradients of the initializers that hold PyTorch's parameters: of several that were tied, the
/// sum.
fn expected_gradients(case: &Case) -> BTreeMap<&str, Vec<f32>> {
    let mut sums: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    for (name, stored) in &case.entry.parameters {
        let (Some(stored), Some(gradient)) = (stored, case.reference.get(&format!("grad.{name}")))
        else {
            continue;
        };
        let gradient = if stored.transposed { transposed(gradient) } else { gradient.data.clone() };
        match sums.get_mut(stored.r#as.as_str()) {
            Some(sum) => sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g),
            None => drop(sums.insert(&stored.r#as, gradient)),
        }
    }
    sums
}

fn transposed(matrix: &Tensor) -> Vec<f32> {
    let &[rows, columns] = matrix.dims.as_slice() else { panic!("{:?}", matrix.dims) };
    let elements = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
    elements.map(|i| matrix.data[i]).collect()
}

fn differentiated(case: &Case, engine: &Engine) -> Result<()> {
    let loss = loss(case)?;
    let expected = expected_gradients(case);
    let mut b = Builder::with_opset(loss.opset());
    let outputs = b.append(&loss, &[]).map_err(text)?;
    let find = |name: &&str| b.value(name).ok_or(format!("no initializer `{name}`"));
    let values: Vec<Value> = expected.keys().map(find).collect::<Result<_>>()?;
    let gradients = grad::gradients(&mut b, outputs[0], &values).map_err(text)?;
    for (name, gradient) in expected.keys().zip(gradients) {
        let gradient = gradient.ok_or(format!("the loss does not depend on `{name}`"))?;
        b.output(&format!("gradient of {name}"), gradient);
    }
    let graph = Verified::try_from(b.finish().map_err(text)?).map_err(text)?;
    let found = run(engine, &graph, &case.reference)?;
    let whole = expected.values().map(|g| largest(g)).fold(0.0, f32::max);
    for ((name, expected), found) in expected.iter().zip(found) {
        let scale = largest(expected).max(whole / 100.0);
        compare(name, expected, &found.data, scale, GRADIENTS_TOLERANCE)?;
    }
    Ok(())
}

/// The losses of the reference's run.
fn losses(case: &Case, engine: &Engine) -> Result<Vec<f32>> {
    let loss = loss(case)?;
    let names: Vec<String> = expected_gradients(case).into_keys().map(str::to_owned).collect();
    let step = TrainStep::new(&loss, "loss", &names, AdamW::default()).map_err(text)?;
    let mut trainer = engine.train(&step, 1).map_err(text)?;
    let inputs: Vec<(String, &Tensor)> = step
        .batch_inputs()
        .iter()
        .map(|i| {
            let stored = if i.name.starts_with("target.") { "train." } else { "train.in." };
            (i.name.clone(), &case.reference[&format!("{stored}{}", i.name)])
        })
        .collect();
    let expected = &case.reference["train.loss"].data;
    let one = |step: usize| {
        let batch = |(name, all): &(String, &'_ Tensor)| {
            let size: usize = all.dims[1..].iter().product();
            let start = step % all.dims[0] * size;
            (name.clone(), all.data[start..start + size].to_vec())
        };
        let batch: Vec<_> = inputs.iter().map(batch).collect();
        let batch: Vec<_> = batch.iter().map(|(n, d)| (n.as_str(), d.as_slice())).collect();
        trainer.step(&batch, LEARNING_RATE).map(|report| report.loss).map_err(text)
    };
    (0..expected.len()).map(one).collect()
}

fn trained(case: &Case) -> Result<()> {
    let expected = &case.reference["train.loss"].data;
    let mut first: Option<Vec<f32>> = None;
    for engine in engines() {
        let found = losses(case, &engine).map_err(|e| format!("{}: {e}", engine.name()))?;
        steps_agree("PyTorch", expected, &found, TRAINING_TOLERANCE)?;
        match &first {
            Some(first) => steps_agree("the other engine", first, &found, ENGINES_TOLERANCE)?,
            None => first = Some(found),
        }
    }
    Ok(())
}

fn steps_agree(with: &str, expected: &[f32], found: &[f32], tolerance: f32) -> Result<()> {
    let error = |(e, f): (&f32, &f32)| (e - f).abs() / e.abs();
    let mut errors = expected.iter().zip(found).map(error).enumerate();
    match errors.find(|(_, e)| e.is_nan() || *e > tolerance) {
        None => Ok(()),
        Some((step, error)) => Err(format!("step {step} is off from {with} by {error:.1e}")),
    }
}

fn largest(data: &[f32]) -> f32 {
    data.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()))
}

fn compare(what: &str, expected: &[f32], found: &[f32], scale: f32, tolerance: f32) -> Result<()> {
    if expected.len() != found.len() {
        return Err(format!("{what}: {} elements, not {}", found.len(), expected.len()));
    }
    let errors = expected.iter().zip(found).map(|(e, f)| (e - f).abs() / scale);
    // `max` would pass over what is not a number.
    let error = errors.fold(0.0f32, |w, e| if e.is_nan() { f32::INFINITY } else { w.max(e) });
    if error <= tolerance { Ok(()) } else { Err(format!("{what} is off by {error:.1e}")) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Whether a file passes each stage; `None` where it was not tried.
type Outcome = [Option<Result<()>>; 4];

fn outcome(case: &Case, trains: bool) -> Outcome {
    let on_each = |stage: fn(&Case, &Engine) -> Result<()>| {
        let on = |e: &Engine| stage(case, e).map_err(|error| format!("{}: {error}", e.name()));
        engines().iter().try_for_each(on)
    };
    let whole = !expected_gradients(case).is_empty();
    [
        Some(verified(case)),
        Some(on_each(ran)),
        whole.then(|| on_each(differentiated)),
        trains.then(|| trained(case)),
    ]
}

/// The file that an architecture is trained from: one that kept all parameters apart, best the one
/// whose exporter did not optimise.
fn to_train(cases: &[Case]) -> Vec<&str> {
    let whole = |case: &&Case| {
        let used = |name: &str| case.reference.contains_key(&format!("grad.{name}"));
        let parameters = case.entry.parameters.iter().filter(|(name, _)| used(name));
        let stored: Option<Vec<&str>> =
            parameters.map(|(_, p)| Some(p.as_ref()?.r#as.as_str())).collect();
        let apart = |s: Vec<&str>| s.iter().collect::<BTreeSet<_>>().len() == s.len();
        case.entry.batch == Some(BATCH) && stored.is_some_and(apart)
    };
    let optimised = |case: &&Case| case.entry.exporter != "dynamo-unoptimized";
    let same = |a: &Case, b: &Case| a.entry.architecture == b.entry.architecture;
    let chosen = cases.chunk_by(same).filter_map(|g| g.iter().filter(whole).min_by_key(optimised));
    chosen.map(|case| case.name.as_str()).collect()
}

fn excuse(name: &str, error: &str) -> Option<usize> {
    EXCEPTIONS.iter().position(|(file, says, _)| name.starts_with(file) && error.contains(says))
}

#[test]
fn exported_policies_do_what_pytorch_does() {
    let cases = cases();
    let to_train = to_train(&cases);
    let (mut table, mut worse, mut passed) = (String::new(), Vec::new(), [(0, 0); 4]);
    let mut used = BTreeSet::new();
    for case in &cases {
        let outcome = outcome(case, to_train.contains(&case.name.as_str()));
        let mut reason = "";
        let _ = write!(table, "{:<52}", case.name);
        for ((stage, result), (yes, of)) in STAGES.iter().zip(&outcome).zip(&mut passed) {
            *of += i32::from(result.is_some());
            *yes += i32::from(matches!(result, Some(Ok(()))));
            let cell = match result {
                None => "-",
                Some(Ok(())) => "yes",
                Some(Err(error)) => {
                    match excuse(&case.name, error) {
                        Some(known) => drop(used.insert(known)),
                        None => worse.push(format!("{}: {stage}: {error}", case.name)),
                    }
                    reason = if reason.is_empty() { error } else { reason };
                    "no"
                }
            };
            let _ = write!(table, "{cell:<15}");
        }
        let _ = writeln!(table, "{reason}");
    }
    let of = |(yes, of): (i32, i32)| format!("{yes}/{of}");
    eprintln!("{:<52}{}", "file", STAGES.map(|s| format!("{s:<15}")).concat());
    eprintln!("{table}{:<52}{}", "", passed.map(|p| format!("{:<15}", of(p))).concat());
    assert!(worse.is_empty(), "{} failures:\n{}", worse.len(), worse.join("\n"));
    let idle: Vec<_> =
        (0..EXCEPTIONS.len()).filter(|i| !used.contains(i)).map(|i| EXCEPTIONS[i]).collect();
    assert!(idle.is_empty() || cases.len() < 100, "exceptions that are none any more: {idle:?}");
}
