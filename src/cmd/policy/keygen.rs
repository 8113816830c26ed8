//! `regoal policy keygen`: a pair of keys to sign policies with.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde_json::json;

use super::signed;
use crate::cmd::{Context, say, say_json};
use crate::policy::signature::Keys;

/// Makes a pair of keys in minisign's format: a secret one to sign policies with, and a public one
/// that robots trust.
///
/// The secret key is encrypted with a password, keep it off the robots. The public key's line goes into
/// the robots' configuration: `[policy] trusted_keys = ["RW..."]`; from then on they take signed
/// policies only.
///
/// Example: regoal policy keygen --out fleet.key
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The secret key's file; the public one goes beside it as `.pub`
    #[arg(long, value_name = "FILE", default_value = "regoal.key")]
    pub out: PathBuf,
    /// The password is this file's first line, instead of asking for it
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Do not encrypt the secret key
    #[arg(long, conflicts_with = "password_file")]
    pub no_password: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file is there already or cannot be written, or there is no password.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let password = |question| signed::password(args.password_file.as_deref(), question, context);
    let password = match args.no_password {
        true => None,
        false => Some(password("password for the secret key: ")?),
    };
    if args.password_file.is_none()
        && let Some(first) = &password
    {
        let again = signed::password(None, "the same again: ", context)?;
        anyhow::ensure!(*first == again, "the passwords differ");
    }
    let keys = Keys::generate(password)?;
    let public = args.out.with_extension("pub");
    anyhow::ensure!(
        public != args.out,
        "expected a name for the secret key that does not end in .pub"
    );
    create(&args.out, 0o600, &keys.secret)?;
    create(&public, 0o644, &keys.public)?;
    let line = keys.public.lines().last().unwrap_or_default();
    if args.json {
        let (secret, public) = (args.out.display().to_string(), public.display().to_string());
        return say_json(
            &json!({ "id": keys.id, "public_key": line, "secret": secret, "public": public }),
        );
    }
    say(format!("{}: the secret key; keep it, and keep it off the robots", args.out.display()))?;
    say(format!("{}: the public key, {}; robots trust it by\n", public.display(), keys.id))?;
    Ok(say(format!("[policy]\ntrusted_keys = [\"{line}\"]"))?)
}

/// Writes a file that must not be there yet, readable for whom it is meant from the first moment.
fn create(path: &Path, mode: u32, text: &str) -> Result<()> {
    let named = || format!("writing {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).open(path).with_context(named)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(named)
}
