//! The facts of a policy file, for people.

use std::fmt::Write as _;

use super::facts::Facts;
use super::finetunable::Finetunable;
use super::graph::{GraphFacts, TensorFacts};
use super::trial::Trial;
use crate::cmd::printable;
use crate::cmd::status::word;
use crate::policy::{ChunkMode, Cost, PolicySpec};

/// Names, with the operators and parameters beyond the first few only when `all` are asked for.
pub(super) fn describe(facts: &Facts, all: bool) -> String {
    let mut text = String::new();
    line(&mut text, "file", &format!("{} bytes, id {}", grouped(facts.bytes), facts.id));
    if let Some(graph) = &facts.graph {
        describe_graph(&mut text, graph, all);
    }
    if let Some(refusal) = &facts.refusal {
        line(&mut text, "verified", "NO");
        line(&mut text, "  because", &printable(&refusal.reason));
        line(&mut text, "  to do", refusal.advice);
        return text.trim_end().to_owned();
    }
    line(&mut text, "verified", "yes");
    if let Some(trial) = &facts.trial {
        describe_trial(&mut text, trial);
    }
    if let Some(finetunable) = &facts.finetunable {
        describe_finetuning(&mut text, finetunable);
    }
    match (&facts.spec, &facts.no_spec) {
        (Some(spec), _) => describe_spec(&mut text, spec),
        (None, Some(reason)) => line(&mut text, "policy", &format!("no: {}", printable(reason))),
        (None, None) => {}
    }
    if let Some(fit) = &facts.robot {
        let reason = fit.reason.as_deref().map(printable);
        let fits = reason.map_or("fits".to_owned(), |reason| format!("does NOT fit: {reason}"));
        line(&mut text, "robot", &format!("{} {fits}", printable(&fit.name)));
    }
    text.trim_end().to_owned()
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<11} {value}");
}

fn describe_graph(text: &mut String, graph: &GraphFacts, all: bool) {
    let producer = graph.producer.as_deref().unwrap_or("an unnamed program");
    let from = format!("from {producer}, opset {}, IR version {}", graph.opset, graph.ir_version);
    line(text, "made", &from);
    let mut list = |name: &str, tensors: &[TensorFacts]| {
        for (i, tensor) in tensors.iter().enumerate() {
            line(text, if i == 0 { name } else { "" }, &tensor.to_string());
        }
    };
    list("inputs", &graph.inputs);
    list("outputs", &graph.outputs);
    let mut ops: Vec<_> = graph.ops.iter().collect();
    ops.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let kinds = ops.len();
    let shown = if all { kinds } else { 8 };
    let mut named: Vec<_> =
        ops.into_iter().take(shown).map(|(name, count)| format!("{name} {count}")).collect();
    if kinds > shown {
        named.push(format!("and {} more kinds (--all names them)", kinds - shown));
    }
    line(text, "nodes", &format!("{}: {}", graph.nodes, named.join(", ")));
    let (numbers, tensors) = (grouped(graph.parameters), graph.tensors.len());
    line(text, "parameters", &format!("{numbers} numbers in {tensors} f32 tensors"));
    if all {
        for (name, dims) in &graph.tensors {
            line(text, "", &format!("{name} {dims:?}"));
        }
    }
}

fn describe_trial(text: &mut String, trial: &Trial) {
    for (i, engine) in trial.engines.iter().enumerate() {
        let how = match (&engine.ticks, &engine.reason) {
            (Some(cost), _) => format!("yes, {}", cost_of(cost)),
            (None, reason) => format!("NO: {}", printable(reason.as_deref().unwrap_or("unknown"))),
        };
        line(text, if i == 0 { "runs on" } else { "" }, &format!("{}: {how}", engine.engine));
    }
    if let Some(difference) = trial.largest_difference {
        let verdict = if difference < 1e-5 { "agree" } else { "DISAGREE" };
        line(text, "", &format!("they {verdict}: the largest difference is {difference:.1e}"));
    }
}

/// A tick's cost in words.
pub(super) fn cost_of(cost: &Cost) -> String {
    let Cost { p50_us, p99_us, max_us, runs } = cost;
    format!("a tick takes {p50_us:.1} µs (p99 {p99_us:.1}, longest {max_us:.1}, {runs} runs)")
}

fn describe_finetuning(text: &mut String, finetunable: &Finetunable) {
    let Finetunable { possible, tensors, parameters, reason, lost } = finetunable;
    let parameters = grouped(*parameters);
    let how = match reason {
        _ if *possible => format!("yes: {parameters} numbers in {tensors} tensors can be trained"),
        reason => format!("NO: {}", printable(reason.as_deref().unwrap_or("unknown"))),
    };
    line(text, "fine-tuning", &how);
    for (i, reason) in lost.iter().enumerate() {
        line(text, if i == 0 { "  lost" } else { "" }, &printable(reason));
    }
}

fn describe_spec(text: &mut String, spec: &PolicySpec) {
    let joints = printable(&spec.joints.join(", "));
    line(text, "policy", &format!("for {} at {} Hz", printable(&spec.model), spec.rate_hz));
    line(text, "joints", &joints);
    let terms: Vec<_> = spec.observation.iter().map(word).collect();
    let tensors = &spec.tensors;
    let sees = format!("`{}` is {}", printable(&tensors.observation), terms.join(", "));
    line(text, "sees", &sees);
    line(text, "goal", &word(&spec.goal_space));
    let acts = format!("`{}` is {}", printable(&tensors.action), word(&spec.action));
    line(text, "acts", &acts);
    if let Some(chunk) = &spec.chunk {
        let how = match chunk.mode {
            ChunkMode::Replan => format!("asked again after {}", chunk.execute),
            ChunkMode::Ensemble => format!("asked every tick, ensembled with m = {}", chunk.decay),
        };
        line(text, "chunks", &format!("{} actions at once, {how}", chunk.horizon));
    }
    for (i, state) in spec.state.iter().enumerate() {
        let goes = format!("{} -> {} {:?}", state.output, state.input, state.dims);
        line(text, if i == 0 { "remembers" } else { "" }, &printable(&goes));
    }
    for (i, (key, value)) in spec.provenance.iter().enumerate() {
        let fact = printable(&format!("{key}: {value}"));
        line(text, if i == 0 { "provenance" } else { "" }, &fact);
    }
}

/// 1234567 as `1,234,567`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped_by_three() {
        let found = [0, 12, 123, 1234, 1_234_567].map(grouped);
        assert_eq!(found, ["0", "12", "123", "1,234", "1,234,567"]);
    }
}
