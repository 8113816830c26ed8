//! `regoal episodes`: what is in a dataset, what is in an episode, mending it, other formats.

mod course;
mod elsewhere;
pub mod lerobot;
mod print;
pub mod relabel;
pub mod stats;
pub mod tend;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use self::print::{joint_table, print_list, range};
use super::Endpoint;
use crate::daemon::{EpisodeCurves, EpisodeSummary};
use crate::episode::{
    Episode, EpisodeHeader, Events, Outcome, PolicyId, Step, Summary, list, repair,
};
use crate::storage::Storage;

/// What to do with logged episodes.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "a verb with arguments of its own is described there")]
pub enum Args {
    /// Lists the episodes of a folder, or those of a running robot (--to, --socket), damaged ones
    /// included.
    ///
    /// Example: regoal episodes ls regoal-demo/episodes
    ///
    /// Example: regoal episodes ls --to https://robot:7423
    Ls {
        /// The folder.
        #[arg(default_value = "episodes", conflicts_with_all = ["socket", "to"])]
        folder: PathBuf,
        #[command(flatten)]
        at: Endpoint,
        /// Print JSON, one line an episode.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is in one episode: header, outcome, each joint's course, events.
    ///
    /// Example: regoal episodes show episodes/episode-000001.mcap
    ///
    /// Example: regoal episodes show 1 --to https://robot:7423
    Show {
        /// The episode; of a running robot (--to, --socket) its number.
        file: PathBuf,
        #[command(flatten)]
        at: Endpoint,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Draw it: each joint's course and the way of the achieved goal.
        #[arg(long, value_name = "FILE.svg|png")]
        picture: Option<PathBuf>,
    },
    Stats(stats::Args),
    Label(tend::Label),
    Split(tend::Divide),
    Merge(tend::Merge),
    Delete(tend::Delete),
    Check(tend::Check),
    /// Shows what hindsight makes of the goals in a folder of episodes. Nothing is written into the folder:
    /// training draws goals anew with every batch.
    ///
    /// Each sample is a transition whose goal is, with the probability given, one that its episode
    /// achieved: later on (`future`, `geometric:GAMMA`), at its end (`final`), at any time (`episode`), or
    /// that any episode achieved (`random`). A good strategy leaves goals at many distances and makes a
    /// few percent of the transitions succeed; where most succeed at once, the goals are too near.
    ///
    /// Example: regoal episodes relabel --preview regoal-demo/attempts --strategy geometric:0.95
    Relabel(relabel::Args),
    /// Mends damaged episodes: what is whole is written anew, the original is kept beside it.
    ///
    /// Example: regoal episodes repair episodes/episode-000007.mcap
    Repair {
        /// The episodes.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Writes episodes in another format.
    #[command(subcommand)]
    Export(Export),
    /// Reads episodes from another format.
    #[command(subcommand)]
    Import(Import),
}

/// The formats to write.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "described at its arguments")]
pub enum Export {
    Lerobot(lerobot::ExportArgs),
}

/// The formats to read.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "described at its arguments")]
pub enum Import {
    Lerobot(lerobot::ImportArgs),
}

/// Runs the verb.
///
/// # Errors
/// The folder or file cannot be read.
pub fn run(args: &Args, context: &super::Context) -> anyhow::Result<()> {
    let (storage, mut out) = (context.storage.as_ref(), std::io::stdout().lock());
    match args {
        Args::Ls { folder, at, json } => match at.client(context)? {
            Some(client) => elsewhere::ls(&client, *json, &mut out),
            None => ls(storage, folder, *json, &mut out),
        },
        Args::Show { file, at, json, picture: None } => match at.client(context)? {
            Some(client) => elsewhere::show(&client, file, *json, &mut out),
            None => show(storage, file, *json, &mut out),
        },
        Args::Show { file, at, picture: Some(picture), .. } => {
            let (title, episode) = match at.client(context)? {
                Some(client) => elsewhere::curves(&client, file)?,
                None => (file_name(file), curves(&Episode::read(storage, file)?)),
            };
            let drawn = course::draw(&episode, &title, picture)?;
            storage.replace(picture, &drawn).with_context(|| picture.display().to_string())?;
            Ok(writeln!(out, "{}", picture.display())?)
        }
        Args::Stats(args) => stats::run(args, storage, &mut out),
        Args::Label(args) => args.run(context, &mut out),
        Args::Split(args) => args.run(&context.storage, &mut out),
        Args::Merge(args) => args.run(&context.storage, &mut out),
        Args::Delete(args) => args.run(storage, &mut out),
        Args::Check(args) => args.run(storage, &mut out),
        Args::Relabel(args) => relabel::run(args, storage, &mut out),
        Args::Repair { files } => files.iter().try_for_each(|file| {
            let found = repair(storage, file)?.map_or("whole".into(), |d| format!("mended: {d}"));
            Ok(writeln!(out, "{}: {found}", file.display())?)
        }),
        Args::Export(Export::Lerobot(args)) => {
            drop(out);
            lerobot::export(args, context)
        }
        Args::Import(Import::Lerobot(args)) => {
            drop(out);
            lerobot::import(args, context)
        }
    }
}

/// Prints the episodes of a folder as a table, or as one JSON line each.
pub fn ls(
    storage: &dyn Storage,
    folder: &Path,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let summaries = list(storage, folder)?;
    if json {
        return summaries.iter().try_for_each(|s| Ok(writeln!(out, "{}", summary_json(s))?));
    }
    let named = |s: &Summary| {
        let summary = EpisodeSummary::from(s);
        let source = s.header.as_ref().map_or("?".into(), |header| header.source.to_string());
        (file_name(&s.path), EpisodeSummary { source, ..summary })
    };
    let damaged = summaries.iter().filter(|s| s.damage.is_some()).count();
    print_list(&summaries.iter().map(named).collect::<Vec<_>>(), out)?;
    if damaged > 0 {
        writeln!(out, "`regoal episodes repair` mends damaged ones and keeps the originals")?;
    }
    Ok(())
}

/// Prints one episode: header, outcome, each joint's range and course, events.
pub fn show(
    storage: &dyn Storage,
    path: &Path,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let episode =
        Episode::read(storage, path).with_context(|| format!("showing {}", path.display()))?;
    if json {
        return Ok(writeln!(out, "{}", episode_json(&episode))?);
    }
    let header = &episode.header;
    writeln!(
        out,
        "episode {}: {} {} on {}",
        header.number, header.split, header.source, header.robot
    )?;
    for video in &header.videos {
        writeln!(out, "  video     {video}")?;
    }
    if !header.task.is_empty() {
        writeln!(out, "  task      {}", header.task)?;
    }
    writeln!(out, "  rate      {} Hz", header.rate_hz)?;
    writeln!(out, "  goal      {} within {}", header.goal_space, header.goal_tolerance)?;
    writeln!(out, "  policy    {}", policy_text(header.policy, 32))?;
    writeln!(out, "  seed      {}", header.seed.map_or("-".into(), |seed| seed.to_string()))?;
    writeln!(out, "  software  {}", header.software)?;
    writeln!(out, "  outcome   {}", outcome_text(episode.outcome.as_ref()))?;
    writeln!(
        out,
        "  state     {}",
        episode.damage.map_or("whole".into(), |damage| damage.to_string())
    )?;
    writeln!(out, "  steps     {} in {:.2} s", episode.steps.len(), seconds(&episode.steps))?;
    let courses = header.joints.iter().enumerate();
    joint_table(courses.map(|(i, name)| (name.clone(), joint_course(&episode.steps, i))), out)?;
    for (name, count) in event_counts(&episode.steps) {
        writeln!(out, "  {name}: {count}")?;
    }
    Ok(())
}

/// All of an episode's curves.
fn curves(episode: &Episode) -> EpisodeCurves {
    EpisodeCurves::of(EpisodeSummary::default(), episode, usize::MAX)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

fn outcome_text(outcome: Option<&Outcome>) -> String {
    let Some(outcome) = outcome else { return "none: the writer did not come that far".into() };
    let label = match outcome.success {
        Some(true) => "success",
        Some(false) => "failure",
        None => "unknown",
    };
    let distance = outcome.final_distance.map_or(String::new(), |d| format!(", distance {d:.4}"));
    let reached =
        outcome.reached_tick.map_or(String::new(), |tick| format!(", reached at tick {tick}"));
    let missed = format!(", {} of {} ticks missed", outcome.missed_ticks, outcome.ticks);
    format!("{label}{distance}{reached}{missed}: {}", outcome.reason)
}

fn policy_text(policy: PolicyId, digits: usize) -> String {
    if policy == PolicyId::default() {
        "-".into()
    } else {
        policy.to_string().chars().take(digits).collect()
    }
}

fn seconds(steps: &[Step]) -> f64 {
    steps
        .first()
        .zip(steps.last())
        .map_or(0.0, |(first, last)| last.time.since(first.time).as_secs_f64())
}

/// The measured positions of one joint (rad).
fn joint_course(steps: &[Step], joint: usize) -> Vec<f32> {
    steps.iter().filter_map(|step| step.position.get(joint).copied()).collect()
}

fn event_counts(steps: &[Step]) -> impl Iterator<Item = (&'static str, usize)> {
    let count = |event: Events| steps.iter().filter(|step| step.events.contains(event)).count();
    [
        ("goals set", count(Events::GOAL_SET)),
        ("goals reached", count(Events::GOAL_REACHED)),
        ("goals ended", count(Events::GOAL_ENDED)),
        ("policy swaps", count(Events::POLICY_SWAPPED)),
        ("gated actions", count(Events::GATED)),
        ("refused actions", count(Events::ACTION_REFUSED)),
        ("late actions", count(Events::ACTION_LATE)),
        ("stale joints", count(Events::STALE_JOINT)),
        ("log gaps", count(Events::LOG_GAP)),
        ("missed ticks", count(Events::MISSED_TICK)),
        ("interventions", steps.iter().filter(|step| step.intervention).count()),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
}

fn summary_json(summary: &Summary) -> Value {
    json!({
        "file": file_name(&summary.path),
        "bytes": summary.bytes,
        "steps": summary.steps,
        "seconds": summary.duration.as_secs_f64(),
        "header": summary.header.as_ref().map(header_json),
        "outcome": summary.outcome.as_ref().map(outcome_json),
        "damage": summary.damage.map(|damage| damage.to_string()),
    })
}

fn episode_json(episode: &Episode) -> Value {
    let joints = episode.header.joints.iter().enumerate().filter_map(|(joint, name)| {
        let [min, max, last] = range(&joint_course(&episode.steps, joint))?;
        Some((name.clone(), json!({ "min": min, "max": max, "last": last })))
    });
    json!({
        "header": header_json(&episode.header),
        "outcome": episode.outcome.as_ref().map(outcome_json),
        "damage": episode.damage.map(|damage| damage.to_string()),
        "steps": episode.steps.len(),
        "seconds": seconds(&episode.steps),
        "joints": joints.collect::<serde_json::Map<_, _>>(),
        "events": event_counts(&episode.steps).map(|(k, v)| (k.into(), v.into())).collect::<serde_json::Map<_, _>>(),
    })
}

fn header_json(header: &EpisodeHeader) -> Value {
    json!({
        "number": header.number,
        "robot": header.robot,
        "joints": header.joints,
        "rate_hz": header.rate_hz,
        "task": header.task,
        "videos": header.videos,
        "goal_space": header.goal_space,
        "goal_tolerance": header.goal_tolerance,
        "source": header.source,
        "split": header.split,
        "calibration": header.calibration,
        "policy": policy_text(header.policy, 32),
        "seed": header.seed,
        "started_ns": header.started.0,
        "software": header.software,
    })
}

fn outcome_json(outcome: &Outcome) -> Value {
    json!({
        "success": outcome.success,
        "final_distance": outcome.final_distance,
        "reached_tick": outcome.reached_tick,
        "ticks": outcome.ticks,
        "missed_ticks": outcome.missed_ticks,
        "reason": outcome.reason.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::print::sparkline;
    use super::*;
    use crate::clock::Time;
    use crate::episode::{Writer, WriterConfig, reason};
    use crate::joints::{JointVec, stack};
    use crate::storage::Memory;

    fn dataset() -> Memory {
        let memory = Memory::default();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let header =
            EpisodeHeader { joints: vec!["elbow".into()], rate_hz: 100.0, ..Default::default() };
        for ended in [true, false] {
            let mut writer = Writer::create(
                &storage,
                Path::new("data"),
                header.clone(),
                &WriterConfig::default(),
            )
            .unwrap();
            for tick in 0..8 {
                let position: JointVec<f32> = stack([tick as f32 * 0.1]);
                let time = Time(tick * 10_000_000);
                writer
                    .push(&Step {
                        tick,
                        time,
                        position,
                        events: Events::GATED,
                        ..Default::default()
                    })
                    .unwrap();
            }
            if ended {
                let (success, reason) = (Some(true), reason("goal reached"));
                writer.finish(&Outcome { success, reason, ..Default::default() }).unwrap();
            }
        }
        memory
    }

    fn printed(print: impl Fn(&mut dyn Write) -> anyhow::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_has_a_line_for_each_episode_and_says_which_are_torn() {
        let storage = dataset();
        let text = printed(|out| ls(&storage, Path::new("data"), false, out));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("episode-000000.mcap  run     8      0.07     yes"), "{text}");
        assert!(lines[1].ends_with("whole") && lines[2].ends_with("no end"), "{text}");
        assert!(text.contains("2 episodes, 0.1 s"), "{text}");
        for line in printed(|out| ls(&storage, Path::new("data"), true, out)).lines() {
            assert_eq!(serde_json::from_str::<Value>(line).unwrap()["steps"], 8);
        }
    }

    #[test]
    fn an_episode_shows_each_joint_with_its_range_and_course() {
        let storage = dataset();
        let path = Path::new("data/episode-000000.mcap");
        let text = printed(|out| show(&storage, path, false, out));
        assert!(text.contains("elbow  +0.000   +0.700   +0.700    ▁▂▃▄▅▆▇█"), "{text}");
        assert!(text.contains("gated actions: 8") && text.contains("success"), "{text}");
        let json: Value =
            serde_json::from_str(&printed(|out| show(&storage, path, true, out))).unwrap();
        assert_eq!(json["events"]["gated actions"], 8);
    }

    #[test]
    fn an_episodes_picture_has_its_joints_and_other_files_are_refused() {
        let storage = dataset();
        let episode = Episode::read(&storage, Path::new("data/episode-000000.mcap")).unwrap();
        let episode = curves(&episode);
        let svg = course::draw(&episode, "a & b", Path::new("x.svg")).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(
            svg.contains("elbow") && svg.contains("a &amp; b") && !svg.contains("NaN"),
            "{svg}"
        );
        let png = course::draw(&episode, "", Path::new("x.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        let error = course::draw(&episode, "", Path::new("x.jpg")).unwrap_err().to_string();
        assert!(error.contains("expected a file .svg or .png"), "{error}");
    }

    #[test]
    fn a_sparkline_of_anything_is_at_most_as_wide_as_asked() {
        for values in
            [vec![], vec![f32::NAN; 100], vec![1.0; 3], (0..999).map(|v| v as f32).collect()]
        {
            assert!(sparkline(&values, 40).chars().count() <= 40);
        }
    }
}
