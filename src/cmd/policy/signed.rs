//! Signed policy files: the file, its signatures beside it, keys and passwords.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cmd::Context;
use crate::policy::signature::{MAX_POLICY, MAX_SIGNATURES, Signer, read_at_most};
use crate::policy::{Claims, SignatureError, Trust};

/// Where the signatures of a file stand: beside it, as minisign puts them.
pub(super) fn beside(policy: &Path) -> PathBuf {
    let mut path = policy.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}

/// The signatures beside a file, if there are any.
pub(super) fn signatures(policy: &Path, context: &Context) -> Result<Option<String>> {
    let path = beside(policy);
    match read_at_most(context.storage.as_ref(), &path, MAX_SIGNATURES) {
        Ok(bytes) => {
            let text = bytes.and_then(|bytes| {
                let bad = |_| SignatureError::BadFormat("expected UTF-8 text".into());
                String::from_utf8(bytes).map_err(bad)
            });
            Ok(Some(text.with_context(|| format!("{}", path.display()))?))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

/// Reads a policy file and, where keys are trusted, checks its signatures; of a file that fails
/// nothing has been parsed.
pub(super) fn admit(
    policy: &Path,
    trust: &Trust,
    context: &Context,
) -> Result<(Vec<u8>, Option<Claims>)> {
    let named = || format!("{}", policy.display());
    let file = read_at_most(context.storage.as_ref(), policy, MAX_POLICY)
        .with_context(|| format!("reading {}", named()))?
        .with_context(named)?;
    let signatures = if trust.is_required() { signatures(policy, context)? } else { None };
    let claims = trust.admit(&file, signatures.as_deref()).with_context(named)?;
    Ok((file, claims))
}

/// A secret key from its file, with its password where it needs one.
pub(super) fn signer(key: &Path, password: Option<&Path>, context: &Context) -> Result<Signer> {
    let named = || format!("reading {}", key.display());
    let text = context.storage.read(key).with_context(named)?;
    let text = String::from_utf8(text).with_context(named)?;
    let password = match Signer::needs_password(&text)
        .with_context(|| format!("{}", key.display()))?
    {
        true => {
            Some(self::password(password, &format!("password of {}: ", key.display()), context)?)
        }
        false => None,
    };
    Signer::read(&text, password).with_context(|| format!("{}", key.display()))
}

/// A password: the first line of a file, or what is typed into the terminal.
pub(super) fn password(file: Option<&Path>, question: &str, context: &Context) -> Result<String> {
    let Some(path) = file else { return ask(question) };
    let named = || format!("reading {}", path.display());
    let text = String::from_utf8(context.storage.read(path).with_context(named)?);
    Ok(text.with_context(named)?.lines().next().unwrap_or_default().to_owned())
}

/// Asks on the terminal, which does not show what is typed meanwhile.
fn ask(question: &str) -> Result<String> {
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal =
        terminal.context("expected a terminal to ask for a password, or --password-file")?;
    write!(terminal, "{question}")?;
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Now, &hidden)?;
    let mut line = String::new();
    let typed = BufReader::new(&terminal).read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Now, &shown)?;
    writeln!(terminal)?;
    typed?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
