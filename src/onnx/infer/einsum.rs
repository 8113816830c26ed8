//! The equations of Einsum: `bqhd,bkhd->bhqk`.

use std::collections::BTreeMap;

use crate::onnx::Dim;

/// What an axis is called in an equation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    /// An axis that the ellipsis stands for, counted from the ellipsis' end.
    Ellipsis(usize),
    /// A letter.
    Letter(char),
}

/// An equation whose ellipsis is replaced by the axes that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Equation {
    /// The axes of each input.
    pub inputs: Vec<Vec<Label>>,
    /// The axes of the output, each of which is one of some input's.
    pub output: Vec<Label>,
}

impl Equation {
    /// Reads an equation for inputs of these ranks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, ranks: &[usize]) -> Result<Self, String> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(format!("expected {} terms, found {}", ranks.len(), terms.len()));
        }
        let inputs = terms.iter().zip(ranks).map(|(term, rank)| labels(term, Some(*rank)));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let ellipsis =
            |labels: &Vec<Label>| labels.iter().filter(|l| matches!(l, Label::Ellipsis(_))).count();
        let longest = inputs.iter().map(ellipsis).max().unwrap_or(0);
        // tract reads an ellipsis of one operand only, and a sum of one operand to a scalar, wrongly.
        if inputs.iter().any(|labels| ellipsis(labels) != longest) {
            return Err(format!("expected an ellipsis of {longest} axes in every operand"));
        }
        if inputs.iter().any(|labels| twice(labels).is_some()) {
            return Err("expected no diagonals".into());
        }
        let output = match right {
            None => implicit(&inputs, longest),
            Some(term) if term.contains("...") => {
                let letters = term.chars().filter(|c| *c != '.').count();
                labels(term, Some(letters + longest))?
            }
            Some(term) => labels(term, None)?,
        };
        if inputs.len() == 1 && output.is_empty() {
            return Err("expected an axis in the output of one operand, found none".into());
        }
        if let Some(label) = twice(&output) {
            return Err(format!("expected different axes in the output, found {label:?} twice"));
        }
        let known = |label: &&Label| inputs.iter().flatten().any(|other| other == *label);
        if let Some(label) = output.iter().find(|label| !known(label)) {
            return Err(format!("expected an axis of an input, found {label:?} in the output"));
        }
        if ellipsis(&output) != longest {
            return Err("expected the ellipsis in the output, too, found none".into());
        }
        Ok(Self { inputs, output })
    }

    /// The size of every axis, for inputs of these dims, which have the ranks given to `parse`.
    ///
    /// # Errors
    /// When one letter has two sizes. Axes of an ellipsis broadcast.
    pub(crate) fn sizes(&self, dims: &[&[Dim]]) -> Result<BTreeMap<Label, Dim>, String> {
        let mut sizes: BTreeMap<Label, Dim> = BTreeMap::new();
        for (labels, dims) in self.inputs.iter().zip(dims) {
            for (label, dim) in labels.iter().zip(*dims) {
                let size = sizes.entry(*label).or_insert(*dim);
                match (label, *size, *dim) {
                    (_, a, b) if a == b => {}
                    (Label::Ellipsis(_), Dim::Fixed(1), b) => *size = b,
                    (Label::Ellipsis(_), _, Dim::Fixed(1)) => {}
                    (_, a, b) => {
                        return Err(format!(
                            "expected one size for {label:?}, found {a:?} and {b:?}"
                        ));
                    }
                }
            }
        }
        Ok(sizes)
    }
}

/// The first label that is there twice.
fn twice(labels: &[Label]) -> Option<&Label> {
    let mut rest = labels.iter().enumerate();
    rest.find(|(i, label)| labels.iter().skip(i + 1).any(|l| l == *label)).map(|(_, label)| label)
}

/// The axes that a term names; its ellipsis fills it up to `rank`.
fn labels(term: &str, rank: Option<usize>) -> Result<Vec<Label>, String> {
    let letters = |part: &str| -> Result<Vec<Label>, String> {
        let letter = |c: char| match c.is_ascii_alphabetic() {
            true => Ok(Label::Letter(c)),
            false => Err(format!("expected letters and one ellipsis, found `{c}` in `{term}`")),
        };
        part.chars().map(letter).collect()
    };
    let (front, back) = term.split_once("...").unwrap_or((term, ""));
    let (mut all, back) = (letters(front)?, letters(back)?);
    let named = all.len() + back.len();
    let rank = rank.unwrap_or(named);
    let open = rank.checked_sub(named).filter(|open| *open == 0 || term.contains("..."));
    let open = open.ok_or_else(|| format!("expected {rank} axes in `{term}`, found {named}"))?;
    all.extend((0..open).rev().map(Label::Ellipsis));
    all.extend(back);
    Ok(all)
}

/// Without an arrow: the ellipsis, then the letters that stand once, in the order of the alphabet.
fn implicit(inputs: &[Vec<Label>], longest: usize) -> Vec<Label> {
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    for label in inputs.iter().flatten() {
        *counts.entry(*label).or_default() += 1;
    }
    let once = counts.into_iter().filter(|(l, n)| matches!(l, Label::Letter(_)) && *n == 1);
    (0..longest).rev().map(Label::Ellipsis).chain(once.map(|(label, _)| label)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An equation, the dims of its operands and of its result.
    type Case<'a> = (&'a str, &'a [&'a [usize]], &'a [usize]);

    fn output(text: &str, dims: &[&[usize]]) -> Result<Vec<usize>, String> {
        let ranks: Vec<usize> = dims.iter().map(|d| d.len()).collect();
        let dims: Vec<Vec<Dim>> =
            dims.iter().map(|d| d.iter().copied().map(Dim::Fixed).collect()).collect();
        let equation = Equation::parse(text, &ranks)?;
        let sizes = equation.sizes(&dims.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        Ok(equation.output.iter().map(|label| sizes[label].at(0)).collect())
    }

    #[test]
    fn equations_give_the_shape_that_numpy_gives() {
        let cases: &[Case] = &[
            ("bqhd,bkhd->bhqk", &[&[2, 3, 4, 5], &[2, 6, 4, 5]], &[2, 4, 3, 6]),
            (" i j , j k ", &[&[2, 3], &[3, 4]], &[2, 4]),
            ("ba", &[&[2, 3]], &[3, 2]),
            ("...ij,...jk->...ik", &[&[7, 1, 2, 3], &[7, 5, 3, 4]], &[7, 5, 2, 4]),
            ("i...->...", &[&[2, 3, 4]], &[3, 4]),
            ("...i,...i", &[&[2, 3], &[2, 3]], &[2]),
            ("i,i->", &[&[3], &[3]], &[]),
        ];
        for (text, dims, want) in cases {
            assert_eq!(output(text, dims).as_deref(), Ok(*want), "{text}");
        }
    }

    #[test]
    fn a_wrong_equation_says_what_is_wrong() {
        let cases: &[(&str, &[&[usize]], &str)] = &[
            ("ij,jk->ik", &[&[2, 3]], "expected 1 terms, found 2"),
            ("ij->i", &[&[2]], "expected 1 axes in `ij`, found 2"),
            ("ij->ii", &[&[2, 3]], "twice"),
            ("ii->i", &[&[3, 3]], "expected no diagonals"),
            ("ij->k", &[&[2, 3]], "expected an axis of an input"),
            ("i.j->i", &[&[2, 3]], "found `.`"),
            ("...i,i->...", &[&[2, 3], &[3]], "an ellipsis of 1 axes in every operand"),
            ("ij->", &[&[2, 3]], "expected an axis in the output"),
            ("...i->i", &[&[2, 3]], "the ellipsis in the output"),
            ("ij,jk->ik", &[&[2, 3], &[4, 5]], "expected one size for Letter('j')"),
        ];
        for (text, dims, says) in cases {
            let found = output(text, dims).unwrap_err();
            assert!(found.contains(says), "{found}\nshould say\n{says}");
        }
    }
}
