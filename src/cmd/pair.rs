//! `regoal pair`: gives a client a key, on the robot and on the client.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Context, Daemon, key_path, printable, say, say_json};
use crate::daemon::{self, KeyFile, PairingReply, PairingRequest, RemoteAddress, Role};

/// Lets another computer, a tablet or a program use a robot that runs with `--listen`
///
/// On the robot's computer it shows a code, good for one client within two minutes, and the same as a
/// QR code. On the other computer `regoal pair --to https://robot:port` asks for it. Each side proves to
/// the other that it knows the code and sees the same certificate, so nobody can stand in between. The
/// client keeps its key in a file of its own; from then on `--to` does for each verb what `--socket` does.
///
/// Roles, each with all before it: observe (look, and stop the arm at once), goal (arm it, give it goals),
/// deploy (change what steers it), admin (say who may what).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal pair --role goal --name tablet                  on the robot: shows a code
  regoal pair --role observe --name wall --expires 30d   its key ends after 30 days
  regoal pair --to https://robot:7423                    on the client: asks for the code
  regoal status --to https://robot:7423                  uses the key
  regoal pair --page --name tablet --role goal           a link to the page for a tablet
  regoal pair --page                                     a new link to the page of `regoal run --page`")]
pub struct Args {
    /// What the client may: observe, goal, deploy or admin.
    #[arg(long, default_value = "observe", value_name = "ROLE", requires = "name")]
    role: Role,
    /// What the client is called; needed on the robot.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["to", "page"])]
    name: Option<String>,
    /// How long the key is valid, such as 12h or 30d; without it until it is taken back.
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "name")]
    expires: Option<Duration>,
    /// Show a link to the page instead, good for one visit: with --name for a browser elsewhere, which
    /// keeps its key in a cookie; without, for one on the robot's computer.
    #[arg(long)]
    page: bool,
    /// On the client: where the key is kept; by default in the user's configuration folder.
    #[arg(long, value_name = "FILE", requires = "to")]
    out: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as 90m, 12h or 30d, found {text:?}");
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.checked_mul(unit).ok_or_else(wrong)?))
}

/// Runs the verb.
///
/// # Errors
/// No daemon, the name is taken, the code is refused, or the key cannot be kept.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    match (&args.daemon.at.to, &args.name) {
        (Some(to), None) if !args.page => join(to, args, context),
        (_, Some(name)) => invite(name, args, context),
        _ => {
            let link = args.daemon.client(context)?.page_link()?;
            if args.json { say_json(&serde_json::json!({ "link": link })) } else { Ok(say(link)?) }
        }
    }
}

/// On the robot: shows a code.
fn invite(name: &str, args: &Args, context: &Context) -> anyhow::Result<()> {
    let expires_s = args.expires.map(|time| time.as_secs());
    let request = PairingRequest { name: name.into(), role: args.role, expires_s };
    let reply = args.daemon.client(context)?.start_pairing(&request)?;
    if args.json {
        return say_json(&reply);
    }
    let link = if args.page { reply.page.clone() } else { reply.link() };
    if std::io::stdout().is_terminal() {
        say(picture(&link)?)?;
    }
    let PairingReply { code, seconds, address, fingerprint, .. } = &reply;
    if args.page {
        return Ok(say(format!(
            "{} may {}\n\nthe page     {link}   once, within {seconds} s\n\ncertificate  {fingerprint}\n\
             The browser warns that nobody vouches for the certificate: go on only where it shows this one.",
            printable(name),
            args.role
        ))?);
    }
    Ok(say(format!(
        "{} may {}\n\ncode         {code}   once, within {seconds} s\non the client\n\n  \
         regoal pair --to {address}\n\ncertificate  {fingerprint}",
        printable(name),
        args.role
    ))?)
}

/// A QR code of a link, drawn with half blocks.
fn picture(link: &str) -> anyhow::Result<String> {
    let code = qrcode::QrCode::with_error_correction_level(link, qrcode::EcLevel::L)?;
    // Dark on light, however the terminal is coloured, is what cameras expect.
    use qrcode::render::unicode::Dense1x2;
    let light = Dense1x2::Light;
    Ok(code.render().dark_color(light).light_color(Dense1x2::Dark).build())
}

/// On the client: asks for the code and keeps the key.
fn join(to: &RemoteAddress, args: &Args, context: &Context) -> anyhow::Result<()> {
    let path = match &args.out {
        Some(path) => path.clone(),
        None => key_path(&to.authority)?,
    };
    let code = match &to.code {
        Some(code) => code.clone(),
        None => ask(&to.authority)?,
    };
    let key = daemon::pair(&to.authority, &code, to.fingerprint)?;
    keep(&key, &path, context)?;
    if args.json {
        let told = serde_json::json!({ "name": key.name, "role": key.role, "file": path });
        return say_json(&told);
    }
    Ok(say(format!(
        "paired as {}, which may {}; the key is in {}\ntry: regoal status --to https://{}",
        printable(&key.name),
        key.role,
        path.display(),
        to.authority
    ))?)
}

fn ask(authority: &str) -> anyhow::Result<String> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "the code that `regoal pair` shows on {authority}: ")?;
    stderr.flush()?;
    let mut code = String::new();
    std::io::stdin().read_line(&mut code)?;
    if code.trim().is_empty() {
        bail!("expected a code: show one by `regoal pair --name NAME` on the robot");
    }
    Ok(code.trim().to_owned())
}

fn keep(key: &KeyFile, path: &Path, context: &Context) -> anyhow::Result<()> {
    let failed = || format!("keeping the key in {}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        context.storage.create_folder(folder).with_context(failed)?;
    }
    let bytes = serde_json::to_vec_pretty(key)?;
    context.storage.replace_private(path, &bytes).with_context(failed)
}
