//! `regoal policy sign`: says for whom a policy is, so that robots can tell.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde_json::json;

use super::signed;
use crate::clock::WallTime;
use crate::cmd::{Context, finetune, say, say_json, train};
use crate::onnx::Verified;
use crate::policy::{Claims, PolicySpec, id_of};

/// Signs a policy: for which type of robot it is, which version, and until when it may be installed.
///
/// The signature stands beside the file in `FILE.minisig`, in minisign's format: `minisign -V` checks it
/// too. Robots refuse a version that is not higher than their last one, so count up. With `--add` a
/// second person signs the same; robots may want several (`policy.threshold`).
///
/// Example: regoal policy sign candidate/policy.onnx --key fleet.key --policy-version 4
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The file
    pub policy: PathBuf,
    /// The secret key's file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The version: higher than all before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), required_unless_present = "add")]
    pub policy_version: Option<u64>,
    /// The last day on which it may be installed; by default in a year
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    pub expires: Option<WallTime>,
    /// Sign what the signature that is there says, beside it
    #[arg(long, conflicts_with_all = ["policy_version", "expires"])]
    pub add: bool,
    /// The password is this file's first line, instead of asking for it
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn date(text: &str) -> Result<WallTime, String> {
    WallTime::from_date(text).ok_or_else(|| "expected a day such as 2027-01-31".into())
}

const YEAR: Duration = Duration::from_hours(365 * 24);

/// Runs the verb.
///
/// # Errors
/// The file is no policy, the key cannot be read, or the signature cannot be written.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let file = finetune::read(context, &args.policy)?;
    let named = || format!("{}", args.policy.display());
    let spec =
        PolicySpec::of(&*Verified::from_bytes(&file).with_context(named)?).with_context(named)?;
    let before = if args.add { signed::signatures(&args.policy, context)? } else { None };
    let claims = match (&before, args.policy_version) {
        // Whether it is true of this file is checked when it is signed.
        (Some(text), _) => {
            let comment =
                text.lines().nth(2).and_then(|line| line.strip_prefix("trusted comment: "));
            Claims::parse(comment.unwrap_or_default())?
        }
        (None, Some(version)) => Claims {
            robot: spec.model,
            version,
            expires: args.expires.unwrap_or(context.clock.wall() + YEAR),
            policy: id_of(&file),
        },
        (None, None) => anyhow::bail!("{}: expected a signature to add to", named()),
    };
    let signer = signed::signer(&args.key, args.password_file.as_deref(), context)?;
    let signature = signer.sign(&file, &claims)?;
    let path = signed::beside(&args.policy);
    let text = before.unwrap_or_default() + &signature;
    train::write(context, &path, text.as_bytes())?;
    let (robot, version, expires) = (&claims.robot, claims.version, claims.expires.date());
    if args.json {
        let policy = claims.policy.to_string();
        let path = path.display().to_string();
        return say_json(&json!({
            "signature": path, "robot": robot, "version": version, "expires": expires, "policy": policy,
        }));
    }
    say(format!("{}: version {version} for {robot}, until {expires}", path.display()))?;
    Ok(())
}
