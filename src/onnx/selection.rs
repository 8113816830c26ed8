//! Which of a policy's stored tensors are trained, and why the others are not.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

use super::usage::{Usage, is_made_up, is_statistic, is_uniform};
use super::{Graph, OnnxError, Tensor};

/// What is asked for, by name patterns: `*` stands for any characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Parameters that match one of these are not trained.
    pub freeze: Vec<String>,
    /// If not empty, only parameters that match one of these are trained: then constants and
    /// normalisers too, as they were asked for.
    pub only: Vec<String>,
}

/// What happens to a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It is trained.
    Trained,
    /// A product of this rank is added to it and trained instead ([`Adapter`](super::Adapter)).
    Adapted {
        /// Columns of one factor and rows of the other.
        rank: usize,
    },
    /// It matches this pattern of [`Selection::freeze`].
    Asked(String),
    /// It matches none of [`Selection::only`], or an adapter is trained instead.
    NotAsked,
    /// It shifts or scales the policy's inputs before anything learned, or its name says so.
    Normaliser,
    /// A running mean or variance of BatchNormalization, which no gradient should move.
    Statistic,
    /// It has no axes, or the exporter made up its name and no layer uses it as weight or bias.
    Constant,
    /// The loss does not depend on it.
    Unreached,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterReport {
    /// The initializer's name.
    pub name: String,
    /// Its axes.
    pub dims: Vec<usize>,
    /// What happens to it.
    pub fate: Fate,
}

impl ParameterReport {
    /// Numbers in the tensor, or in the two factors that are trained in its place.
    fn numbers(&self) -> usize {
        match self.fate {
            Fate::Adapted { rank } => rank * self.dims.iter().sum::<usize>(),
            _ => self.dims.iter().product(),
        }
    }
}

impl Selection {
    /// What happens to each f32 initializer, by name. Whether the loss reaches it is not known here.
    ///
    /// # Errors
    /// A pattern matches nothing; names like it are listed.
    pub fn fates(&self, policy: &Graph) -> Result<Vec<ParameterReport>, OnnxError> {
        let parameters = policy.parameters()?;
        for pattern in self.freeze.iter().chain(&self.only) {
            expect_match(pattern, &parameters)?;
        }
        let usage = Usage::of(policy);
        let report = parameters.into_iter().map(|(name, tensor)| {
            let fate = self.fate(&usage, &name, &tensor);
            ParameterReport { name, dims: tensor.dims, fate }
        });
        Ok(report.collect())
    }

    fn fate(&self, usage: &Usage<'_>, name: &str, tensor: &Tensor) -> Fate {
        let uses = usage.uses(name);
        let learned = || uses.iter().any(|place| usage.is_layer(place)) && !is_uniform(tensor);
        let scales = || uses.iter().any(|place| usage.is_normaliser(place));
        if let Some(pattern) = self.freeze.iter().find(|p| matches(p, name)) {
            Fate::Asked(pattern.clone())
        } else if uses.iter().any(is_statistic) {
            Fate::Statistic
        } else if self.only.iter().any(|p| matches(p, name)) {
            Fate::Trained
        } else if !self.only.is_empty() {
            Fate::NotAsked
        } else if tensor.dims.is_empty() || (is_made_up(name) && !learned()) {
            Fate::Constant
        } else if is_normaliser(name) || scales() {
            Fate::Normaliser
        } else {
            Fate::Trained
        }
    }
}

/// A name of our own policies' normaliser, of LeRobot's, or of a running statistic.
fn is_normaliser(name: &str) -> bool {
    let parts = ["normalizer", "normalize_inputs", "normalize_targets", "unnormalize_outputs"];
    let ends = ["running_mean", "running_var", "obs_rms"];
    name.split('.').any(|part| parts.contains(&part) || ends.contains(&part))
}

/// Whether `name` fits `pattern`, where `*` stands for any characters and `?` for one.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Which beginnings of the name fit the pattern read so far.
    let mut fits = vec![false; name.len() + 1];
    fits.iter_mut().take(1).for_each(|empty| *empty = true);
    for p in pattern {
        let mut before = false;
        let mut next = Vec::with_capacity(fits.len());
        for (i, fit) in fits.iter().enumerate() {
            let same =
                i.checked_sub(1).and_then(|i| name.get(i)).is_some_and(|c| p == '?' || p == *c);
            let fit_now =
                if p == '*' { *fit || next.last() == Some(&true) } else { same && before };
            next.push(fit_now);
            before = *fit;
        }
        fits = next;
    }
    fits.last() == Some(&true)
}

pub(crate) fn expect_match(
    pattern: &str,
    parameters: &BTreeMap<String, Tensor>,
) -> Result<(), OnnxError> {
    if parameters.keys().any(|name| matches(pattern, name)) {
        return Ok(());
    }
    let plain: String = pattern.chars().filter(|c| !matches!(c, '*' | '?')).collect();
    let mut names: Vec<&String> = parameters.keys().collect();
    names.sort_by_cached_key(|name| distance(&plain, name));
    names.truncate(3);
    let found = if names.is_empty() {
        "a policy without any".into()
    } else {
        format!("none; the nearest names are {names:?}")
    };
    Err(OnnxError::invalid(format!("pattern `{pattern}`"), "parameters that match it", found))
}

/// Characters to insert, delete or replace to make one text the other (Levenshtein, 1966).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((y, corner), above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((corner + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

impl Display for Fate {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trained => f.write_str("trained"),
            Self::Adapted { rank } => write!(f, "adapted with rank {rank}"),
            Self::Asked(pattern) => write!(f, "frozen: matches `{pattern}`"),
            Self::NotAsked => f.write_str("frozen: not asked for"),
            Self::Normaliser => f.write_str("frozen: a normaliser of inputs or outputs"),
            Self::Statistic => f.write_str("frozen: a running statistic of BatchNormalization"),
            Self::Constant => f.write_str("frozen: a constant, not a layer's weight"),
            Self::Unreached => f.write_str("frozen: the loss does not depend on it"),
        }
    }
}

/// A report in a line for each fate: what it is, how many tensors and numbers, the first names.
pub fn summary(report: &[ParameterReport]) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<&ParameterReport>> = BTreeMap::new();
    for line in report {
        groups.entry(line.fate.to_string()).or_default().push(line);
    }
    let mut lines: Vec<String> = Vec::new();
    for (fate, members) in &groups {
        let numbers: usize = members.iter().map(|line| line.numbers()).sum();
        let mut names: Vec<&str> = members.iter().take(4).map(|m| m.name.as_str()).collect();
        if members.len() > names.len() {
            names.push("..");
        }
        let tensors = if members.len() == 1 { "tensor" } else { "tensors" };
        lines.push(format!(
            "{fate}: {} {tensors}, {numbers} numbers ({})",
            members.len(),
            names.join(", ")
        ));
    }
    // What is learned first.
    lines.sort_by_key(|line| line.starts_with("frozen"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Builder, Dim};

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, fits) in [
            ("encoder.*", "encoder.0.weight", true),
            ("encoder.*", "my.encoder.0.weight", false),
            ("*.bias", "a.bias", true),
            ("*.bias", "a.bias.x", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("w", "w", true),
            ("w", "ww", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    fn policy() -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(3)]);
        let names = ["encoder.weight", "val_3", "head.weight"];
        let weight = Tensor::new([3, 3], [1., 2., 3., 4., 5., 6., 7., 8., 9.]).unwrap();
        let [encoder, made_up, head] = names.map(|name| b.parameter(name, weight.clone()));
        let mean = b.parameter("normalizer.mean", Tensor::zeros([3]));
        let shift = b.parameter("offset", Tensor::zeros([3]));
        let gain = b.parameter("gain", Tensor::scalar(1.0));
        let table = b.parameter("val_4", Tensor::zeros([3]));
        let x = b.sub(x, mean);
        let x = b.mul(x, gain);
        let x = b.add(x, shift);
        let x = b.matmul(x, encoder);
        let x = b.mul(x, table);
        let x = b.matmul(x, made_up);
        let x = b.matmul(x, head);
        b.output("action", x);
        b.finish().unwrap()
    }

    fn fates(freeze: &[&str], only: &[&str]) -> BTreeMap<String, Fate> {
        let own = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        let selection = Selection { freeze: own(freeze), only: own(only) };
        selection.fates(&policy()).unwrap().into_iter().map(|r| (r.name, r.fate)).collect()
    }

    #[test]
    fn weights_are_told_from_constants_and_normalisers() {
        let found = fates(&[], &[]);
        for name in ["encoder.weight", "val_3", "head.weight"] {
            assert_eq!(found[name], Fate::Trained, "{name}");
        }
        assert_eq!(found["val_4"], Fate::Constant);
        assert_eq!(found["gain"], Fate::Constant);
        assert_eq!(found["normalizer.mean"], Fate::Normaliser);
        assert_eq!(found["offset"], Fate::Normaliser);
    }

    #[test]
    fn what_is_asked_for_comes_before_what_names_suggest() {
        let found = fates(&["encoder.*"], &["*coder.weight", "normalizer.mean"]);
        assert_eq!(found["encoder.weight"], Fate::Asked("encoder.*".into()));
        assert_eq!(found["normalizer.mean"], Fate::Trained);
        assert_eq!(found["head.weight"], Fate::NotAsked);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error_with_similar_names() {
        let selection = Selection { freeze: vec!["encodr.*".into()], ..Selection::default() };
        let error = selection.fates(&policy()).unwrap_err().to_string();
        assert!(
            error.contains("pattern `encodr.*`") && error.contains("encoder.weight"),
            "{error}"
        );
    }
}
