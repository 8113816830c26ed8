//! Files as a value that is passed in, so that a crash, a full disk and a slow disk can be tested.

mod memory;

pub use memory::{Failure, Memory};

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A file opened through a [`Storage`].
pub trait StorageFile: Read + Write + Seek + Send {
    /// Returns once all that was written is on the disk (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The files that a program may touch.
pub trait Storage: Send + Sync {
    /// Creates a file for writing and reading; an error if it exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Reads at most `len` bytes from `offset` on; fewer at the file's end.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(self.read(path)?.into_iter().skip(from).take(len).collect())
    }
    /// The length of a file in bytes.
    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.read(path)?.len() as u64)
    }
    /// Takes the lock that `path` stands for until the guard is dropped or the process ends;
    /// [`io::ErrorKind::WouldBlock`] when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>>;
    /// Renames atomically; `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The entries of a folder, sorted.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a folder and those above it.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that new files in a folder may take; [`u64::MAX`] where no limit is known.
    fn free(&self, _folder: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// Returns once the folder's entries are on the disk (`fsync` of the folder).
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// As [`create`](Self::create); only the owner may read and write it, where there are owners.
    fn create_private(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.create(path)
    }

    /// Replaces a file so that after a crash either the old or the new content is there, whole:
    /// write beside it, sync, rename, sync the folder.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        replace(self, path, content, Self::create)
    }

    /// The same for a file that only the owner may read and write.
    fn replace_private(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        replace(self, path, content, Self::create_private)
    }
}

fn replace<S: Storage + ?Sized>(
    storage: &S,
    path: &Path,
    content: &[u8],
    create: impl Fn(&S, &Path) -> io::Result<Box<dyn StorageFile>>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match storage.remove(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = create(storage, &beside)?;
    file.write_all(content)?;
    file.sync()?;
    drop(file);
    storage.rename(&beside, path)?;
    storage.sync_folder(folder)
}

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

struct DiskFile(std::fs::File);

impl Read for DiskFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for DiskFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for DiskFile {
    fn seek(&mut self, pos: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(pos)
    }
}

impl StorageFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// A file whose lock is held. Closing it would not do: a process that is just being started has
/// a copy of every descriptor until it executes its program, and the lock with it.
struct Locked(std::fs::File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[allow(clippy::disallowed_methods)]
impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }
    fn create_private(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        file.seek(io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(Locked(file)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut entries = std::fs::read_dir(folder)?
            .map(|e| e.map(|e| e.path()))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        Ok(entries)
    }
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)
    }
    fn free(&self, folder: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every storage must do; run on the disk and in memory.
    fn conforms(storage: &dyn Storage, folder: &Path) {
        let (a, b) = (folder.join("a"), folder.join("b"));
        storage.create_folder(folder).unwrap();
        let mut file = storage.create(&a).unwrap();
        file.write_all(b"0123456789").unwrap();
        file.sync().unwrap();
        file.truncate(8).unwrap();
        drop(file);
        storage.sync_folder(folder).unwrap();
        assert_eq!(storage.create(&a).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (storage.read(&a).unwrap(), storage.len(&a).unwrap()),
            (b"01234567".to_vec(), 8)
        );
        assert_eq!(storage.read_at(&a, 6, 10).unwrap(), b"67");
        assert_eq!(storage.read_at(&a, 9, 10).unwrap(), b"");
        let mut file = storage.open(&a).unwrap();
        file.seek(io::SeekFrom::Start(2)).unwrap();
        file.write_all(b"xy").unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), storage.read(&a).unwrap()), ("4567", b"01xy4567".to_vec()));
        storage.rename(&a, &b).unwrap();
        assert_eq!(storage.read(&a).unwrap_err().kind(), io::ErrorKind::NotFound);
        storage.replace(&b, b"new").unwrap();
        assert_eq!(storage.read(&b).unwrap(), b"new");
        assert_eq!(storage.list(folder).unwrap(), std::slice::from_ref(&b));
        storage.remove(&b).unwrap();
        assert_eq!(storage.open(&b).err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn disk_and_memory_do_what_every_storage_must() {
        let folder = tempfile::tempdir().unwrap();
        conforms(&Disk, &folder.path().join("x/y"));
        conforms(&Memory::default(), Path::new("x/y"));
    }

    #[test]
    fn a_lock_has_one_holder_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        for (storage, path) in [
            (&Disk as &dyn Storage, folder.path().join("lock")),
            (&Memory::default(), PathBuf::from("lock")),
        ] {
            let held = storage.lock(&path).unwrap();
            assert_eq!(storage.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
            drop(held);
            storage.lock(&path).unwrap();
        }
    }

    #[test]
    fn a_dropped_lock_is_free_while_other_processes_are_being_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
            let free = (0..20_000).all(|_| Disk.lock(&path).is_ok());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(free);
        });
    }
}
