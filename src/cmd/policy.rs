//! `regoal policy inspect`: what a policy file is for, and whether it fits a robot.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::try_load::isolated;
use super::{Context, finetune};
use crate::config::RobotConfig;
use crate::engine::Engine;
use crate::onnx::Verified;
use crate::policy::{Policy, PolicySpec, id_of};

/// Says what a policy file is for: its robot, tensors, provenance, and whether it fits.
///
/// Example: regoal policy inspect models/reach/policy.onnx
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The policy
    pub policy: PathBuf,
    /// Check it against this robot too
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Not a policy, or not for this robot.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let file = finetune::read(context, &args.policy)?;
    let named = || format!("{}", args.policy.display());
    let graph = Verified::from_bytes(&file).with_context(named)?;
    let spec = PolicySpec::of(&graph).with_context(named)?;
    if let Some(path) = &args.robot {
        let robot = RobotConfig::load(context.storage.as_ref(), path)?;
        isolated(&file, &Engine::tract()).with_context(named)?;
        Policy::load(&file, &robot, &Engine::tract())?;
    }
    let parameters: usize = graph.parameters()?.values().map(|t| t.data.len()).sum();
    if args.json {
        let all = serde_json::json!({
            "id": id_of(&file).to_string(),
            "bytes": file.len(),
            "nodes": graph.nodes().len(),
            "parameters": parameters,
            "opset": graph.opset(),
            "spec": spec,
        });
        println!("{all}");
        return Ok(());
    }
    println!("policy       {}", id_of(&file));
    println!("robot        {} at {} Hz", spec.model, spec.rate_hz);
    println!("joints       {}", spec.joints.join(", "));
    println!("observation  {:?}, [N, {}]", spec.observation, spec.observation_size());
    println!("goal         {:?}, [N, {}]", spec.goal_space, spec.goal_space.size());
    println!("action       {:?}, [N, {}]", spec.action, spec.joints.len());
    println!(
        "graph        {} nodes, {parameters} parameters, opset {}, {} bytes",
        graph.nodes().len(),
        graph.opset(),
        file.len()
    );
    for (key, value) in &spec.provenance {
        println!("{key:<12} {value}");
    }
    if args.robot.is_some() {
        println!("fits the robot");
    }
    Ok(())
}
