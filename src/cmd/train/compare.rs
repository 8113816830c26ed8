//! `regoal train --compare`: several runs in one picture and one table.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::curve::{self, Curve, mean};
use super::folder::Folder;
use super::plan::Plan;
use super::row::{Along, Metric, Row};
use crate::cmd::{Context, say, say_json};

/// A run folder's seeds.
struct Run {
    name: String,
    plan: Plan,
    seeds: Vec<Vec<Row>>,
}

impl Run {
    /// What decided it and how each seed ended.
    fn facts(&self) -> serde_json::Value {
        let seed = |rows: &Vec<Row>| {
            let best = rows.iter().reduce(|a, b| if b.score() > a.score() { b } else { a });
            serde_json::json!({ "end": rows.last(), "best": best })
        };
        serde_json::json!({
            "run": self.name,
            "label": self.plan.label(),
            "env": self.plan.env,
            "seeds": self.plan.seeds,
            "engine": self.plan.engine,
            "software": self.plan.software,
            "settings_sha256": self.plan.settings_hash(),
            "results": self.seeds.iter().map(seed).collect::<Vec<_>>(),
        })
    }
}

/// Draws the runs into `stem.svg` and `stem.png`, and prints a table.
///
/// # Errors
/// A folder is none of a training, or has no evaluations.
pub fn compare(
    folders: &[PathBuf],
    (metric, along, json): (Option<Metric>, Along, bool),
    stem: &Path,
    context: &Context,
) -> Result<()> {
    let runs = folders.iter().map(|path| read(path, context)).collect::<Result<Vec<_>>>()?;
    let has_goals = |run: &Run| run.seeds.iter().flatten().all(|row| row.any.is_some());
    let metric =
        metric.unwrap_or(if runs.iter().all(has_goals) { Metric::Any } else { Metric::Return });
    let labels = labels(&runs);
    let mut curves = Vec::new();
    for (run, label) in runs.iter().zip(labels) {
        let curve = Curve::of(label, &run.seeds, metric, along);
        ensure!(curve.is_some(), "{}: expected {}, found none", run.name, metric.title());
        curves.extend(curve);
    }
    let folder = Folder::new(&context.storage, stem.parent().unwrap_or(Path::new("")));
    let name = stem.file_stem().unwrap_or_default().to_string_lossy();
    let mut envs: Vec<&str> = runs.iter().map(|run| run.plan.env.as_str()).collect();
    envs.dedup();
    curve::save(&folder, &name, &curves, &envs.join(", "), metric)?;
    if json {
        return runs.iter().try_for_each(|run| say_json(&run.facts()));
    }
    say(table(&runs, &curves))?;
    say(format_args!("{} shows {}", stem.with_extension("png").display(), metric.title()))?;
    Ok(())
}

fn read(path: &Path, context: &Context) -> Result<Run> {
    let plan = Plan::read(path, context)?;
    let folder = Folder::new(&context.storage, path);
    let mut seeds = Vec::new();
    for folder in super::seeds::folders(&plan, &folder) {
        seeds.extend(Some(folder.rows()?).filter(|rows| !rows.is_empty()));
    }
    ensure!(!seeds.is_empty(), "{} has no evaluations yet", path.display());
    Ok(Run { name: path.display().to_string(), plan, seeds })
}

/// What the legend calls the runs: their methods, or their folders where methods are the same.
fn labels(runs: &[Run]) -> Vec<String> {
    let label = |run: &Run| {
        let same = runs.iter().filter(|r| r.plan.label() == run.plan.label()).count() > 1;
        if same { run.name.clone() } else { run.plan.label() }
    };
    runs.iter().map(label).collect()
}

/// The ends of the runs, means over their seeds.
fn table(runs: &[Run], curves: &[Curve]) -> String {
    let wide = curves.iter().map(|curve| curve.label.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "{:wide$}  seeds     steps      cpu-s   any      last     held     return   best any",
        "run"
    );
    for (run, curve) in runs.iter().zip(curves) {
        let ends: Vec<&Row> = run.seeds.iter().filter_map(|rows| rows.last()).collect();
        let of = |value: &dyn Fn(&Row) -> Option<f64>| {
            let values: Option<Vec<f64>> = ends.iter().map(|row| value(row)).collect();
            values.map(|values| mean(&values).0)
        };
        let percent = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
        let whole = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.0}"));
        let best =
            run.seeds.iter().map(|rows| rows.iter().filter_map(|row| row.any).reduce(f64::max));
        let best = best.collect::<Option<Vec<f64>>>().map(|best| mean(&best).0);
        text += &format!(
            "\n{:wide$}  {:>5} {:>9} {:>10}   {:<8} {:<8} {:<8} {:<8} {}",
            curve.label,
            curve.seeds,
            whole(of(&|row| Some(row.steps as f64))),
            whole(of(&|row| Some(row.cpu_seconds))),
            percent(of(&|row| row.any)),
            percent(of(&|row| row.last)),
            percent(of(&|row| row.held)),
            of(&|row| Some(row.mean_return)).map_or("-".into(), |x| format!("{x:.1}")),
            percent(best),
        );
    }
    text
}
