//! `regoal episodes export|import lerobot`: LeRobot's datasets out and in.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::super::robot::Which;
use super::super::{Context, say, say_json};
use crate::config::RobotConfig;
use crate::episode::lerobot::{Export, Foreign, Import};
use crate::episode::{Episode, EpisodeHeader, Source, append, list};
use crate::hal::calibration::{ArmCalibration, Calibration, JointCalibration, Normalisation};
use crate::joints::{GoalSpace, GoalVec, stack};
use crate::kinematics::Chain;

/// What joint positions are told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Units {
    /// rad
    Radians,
    /// Degrees of our angles
    Degrees,
    /// As LeRobot tells them by the arm's calibration: degrees from the middle, the gripper 0 to 100
    Lerobot,
    /// As LeRobot tells them by the arm's calibration: -100 to 100, the gripper 0 to 100
    Percent,
}

impl Units {
    fn name(self) -> &'static str {
        match self {
            Self::Radians => "radians",
            Self::Degrees => "degrees",
            Self::Lerobot => "lerobot",
            Self::Percent => "percent",
        }
    }
}

/// Writes a folder's episodes as a LeRobotDataset v3.0, for LeRobot's loaders and trainers.
///
/// An export that was cut off goes on, and episodes that were added since go into the same dataset.
/// Damaged episodes and evaluations are left out. `observation.environment_state` is the goal, so that
/// LeRobot's ACT trains without a camera.
///
/// Example: regoal episodes export lerobot episodes dataset --task "reach the point"
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The episodes
    pub episodes: PathBuf,
    /// The dataset
    pub dataset: PathBuf,
    /// What joint positions and actions are told in
    #[arg(long, default_value = "radians")]
    pub units: Units,
    /// The arm's configuration, whose calibration LeRobot's units are told by
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// The task of episodes that have none
    #[arg(long, default_value = "reach the goal", value_name = "TEXT")]
    pub task: String,
    /// Leave out failures
    #[arg(long)]
    pub successes: bool,
    /// Leave out what is not a demonstration
    #[arg(long)]
    pub demonstrations: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads a LeRobotDataset v3.x into a folder of episodes.
///
/// What LeRobot recorded becomes demonstrations: with `--robot` the achieved goals are worked out from
/// the joint positions, and its calibration tells LeRobot's numbers. Videos stay where they are; each
/// episode names its own.
///
/// Example: regoal episodes import lerobot dataset episodes --robot firmware-config/so101-follower.toml
/// --units lerobot
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The dataset
    pub dataset: PathBuf,
    /// Where the episodes go
    pub episodes: PathBuf,
    /// What joint positions and actions are told in; of an export of ours this is known
    #[arg(long)]
    pub units: Option<Units>,
    /// The arm's configuration: its goals, and the calibration that LeRobot's units are told by
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the export.
///
/// # Errors
/// An episode does not fit the others, the folder holds another dataset, or the disk fails.
pub fn export(args: &ExportArgs, context: &Context) -> Result<()> {
    let storage = context.storage.as_ref();
    let arm = args.robot.as_deref().map(|robot| Arm::load(robot, context)).transpose()?;
    let scale = Scale::of(args.units, arm.as_ref())?;
    let to = |i: usize, q: f32| scale.to_user(i, q);
    let mut export = Export::open(storage, &args.dataset, args.units.name(), &to)?;
    let (mut damaged, mut left_out) = (0, 0);
    for summary in list(storage, &args.episodes)? {
        context.check()?;
        let wanted = |header: &EpisodeHeader| {
            header.source != Source::Evaluation
                && (!args.demonstrations || header.source == Source::Demonstration)
                && (!args.successes
                    || summary.outcome.as_ref().and_then(|outcome| outcome.success) == Some(true))
        };
        if !summary.header.as_ref().is_some_and(wanted) || summary.steps == 0 {
            left_out += 1;
            continue;
        }
        let episode = Episode::read(storage, &summary.path)?;
        if episode.damage.is_some() {
            damaged += 1;
            continue;
        }
        let name = super::file_name(&summary.path);
        export.push(&name, &episode, &args.task)?;
    }
    let (episodes, frames) = export.finish()?;
    if args.json {
        return say_json(&serde_json::json!({
            "dataset": args.dataset, "episodes": episodes, "frames": frames,
            "left_out": left_out, "damaged": damaged,
        }));
    }
    say(format_args!(
        "{}: {episodes} episodes, {frames} frames in {}",
        args.dataset.display(),
        args.units.name()
    ))?;
    if damaged > 0 {
        say(format_args!("{damaged} damaged left out: `regoal episodes repair` mends them"))?;
    }
    if left_out > 0 {
        say(format_args!(
            "{left_out} left out: evaluations, empty ones, or not what was asked for"
        ))?;
    }
    Ok(())
}

/// Runs the import.
///
/// # Errors
/// It is no dataset, its units are not known, or the disk fails.
pub fn import(args: &ImportArgs, context: &Context) -> Result<()> {
    let mut import = Import::open(context.storage.as_ref(), &args.dataset)?;
    let arm = args.robot.as_deref().map(|robot| Arm::load(robot, context)).transpose()?;
    let known = import.units().and_then(|name| Units::from_str(name, false).ok());
    let Some(units) = known.or(args.units) else {
        bail!(
            "what are the joint positions in? LeRobot's datasets do not say: --units lerobot or percent with --robot FILE, degrees or radians"
        );
    };
    let scale = Scale::of(units, arm.as_ref())?;
    let chain = arm.as_ref().and_then(|arm| Chain::of(&arm.robot).ok());
    let space = arm.as_ref().map_or(GoalSpace::None, |arm| arm.robot.control.goal_space);
    let header = match &arm {
        Some(arm) => super::super::simulate::header_template(&arm.robot),
        None => EpisodeHeader { goal_space: space.name().into(), ..EpisodeHeader::default() },
    };
    let achieved = |q: &[f32]| achieved(space, chain.as_ref(), q);
    let from = |i: usize, x: f32| scale.to_rad(i, x);
    let foreign = Foreign { header, from: &from, achieved: &achieved };
    let (mut frames, mut videos) = (0, 0);
    for i in 0..import.len() {
        context.check()?;
        let episode = import.episode(i, &foreign)?;
        (frames, videos) = (frames + episode.steps.len(), videos + episode.header.videos.len());
        append(&context.storage, &args.episodes, &episode)?;
    }
    if args.json {
        return say_json(&serde_json::json!({
            "episodes": import.len(), "frames": frames, "folder": args.episodes, "videos": videos,
        }));
    }
    let folder = args.episodes.display();
    say(format_args!("{folder}: {} episodes, {frames} frames", import.len()))?;
    if videos > 0 {
        say(format_args!("{videos} videos stay where they are; each episode names its own"))?;
    }
    Ok(())
}

/// The goal achieved at joint positions (rad).
fn achieved(space: GoalSpace, chain: Option<&Chain>, position: &[f32]) -> GoalVec {
    let wide: Vec<f64> = position.iter().map(|q| f64::from(*q)).collect();
    match (space, chain) {
        (GoalSpace::JointPosition, _) => stack(position.iter().copied()),
        (space, Some(chain)) if space.is_cartesian() => chain.goal(space, &wide),
        _ => GoalVec::new(),
    }
}

/// An arm and its calibration.
struct Arm {
    robot: RobotConfig,
    calibration: Option<ArmCalibration>,
}

impl Arm {
    fn load(path: &Path, context: &Context) -> Result<Self> {
        let which = Which { robot: path.into(), port: None };
        let (mut robot, calibration) = which.load(context)?;
        if let Some(calibration) = &calibration {
            calibration
                .apply(&mut robot)
                .with_context(|| format!("applying {}", which.calibration_path().display()))?;
        }
        Ok(Self { robot, calibration })
    }
}

/// Joint positions to a dataset's numbers and back.
enum Scale {
    Factor(f64),
    /// By joint.
    LeRobot(Vec<(Calibration, JointCalibration, Normalisation)>),
}

impl Scale {
    fn of(units: Units, arm: Option<&Arm>) -> Result<Self> {
        let body = match units {
            Units::Radians => return Ok(Self::Factor(1.0)),
            Units::Degrees => return Ok(Self::Factor(180.0 / std::f64::consts::PI)),
            Units::Lerobot => Normalisation::Degrees,
            Units::Percent => Normalisation::RangeM100To100,
        };
        let Some((robot, calibration)) =
            arm.and_then(|arm| Some((&arm.robot, arm.calibration.as_ref()?)))
        else {
            bail!(
                "--units {} needs the arm's calibration: name its configuration with --robot FILE (`regoal robot calibrate` makes one)",
                units.name()
            );
        };
        let joint = |config: &crate::config::JointConfig| {
            let mode = if config.name == "gripper" { Normalisation::Range0To100 } else { body };
            Ok((Calibration::new(config), calibration.joint(&config.name)?.clone(), mode))
        };
        Ok(Self::LeRobot(robot.joint.iter().map(joint).collect::<Result<_>>()?))
    }

    fn to_user(&self, i: usize, q: f32) -> f32 {
        match self {
            Self::Factor(factor) => (f64::from(q) * factor) as f32,
            Self::LeRobot(joints) => joints
                .get(i)
                .and_then(|(ticks, joint, mode)| {
                    Some(mode.to_user(joint, ticks.ticks(q.into()).ok()?) as f32)
                })
                .unwrap_or(f32::NAN),
        }
    }

    fn to_rad(&self, i: usize, x: f32) -> f32 {
        match self {
            Self::Factor(factor) => (f64::from(x) / factor) as f32,
            Self::LeRobot(joints) => joints
                .get(i)
                .and_then(|(ticks, joint, mode)| {
                    Some(ticks.radians(mode.to_ticks(joint, x.into()).ok()?) as f32)
                })
                .unwrap_or(f32::NAN),
        }
    }
}
