//! What a training had reached at an evaluation: a row of `progress.csv`, a line of JSON.

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::learn::evaluate::{Rate, Trials};

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// [`Learner::steps`](crate::learn::learner::Learner::steps).
    pub steps: u64,
    /// Steps in the environment.
    pub env_steps: u64,
    /// Processor time of learning so far (s), without that of evaluations.
    pub cpu_seconds: f64,
    /// Episodes of the evaluation.
    pub episodes: usize,
    /// Share of them that reached the goal at any time; nothing where there are no goals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<f64>,
    /// Share that was there at the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<f64>,
    /// Share that was there in the last tenth of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<f64>,
    /// Mean sum of rewards.
    #[serde(rename = "return")]
    pub mean_return: f64,
    /// Means of the learner's figures since the row before, by name.
    #[serde(flatten, serialize_with = "as_map")]
    pub figures: Vec<(String, f64)>,
}

fn as_map<S: serde::Serializer>(figures: &[(String, f64)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(figures.iter().map(|(name, value)| (name, value)))
}

/// What a curve runs along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Along {
    /// The method's own steps: in the environment, or of training where it takes none
    #[default]
    Steps,
    /// Processor time of learning
    Cpu,
}

impl Along {
    /// What it is called on a picture.
    pub fn title(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Cpu => "processor seconds",
        }
    }

    /// Where the row is.
    pub fn of(self, row: &Row) -> f64 {
        match self {
            Self::Steps => row.steps as f64,
            Self::Cpu => row.cpu_seconds,
        }
    }
}

/// What a curve shows and a run is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Success at any time of an episode
    Any,
    /// Success at an episode's last step
    Last,
    /// Success in each of the last tenth of an episode's steps
    Held,
    /// Sum of an episode's rewards
    Return,
}

impl Metric {
    /// What it is called on a picture.
    pub fn title(self) -> &'static str {
        match self {
            Self::Any => "success at any time",
            Self::Last => "success at the last step",
            Self::Held => "success held to the end",
            Self::Return => "return",
        }
    }

    /// Whether it lies in 0 to 1.
    pub fn is_rate(self) -> bool {
        self != Self::Return
    }

    /// The row's value.
    pub fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::Any => row.any,
            Self::Last => row.last,
            Self::Held => row.held,
            Self::Return => Some(row.mean_return),
        }
    }
}

const FIXED: [&str; 8] =
    ["steps", "env_steps", "cpu_seconds", "episodes", "any", "last", "held", "return"];

impl Row {
    /// The row of an evaluation; without goals there is no success.
    pub fn new(
        (steps, env_steps): (u64, u64),
        cpu_seconds: f64,
        trials: &Trials,
        goals: bool,
    ) -> Self {
        let rate = |rate: Rate| goals.then(|| rate.value());
        Self {
            steps,
            env_steps,
            cpu_seconds,
            episodes: trials.any.n,
            any: rate(trials.any),
            last: rate(trials.last),
            held: rate(trials.held),
            mean_return: trials.mean_return,
            figures: Vec::new(),
        }
    }

    /// What the best policy is the largest of: success at any time, then held; without goals the
    /// return.
    pub fn score(&self) -> (f64, f64) {
        match (self.any, self.held) {
            (Some(any), Some(held)) => (any, held),
            _ => (self.mean_return, 0.0),
        }
    }

    /// The result for a person.
    pub fn says(&self) -> String {
        let percent = |rate: f64| {
            let successes = (rate * self.episodes as f64).round() as usize;
            Rate { successes, n: self.episodes }.to_string()
        };
        match (self.any, self.last, self.held) {
            (Some(any), Some(last), Some(held)) => format!(
                "success {} at any time, {:.1} % at the last step, {:.1} % held",
                percent(any),
                100.0 * last,
                100.0 * held
            ),
            _ => format!("return {:.1} over {} episodes", self.mean_return, self.episodes),
        }
    }

    /// All figures by the names that TensorBoard groups them by.
    pub fn figures_named(&self) -> Vec<(&str, f64)> {
        let success =
            [("success/any", self.any), ("success/last", self.last), ("success/held", self.held)];
        let known = success.into_iter().filter_map(|(name, rate)| Some((name, rate?)));
        let own = self.figures.iter().map(|(name, value)| (name.as_str(), *value));
        let whole = [("return", self.mean_return), ("cpu_seconds", self.cpu_seconds)];
        known.chain(whole).chain(own).collect()
    }

    fn cells(&self) -> [String; 8] {
        let share = |share: Option<f64>| share.map(|x| x.to_string()).unwrap_or_default();
        [
            self.steps.to_string(),
            self.env_steps.to_string(),
            format!("{:.2}", self.cpu_seconds),
            self.episodes.to_string(),
            share(self.any),
            share(self.last),
            share(self.held),
            self.mean_return.to_string(),
        ]
    }

    fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

/// The rows as CSV: a column for each figure that any row has.
pub fn to_csv(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.figures) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let head: Vec<&str> = FIXED.iter().chain(&names).copied().collect();
    let mut csv = head.join(",") + "\n";
    for row in rows {
        let figure = |name: &&str| row.figure(name).map(|x| x.to_string()).unwrap_or_default();
        let cells: Vec<String> = row.cells().into_iter().chain(names.iter().map(figure)).collect();
        csv.push_str(&(cells.join(",") + "\n"));
    }
    csv
}

/// Reads [`to_csv`]'s text.
///
/// # Errors
/// It is another table.
pub fn from_csv(csv: &str) -> Result<Vec<Row>> {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    ensure!(
        head.starts_with(&FIXED),
        "expected a table of {}, found {}",
        FIXED.join(","),
        head.join(",")
    );
    let names = head.get(FIXED.len()..).unwrap_or_default();
    lines
        .enumerate()
        .map(|(i, line)| row(line, names).with_context(|| format!("row {}", i + 1)))
        .collect()
}

fn row(line: &str, names: &[&str]) -> Result<Row> {
    let cells: Vec<&str> = line.split(',').collect();
    let [steps, env_steps, cpu_seconds, episodes, any, last, held, mean_return, figures @ ..] =
        cells.as_slice()
    else {
        anyhow::bail!("expected {} cells, found {}", FIXED.len() + names.len(), cells.len());
    };
    let share = |cell: &str| (!cell.is_empty()).then(|| cell.parse()).transpose();
    let figures = names.iter().zip(figures).filter(|(_, cell)| !cell.is_empty());
    Ok(Row {
        steps: steps.parse()?,
        env_steps: env_steps.parse()?,
        cpu_seconds: cpu_seconds.parse()?,
        episodes: episodes.parse()?,
        any: share(any)?,
        last: share(last)?,
        held: share(held)?,
        mean_return: mean_return.parse()?,
        figures: figures
            .map(|(name, cell)| Ok(((*name).to_owned(), cell.parse()?)))
            .collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let rate = |successes| Rate { successes, n: 3 };
        let trials = Trials { any: rate(2), last: rate(1), held: rate(0), mean_return: -7.25 };
        let mut with = Row::new((200, 190), 1.5, &trials, true);
        with.figures = vec![("loss".into(), 0.125), ("q".into(), -3e-9)];
        vec![Row::new((0, 0), 0.25, &trials, false), with]
    }

    #[test]
    fn a_table_reads_back_as_it_was() {
        let csv = to_csv(&rows());
        assert_eq!(from_csv(&csv).unwrap(), rows());
        let head = "steps,env_steps,cpu_seconds,episodes,any,last,held,return,loss,q\n";
        assert!(csv.starts_with(&format!("{head}0,0,0.25,3,,,,-7.25,,\n")), "{csv}");
        assert!(from_csv("a,b\n1,2\n").is_err());
        assert!(from_csv(&csv.replace("190", "many")).is_err());
    }

    #[test]
    fn a_row_says_success_with_its_interval_or_the_return() {
        let says: Vec<String> = rows().iter().map(Row::says).collect();
        assert_eq!(says[0], "return -7.2 over 3 episodes");
        assert!(says[1].starts_with("success 66.7 % [20.8, 93.9] at any time, 33.3 %"), "{says:?}");
    }
}
