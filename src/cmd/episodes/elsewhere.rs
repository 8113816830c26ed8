//! The episodes of a running robot, over its API.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::print::{joint_table, print_list};
use crate::cmd::printable;
use crate::daemon::{Client, EpisodeCurves, EpisodeSummary, Label};
use crate::episode::episode_number;

/// Episodes that are asked for at once.
const PAGE: usize = 200;
/// Points of each joint's course.
const POINTS: usize = 2000;

/// Prints the robot's episodes, the oldest first.
pub(super) fn ls(client: &Client, json: bool, out: &mut dyn Write) -> Result<()> {
    let mut found: Vec<EpisodeSummary> = Vec::new();
    loop {
        let page = client.episodes(found.len(), PAGE)?;
        let end = page.episodes.is_empty();
        found.extend(page.episodes);
        if end || found.len() >= page.total {
            break;
        }
    }
    found.reverse();
    if json {
        return found.iter().try_for_each(|s| Ok(writeln!(out, "{}", serde_json::to_string(s)?)?));
    }
    let named: Vec<_> = found.into_iter().map(|s| (file_name(s.id), s)).collect();
    print_list(&named, out)
}

/// The file's name and the curves of one of the robot's episodes.
pub(super) fn curves(client: &Client, which: &Path) -> Result<(String, EpisodeCurves)> {
    let id = number(which)?;
    Ok((file_name(id), client.episode(id, POINTS)?))
}

/// Prints one of the robot's episodes.
pub(super) fn show(client: &Client, which: &Path, json: bool, out: &mut dyn Write) -> Result<()> {
    let (_, episode) = curves(client, which)?;
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&episode)?)?);
    }
    let EpisodeCurves { summary: s, joints, positions_rad, intervention, .. } = episode;
    writeln!(out, "episode {}: {} {}", s.id, printable(&s.split), printable(&s.source))?;
    if !s.task.is_empty() {
        writeln!(out, "  task      {}", printable(&s.task))?;
    }
    let policy = s.policy.as_deref().map_or("-".into(), printable);
    let label = match s.success {
        Some(true) => "success",
        Some(false) => "failure",
        None => "unknown",
    };
    let distance = s.distance.map_or(String::new(), |d| format!(", distance {d:.4}"));
    let state = s.damage.as_deref().map_or("whole".into(), printable);
    writeln!(out, "  policy    {policy}")?;
    writeln!(out, "  outcome   {label}{distance}: {}", printable(&s.reason))?;
    writeln!(out, "  state     {state}")?;
    writeln!(out, "  steps     {} in {:.2} s", s.steps, s.seconds)?;
    let courses = joints.iter().zip(positions_rad).map(|(name, course)| {
        (printable(name), course.into_iter().flatten().collect::<Vec<f32>>())
    });
    joint_table(courses, out)?;
    if intervention.contains(&true) {
        writeln!(out, "  a person steered in a part of it")?;
    }
    Ok(())
}

/// Says the same of some of the robot's episodes.
pub(super) fn label(
    client: &Client,
    which: &[impl AsRef<Path>],
    label: &Label,
    out: &mut dyn Write,
) -> Result<()> {
    for which in which {
        let id = number(which.as_ref())?;
        client.label(id, label)?;
        writeln!(out, "{}: labelled", file_name(id))?;
    }
    Ok(())
}

fn file_name(id: u64) -> String {
    format!("episode-{id:06}.mcap")
}

/// An episode's number, or the number in its file's name.
fn number(which: &Path) -> Result<u64> {
    let plain = || which.to_str()?.parse().ok();
    episode_number(which).or_else(plain).with_context(|| {
        format!("expected the number of one of the robot's episodes, found {}", which.display())
    })
}
