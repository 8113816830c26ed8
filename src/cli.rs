//! Arguments and dispatch.

use std::fmt::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cmd::{self, Context};

/// Robots that learn from every attempt, failures included
#[derive(Debug, clap::Parser)]
#[command(name = "regoal", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Say more on stderr: -v what happens, -vv details. RUST_LOG chooses by module.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "each verb's documentation is its help, in its own file")]
pub enum Verb {
    Demo(cmd::demo::Args),
    Run(cmd::run::Args),
    Record(Box<cmd::record::Args>),
    Replay(cmd::replay::Args),
    Arm(cmd::arm::Args),
    Goal(cmd::goal::Args),
    Object(cmd::object::Args),
    Status(cmd::status::Args),
    Stop(cmd::stop::Args),
    Takeover(cmd::takeover::Args),
    Pair(cmd::pair::Args),
    #[command(subcommand)]
    Keys(cmd::keys::Args),
    /// Looks after logged episodes
    #[command(subcommand)]
    Episodes(cmd::episodes::Args),
    Finetune(Box<cmd::finetune::Args>),
    Train(Box<cmd::train::Args>),
    /// Looks at policy files, signs and installs them
    #[command(subcommand)]
    Policy(Policy),
    /// Puts ONNX Runtime in place, for fast training, or MuJoCo, for the Fetch robot
    #[command(subcommand)]
    Runtime(cmd::runtime::Args),
    /// Sets up, calibrates and watches an arm's servos
    #[command(subcommand)]
    Robot(Robot),
    Doctor(cmd::doctor::Args),
    Emulate(cmd::emulate::Args),
    Api(cmd::api::Args),
    Completions(cmd::completions::Args),
    #[command(hide = true)]
    TryLoad(cmd::try_load::Args),
}

/// What to do with an arm's servos.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "as for the verbs")]
pub enum Robot {
    FindPort(cmd::robot::find_port::Args),
    Setup(cmd::robot::setup::Args),
    Calibrate(cmd::robot::calibrate::Args),
    Configure(cmd::robot::configure::Args),
    Monitor(cmd::robot::monitor::Args),
}

/// What to do with a policy file.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "as for the verbs")]
pub enum Policy {
    Inspect(cmd::policy::inspect::Args),
    Verify(cmd::policy::verify::Args),
    Bench(cmd::policy::bench::Args),
    Diff(cmd::policy::diff::Args),
    Keygen(cmd::policy::keygen::Args),
    Sign(cmd::policy::sign::Args),
    Install(cmd::policy::install::Args),
    List(cmd::policy::list::Args),
    Rollback(cmd::policy::rollback::Args),
}

impl Verb {
    /// Runs the verb.
    ///
    /// # Errors
    /// What the verb says.
    pub fn run(&self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Demo(args) => cmd::demo::run(args, context),
            Self::Run(args) => cmd::run::run(args, context),
            Self::Record(args) => cmd::record::run(args, context),
            Self::Replay(args) => cmd::replay::run(args, context),
            Self::Arm(args) => cmd::arm::run(args, context),
            Self::Goal(args) => cmd::goal::run(args, context),
            Self::Object(args) => cmd::object::run(args, context),
            Self::Status(args) => cmd::status::run(args, context),
            Self::Stop(args) => cmd::stop::run(args, context),
            Self::Takeover(args) => cmd::takeover::run(args, context),
            Self::Pair(args) => cmd::pair::run(args, context),
            Self::Keys(args) => cmd::keys::run(args, context),
            Self::Episodes(args) => cmd::episodes::run(args, context),
            Self::Finetune(args) => cmd::finetune::run(args, context),
            Self::Train(args) => cmd::train::run(args, context),
            Self::Policy(Policy::Inspect(args)) => cmd::policy::inspect::run(args, context),
            Self::Policy(Policy::Verify(args)) => cmd::policy::verify::run(args, context),
            Self::Policy(Policy::Bench(args)) => cmd::policy::bench::run(args, context),
            Self::Policy(Policy::Diff(args)) => cmd::policy::diff::run(args, context),
            Self::Policy(Policy::Keygen(args)) => cmd::policy::keygen::run(args, context),
            Self::Policy(Policy::Sign(args)) => cmd::policy::sign::run(args, context),
            Self::Policy(Policy::Install(args)) => cmd::policy::install::run(args, context),
            Self::Policy(Policy::List(args)) => cmd::policy::list::run(args, context),
            Self::Policy(Policy::Rollback(args)) => cmd::policy::rollback::run(args, context),
            Self::Runtime(args) => cmd::runtime::run(args, context),
            Self::Robot(Robot::FindPort(args)) => cmd::robot::find_port::run(args, context),
            Self::Robot(Robot::Setup(args)) => cmd::robot::setup::run(args, context),
            Self::Robot(Robot::Calibrate(args)) => cmd::robot::calibrate::run(args, context),
            Self::Robot(Robot::Configure(args)) => cmd::robot::configure::run(args, context),
            Self::Robot(Robot::Monitor(args)) => cmd::robot::monitor::run(args, context),
            Self::Doctor(args) => cmd::doctor::run(args, context),
            Self::Api(args) => cmd::api::run(args, context),
            Self::Emulate(args) => cmd::emulate::run(args, context),
            Self::Completions(args) => cmd::completions::run(args, command(), context),
            Self::TryLoad(args) => cmd::try_load::run(args, context),
        }
    }
}

/// In which order and under which heading help lists the verbs.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Start here", &["demo"]),
    (
        "Use a robot",
        &[
            "run", "record", "replay", "arm", "goal", "object", "status", "stop", "takeover",
            "pair", "keys",
        ],
    ),
    ("Learn", &["episodes", "finetune", "train", "policy"]),
    ("Computer and arm", &["doctor", "robot", "runtime", "emulate", "api", "completions"]),
];

const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}\n\n\
    `regoal VERB --help` teaches a verb.";

/// The program's arguments, with the verbs in groups.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let verbs = grouped(&command);
    command.help_template(TEMPLATE).before_help(verbs)
}

/// Reads the program's arguments; prints help or what is wrong with them and ends if need be.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
}

fn grouped(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, verbs) in GROUPS {
        let mut lines = String::new();
        for verb in verbs.iter().filter_map(|verb| command.find_subcommand(verb)) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let about = about.split([':', '.']).next().unwrap_or_default();
            let _ = writeln!(lines, "  {:<12} {about}", verb.get_name());
        }
        if !lines.is_empty() {
            let _ = writeln!(text, "{heading}:\n{lines}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent_and_every_verb_stands_in_one_group() {
        let command = command();
        command.clone().debug_assert();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let groups = GROUPS.iter().filter(|(_, verbs)| verbs.contains(&verb.get_name()));
            assert_eq!(groups.count(), 1, "{}", verb.get_name());
        }
    }

    #[test]
    fn every_verb_says_what_it_does_and_shows_an_example() {
        for mut verb in command().get_subcommands().cloned() {
            if verb.has_subcommands() {
                continue;
            }
            let help = verb.render_long_help().to_string();
            assert!(verb.get_about().is_some(), "{help}");
            assert!(help.contains("Example"), "{help}");
        }
    }
}
