//! Episodes as tables, those of a folder and those of a robot elsewhere.

use std::io::Write;

use crate::cmd::printable;
use crate::daemon::EpisodeSummary;

/// Prints episodes, each by its file's name, as a table.
pub(super) fn print_list(
    episodes: &[(String, EpisodeSummary)],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut rows = vec![
        ["file", "source", "steps", "seconds", "success", "distance", "policy", "state"]
            .map(String::from),
    ];
    rows.extend(episodes.iter().map(|(name, summary)| summary_row(name, summary)));
    table(&rows, out)?;
    let all = || episodes.iter().map(|(_, summary)| summary);
    let (seconds, bytes) =
        (all().map(|s| s.seconds).sum::<f64>(), all().map(|s| s.bytes).sum::<u64>());
    let damaged = all().filter(|s| s.damage.is_some()).count();
    let (count, megabytes) = (episodes.len(), bytes as f64 * 1e-6);
    Ok(writeln!(out, "{count} episodes, {seconds:.1} s, {megabytes:.1} MB, {damaged} damaged")?)
}

/// Prints each joint's range and course (rad).
pub(super) fn joint_table(
    courses: impl Iterator<Item = (String, Vec<f32>)>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut rows = vec![["joint", "min rad", "max rad", "last rad", "course"].map(String::from)];
    rows.extend(courses.filter_map(|(name, course)| {
        let [min, max, last] = range(&course)?.map(|v| format!("{v:+.3}"));
        Some([name, min, max, last, sparkline(&course, 40)])
    }));
    table(&rows, out)
}

fn summary_row(name: &str, summary: &EpisodeSummary) -> [String; 8] {
    let success = match summary.success {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let policy = summary.policy.as_deref().unwrap_or("-");
    [
        name.into(),
        printable(&summary.source),
        summary.steps.to_string(),
        format!("{:.2}", summary.seconds),
        success.into(),
        summary.distance.map_or("-".into(), |d| format!("{d:.4}")),
        printable(policy).chars().take(8).collect(),
        summary.damage.as_deref().map_or("whole".into(), printable),
    ]
}

/// Prints rows in columns as wide as their widest cell.
pub(super) fn table<const N: usize>(
    rows: &[[String; N]],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Least, greatest and last value.
pub(super) fn range(values: &[f32]) -> Option<[f32; 3]> {
    let last = *values.last()?;
    Some([
        values.iter().copied().fold(last, f32::min),
        values.iter().copied().fold(last, f32::max),
        last,
    ])
}

/// A course as a row of at most `width` bars, each the mean of its part.
pub(super) fn sparkline(values: &[f32], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some([min, max, _]) = range(values) else { return String::new() };
    let span = (max - min).max(f32::MIN_POSITIVE);
    let part = values.len().div_ceil(width.max(1));
    let bar = |part: &[f32]| {
        let mean = part.iter().sum::<f32>() / part.len() as f32;
        BARS[(((mean - min) / span * 8.0) as usize).min(7)]
    };
    values.chunks(part).map(bar).collect()
}
