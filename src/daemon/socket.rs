//! The Unix socket: where it is, who may use it, and how it comes to be there.
//!
//! Nobody else can connect at any moment: the socket is bound inside a folder that only its owner
//! may enter, gets mode 0600 there, and is then renamed to its place. The rename also replaces the
//! socket of a daemon that died; a living one is known by the lock file it holds beside its socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixSocket};

use super::server::ServerError;
use crate::storage::Storage;

/// Where a robot's daemon listens unless it is told otherwise: `$XDG_RUNTIME_DIR/regoal/NAME.sock`,
/// without that variable `/tmp/regoal-UID/NAME.sock`.
pub fn default_socket(robot: &str) -> PathBuf {
    folder().join(format!("{}.sock", file_name(robot)))
}

/// Where a robot's certificate and the keys of its clients are kept unless told otherwise: in the
/// service's own folder (`$STATE_DIRECTORY`), else in the user's.
pub fn default_access(robot: &str) -> PathBuf {
    let given = std::env::var_os("STATE_DIRECTORY");
    let first = given.as_ref().and_then(|all| std::env::split_paths(all).next());
    let base = first
        .filter(|path| path.is_absolute())
        .or_else(|| Some(dirs::state_dir()?.join("regoal")))
        .unwrap_or_else(folder);
    base.join("access").join(file_name(robot))
}

/// The sockets in the default folder on which a daemon listens.
pub fn find_sockets(storage: &dyn Storage) -> Vec<PathBuf> {
    let mut found = storage.list(&folder()).unwrap_or_default();
    found.retain(|path| {
        path.extension().is_some_and(|e| e == "sock") && UnixStream::connect(path).is_ok()
    });
    found
}

fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|v| Path::new(v).is_absolute()) {
        Some(runtime) => Path::new(&runtime).join("regoal"),
        None => PathBuf::from(format!("/tmp/regoal-{}", geteuid().as_raw())),
    }
}

/// A robot's name as the name of one file: no separator, nothing hidden, nothing for a terminal.
fn file_name(robot: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = robot.chars().take(64).map(plain).collect();
    if name.is_empty() || name.starts_with('.') { format!("robot{name}") } else { name }
}

/// Whether a process of user `other` may talk with one of user `own`: the same user or root.
pub(super) fn trusted(other: u32, own: u32) -> bool {
    other == own || other == 0
}

/// A socket that this process listens on, with the lock that says so.
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    pub(super) lock: Box<dyn Send>,
}

/// Connections that wait to be accepted; few, so that nobody waits long behind a flood.
const BACKLOG: u32 = 64;

/// Listens on `socket`, with mode 0600 from the first moment; called inside the server's runtime.
pub(super) fn bind(socket: &Path, storage: &dyn Storage) -> Result<Bound, ServerError> {
    let failed =
        |source: io::Error| ServerError::Bind { place: socket.display().to_string(), source };
    let folder = socket.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(folder)?;
    let lock = storage.lock(&socket.with_extension("lock")).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => ServerError::Served { socket: socket.into() },
        _ => failed(e),
    })?;
    match rustix::fs::lstat(socket) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => {
            return Err(ServerError::NotASocket { socket: socket.into() });
        }
        _ => {}
    }
    // Who holds the socket's lock owns this name too: what is there is a dead daemon's.
    let private = socket.with_extension("binding");
    let inside = private.join("s");
    let clear = || {
        let _ = std::fs::remove_file(&inside);
        let _ = std::fs::remove_dir(&private);
    };
    clear();
    rustix::fs::mkdir(&private, Mode::RWXU).map_err(|e| failed(e.into()))?;
    let listener = listen(&inside, socket, storage);
    clear();
    Ok(Bound { listener: listener.map_err(failed)?, lock })
}

fn listen(private: &Path, socket: &Path, storage: &dyn Storage) -> io::Result<UnixListener> {
    let unbound = UnixSocket::new_stream()?;
    unbound.bind(private)?;
    rustix::fs::chmod(private, Mode::RUSR | Mode::WUSR)?;
    let listener = unbound.listen(BACKLOG)?;
    storage.rename(private, socket)?;
    Ok(listener)
}

/// Makes the socket's folder if it is missing; one in a place open to all must be the user's own.
fn make_folder(folder: &Path) -> Result<(), ServerError> {
    let failed = |e: rustix::io::Errno| ServerError::Bind {
        place: folder.display().to_string(),
        source: e.into(),
    };
    match rustix::fs::mkdir(folder, Mode::RWXU) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(failed(e)),
    }
    let own = geteuid().as_raw();
    let stat = rustix::fs::stat(folder).map_err(failed)?;
    // The folder may be a link, which then must not be another user's.
    let link = rustix::fs::lstat(folder).map_err(failed)?;
    if trusted(link.st_uid, own) && safe_folder(stat.st_uid, stat.st_mode, own) {
        return Ok(());
    }
    let owner = if trusted(stat.st_uid, own) { link.st_uid } else { stat.st_uid };
    Err(ServerError::Folder { folder: folder.into(), owner, mode: stat.st_mode & 0o7777 })
}

/// Whether nobody but `own` and root can rename what lies in a folder.
fn safe_folder(owner: u32, mode: u32, own: u32) -> bool {
    trusted(owner, own) && (mode & 0o022 == 0 || mode & 0o1000 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_user_and_root_are_trusted_and_nobody_else() {
        assert!(trusted(1000, 1000) && trusted(0, 1000) && trusted(0, 0));
        assert!(!trusted(1001, 1000) && !trusted(1000, 0));
    }

    #[test]
    fn a_folder_that_others_may_change_is_refused() {
        assert!(safe_folder(1000, 0o40700, 1000) && safe_folder(0, 0o40755, 1000));
        assert!(safe_folder(0, 0o41777, 1000), "a sticky one keeps others' hands off");
        assert!(!safe_folder(1001, 0o40700, 1000) && !safe_folder(1000, 0o40770, 1000));
    }

    #[test]
    fn no_robot_name_leads_out_of_the_folder() {
        for (name, expected) in [
            ("so101", "so101"),
            ("../../etc/x", "robot..-..-etc-x"),
            ("", "robot"),
            ("..", "robot.."),
            ("a/b\0\x1b[2J\u{202e}", "a-b---2J-"),
        ] {
            assert_eq!(file_name(name), expected, "{name:?}");
            assert_eq!(default_socket(name).parent(), Some(folder().as_path()));
        }
    }
}
