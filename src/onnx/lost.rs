//! Parameters that an export lost: tied, renamed or folded on the way from the module tree to the file.
//!
//! A file does not say what the module was, so this reads the traces that exporters leave: names that
//! they make up, equal tensors that became one, constants that hold the same thing for every sample.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use super::usage::{Usage, Use, is_made_up, is_norm, is_uniform};
use super::{Dim, Graph, OnnxError, Tensor};

/// The export that keeps every parameter under its name.
pub const KEEP_ALL: &str =
    r#"torch.onnx.export(model, args, "policy.onnx", dynamo=True, optimize=False)"#;

/// How a parameter was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Several parameters were equal when they were exported, and became one tensor: training moves
    /// them together.
    Tied,
    /// It was transposed, reordered or joined with others, and its name is gone: it can be trained,
    /// but does not go back into the module by name.
    Renamed,
    /// It is part of a constant that was computed from it: it cannot be trained as it was.
    Folded,
}

/// A stored tensor that is not the parameter it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The stored tensor.
    pub name: String,
    /// What became of the parameter.
    pub how: How,
    /// By what it is known.
    pub reason: String,
}

/// The tensors of a file in which an exporter lost parameters, by name.
///
/// # Errors
/// A tensor's data does not fit its shape.
pub fn lost(graph: &Graph) -> Result<Vec<Lost>, OnnxError> {
    let usage = Usage::of(graph);
    let batch = graph.inputs()?.first().and_then(|input| match input.dims.first() {
        Some(Dim::Fixed(n)) if *n > 1 => Some(*n),
        _ => None,
    });
    let parameters = graph.parameters()?;
    let found = parameters.iter().filter_map(|(name, tensor)| {
        let uses = usage.uses(name);
        let (how, reason) = folded(name, tensor, &uses, batch)
            .or_else(|| tied(graph, name, tensor, &usage, &uses))
            .or_else(|| renamed(name, tensor, &usage, &uses))?;
        Some(Lost { name: name.clone(), how, reason })
    });
    Ok(found.collect())
}

/// The export that would keep what was lost, where it is PyTorch's to keep.
pub fn advice(graph: &Graph) -> Option<&'static str> {
    (graph.model.producer_name.as_deref() == Some("pytorch")).then_some(KEEP_ALL)
}

type Finding = Option<(How, String)>;

fn folded(name: &str, tensor: &Tensor, uses: &[Use<'_>], batch: Option<usize>) -> Finding {
    if let Some(batch) = batch.filter(|n| tensor.dims.len() > 1 && tensor.dims.first() == Some(n)) {
        let mut rows = tensor.data.chunks(tensor.data.len() / batch);
        let first = rows.next();
        if !is_uniform(tensor) && rows.all(|row| Some(row) == first) {
            let reason = format!("it holds the same numbers for each of the {batch} samples");
            return Some((How::Folded, reason));
        }
    }
    let layer = ["Conv", "ConvTranspose", "Gemm"];
    let place = uses.iter().find(|place| layer.contains(&place.node.op()) && place.input > 0)?;
    // A normalisation gives several values, of which PyTorch names the first `getitem`; and only a
    // fused one leaves a convolution a new weight or bias.
    let takes = place.node.output.first().is_some_and(|output| output.starts_with("getitem"));
    let fused = place.node.op() != "Gemm" && (is_made_up(name) || name.ends_with("weight_bias"));
    (takes || fused).then(|| {
        (How::Folded, format!("a BatchNormalization was folded into `{}`", place.node.label()))
    })
}

fn tied(
    graph: &Graph,
    name: &str,
    tensor: &Tensor,
    usage: &Usage<'_>,
    uses: &[Use<'_>],
) -> Finding {
    let aliases = graph
        .nodes()
        .iter()
        .filter(|node| node.op() == "Identity" && node.input.iter().any(|input| input == name));
    let aliases: Vec<&str> = aliases
        .flat_map(|node| &node.output)
        .filter(|alias| !is_made_up(alias) && alias.contains('.'))
        .map(String::as_str)
        .collect();
    if !aliases.is_empty() {
        let reason = format!("it was equal to {} when it was exported", aliases.join(", "));
        return Some((How::Tied, reason));
    }
    if is_made_up(name) || !is_uniform(tensor) {
        return None;
    }
    // A module that is used twice shares its weight matrix too.
    let mut layers: BTreeMap<Vec<&str>, &str> = BTreeMap::new();
    for place in uses.iter().filter(|place| usage.is_layer(place)) {
        let others = place.node.input.iter().enumerate().skip(1);
        let weights = others.filter(|(input, _)| *input != place.input && !is_norm(place));
        let mut key: Vec<&str> = weights.map(|(_, name)| name.as_str()).collect();
        if is_norm(place) {
            key = place.node.output.iter().map(String::as_str).collect();
        }
        layers.insert(key, place.node.label());
    }
    (layers.len() > 1).then(|| {
        let nodes: Vec<&str> = layers.into_values().collect();
        (How::Tied, format!("its elements are all equal, and {} share it", nodes.join(", ")))
    })
}

fn renamed(name: &str, tensor: &Tensor, usage: &Usage<'_>, uses: &[Use<'_>]) -> Finding {
    if !is_made_up(name) || is_uniform(tensor) || tensor.dims.is_empty() {
        return None;
    }
    let place = uses.iter().find(|place| usage.is_layer(place))?;
    let node = (place.node.op(), place.node.label());
    Some((
        How::Renamed,
        format!("{} `{}` uses it, and the exporter made up its name", node.0, node.1),
    ))
}

impl Display for How {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tied => "tied",
            Self::Renamed => "renamed",
            Self::Folded => "folded",
        })
    }
}

impl Display for Lost {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {}: {}", self.name, self.how, self.reason)
    }
}
