//! Policies on their way into a store, piece by piece: `uploads/<number>-<id>-<bytes>`, the oldest the
//! lowest. What a cut connection or a restart leaves there is what an upload goes on from.

use std::io::{self, SeekFrom};
use std::path::PathBuf;

use super::{Store, StoreError, failed};
use crate::episode::PolicyId;
use crate::policy::id_of;
use crate::policy::signature::MAX_POLICY;

/// Uploads that are kept; a further one takes the place of the oldest.
const KEPT: usize = 2;

/// What has come of a policy.
struct Upload {
    number: u64,
    policy: PolicyId,
    /// Its length when it is whole (bytes).
    total: u64,
    path: PathBuf,
}

impl Store {
    /// So many bytes of a policy are here: all of one that is in use.
    ///
    /// # Errors
    /// The disk failed.
    pub fn received(&self, policy: PolicyId) -> Result<u64, StoreError> {
        match self.upload(policy)? {
            Some(upload) => {
                self.storage.len(&upload.path).map_err(failed("read", upload.path.clone()))
            }
            None => Ok(self.in_use(policy)?.map_or(0, |file| file.len() as u64)),
        }
    }

    /// Takes the next piece of a policy of `total` bytes; so many are here then. Nothing is taken of a
    /// piece that does not begin where what is here ends, and what is here of another length is thrown
    /// away.
    ///
    /// # Errors
    /// Longer than a policy may be, no room, or the disk failed; or all of it is here and is another
    /// file, which is thrown away.
    pub fn receive(
        &self,
        policy: PolicyId,
        (offset, total): (u64, u64),
        piece: &[u8],
    ) -> Result<u64, StoreError> {
        let end = offset.saturating_add(piece.len() as u64);
        if total.max(end) > MAX_POLICY as u64 {
            return Err(StoreError::TooLong { found: total.max(end) });
        }
        // One that was begun with another length would never be whole.
        if self.upload(policy)?.is_some_and(|upload| upload.total != total) {
            self.discard(policy)?;
        }
        let before = self.received(policy)?;
        if offset != before || piece.is_empty() {
            return Ok(before);
        }
        let Upload { path, .. } = match self.upload(policy)? {
            Some(upload) => upload,
            None => self.begin(policy, total)?,
        };
        if end > total {
            return Ok(before);
        }
        let append = || {
            let mut file = self.storage.open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(piece)
        };
        append().map_err(failed("write", path))?;
        if end == total {
            self.uploaded(policy)?;
        }
        Ok(end)
    }

    /// A policy that has come whole, or that is in use.
    ///
    /// # Errors
    /// It has not, it is another file than its id says, which is thrown away, or the disk failed.
    pub fn uploaded(&self, policy: PolicyId) -> Result<Vec<u8>, StoreError> {
        let missing = StoreError::NotReceived { policy };
        let Some(upload) = self.upload(policy)? else { return self.in_use(policy)?.ok_or(missing) };
        let file = self.storage.read(&upload.path).map_err(failed("read", upload.path))?;
        if id_of(&file) == policy {
            return Ok(file);
        }
        if file.len() as u64 >= upload.total {
            self.discard(policy)?;
        }
        Err(missing)
    }

    /// Throws away what has come of a policy.
    ///
    /// # Errors
    /// The disk failed.
    pub fn discard(&self, policy: PolicyId) -> Result<(), StoreError> {
        let Some(Upload { path, .. }) = self.upload(policy)? else { return Ok(()) };
        self.storage.remove(&path).map_err(failed("remove", path))
    }

    /// The file of a policy that is in use, if it is whole.
    fn in_use(&self, policy: PolicyId) -> Result<Option<Vec<u8>>, StoreError> {
        let in_use = self.state()?.in_use().any(|id| id == policy);
        Ok(if in_use { self.read(policy).ok() } else { None })
    }

    /// A new upload, in the place of the oldest where there are too many.
    fn begin(&self, policy: PolicyId, total: u64) -> Result<Upload, StoreError> {
        let folder = self.folder.join("uploads");
        self.storage.create_folder(&folder).map_err(failed("create", folder.clone()))?;
        let found = self.uploads()?;
        let number = found.last().map_or(0, |upload| upload.number) + 1;
        let too_many = (found.len() + 1).saturating_sub(KEPT);
        for Upload { path, .. } in found.into_iter().take(too_many) {
            self.storage.remove(&path).map_err(failed("remove", path))?;
        }
        let free = self.storage.free(&folder).map_err(failed("look at", folder.clone()))?;
        // Its copy among the policies takes as much again.
        let needed = 2 * total;
        if needed > free {
            return Err(StoreError::NoRoom { needed, free });
        }
        let path = folder.join(format!("{number:08}-{policy}-{total}"));
        self.storage.create(&path).map_err(failed("create", path.clone()))?;
        Ok(Upload { number, policy, total, path })
    }

    fn upload(&self, policy: PolicyId) -> Result<Option<Upload>, StoreError> {
        Ok(self.uploads()?.into_iter().find(|upload| upload.policy == policy))
    }

    /// All of them, the oldest first.
    fn uploads(&self) -> Result<Vec<Upload>, StoreError> {
        let folder = self.folder.join("uploads");
        let found = match self.storage.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(failed("list", folder))?,
        };
        let read = |path: PathBuf| {
            let mut parts = path.file_name()?.to_str()?.split('-');
            let number = parts.next()?.parse().ok()?;
            let policy = PolicyId::from_hex(parts.next()?)?;
            let total = parts.next()?.parse().ok()?;
            Some(Upload { number, policy, total, path })
        };
        let mut found: Vec<_> = found.into_iter().filter_map(read).collect();
        found.sort_by_key(|upload| upload.number);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::{Memory, Storage as _};

    fn store(memory: &Memory) -> Store {
        let clock = Arc::new(ManualClock::default());
        Store::open(Arc::new(memory.clone()), clock, Path::new("store")).unwrap()
    }

    fn left(memory: &Memory) -> usize {
        memory.list(Path::new("store/uploads")).map_or(0, |found| found.len())
    }

    #[test]
    fn an_upload_goes_on_where_it_ended_whoever_asks_and_whatever_comes_twice() {
        let memory = Memory::default();
        let file: Vec<u8> = (0..1000_u32).flat_map(u32::to_le_bytes).collect();
        let (id, total) = (id_of(&file), file.len() as u64);
        let send = |from: usize, to: usize| {
            store(&memory).receive(id, (from as u64, total), &file[from..to]).unwrap()
        };
        assert_eq!(store(&memory).received(id).unwrap(), 0);
        assert_eq!(
            (send(0, 1500), send(0, 1500), send(3000, 4000), send(100, 200)),
            (1500, 1500, 1500, 1500)
        );
        assert!(matches!(store(&memory).uploaded(id), Err(StoreError::NotReceived { .. })));
        assert_eq!(store(&memory).received(id).unwrap(), 1500, "what has come stays");
        assert_eq!(send(1500, 4000), 4000);
        assert_eq!(store(&memory).uploaded(id).unwrap(), file);
        assert_eq!((send(3000, 4000), send(4000, 4000)), (4000, 4000));
        store(&memory).discard(id).unwrap();
        assert_eq!(left(&memory), 0);
    }

    #[test]
    fn what_is_not_what_its_id_says_is_thrown_away() {
        let memory = Memory::default();
        let store = store(&memory);
        let id = id_of(b"abcd");
        assert_eq!(store.receive(id, (0, 4), b"ab").unwrap(), 2);
        assert_eq!(
            store.receive(id, (2, 4), b"ce").err().unwrap().to_string(),
            StoreError::NotReceived { policy: id }.to_string()
        );
        assert_eq!((store.received(id).unwrap(), left(&memory)), (0, 0));
        // The same when it rotted after it had come.
        store.receive(id, (0, 4), b"abcd").unwrap();
        let path = memory.list(Path::new("store/uploads")).unwrap().remove(0);
        memory.replace(&path, b"abcx").unwrap();
        assert!(matches!(store.uploaded(id), Err(StoreError::NotReceived { .. })));
        assert_eq!((store.received(id).unwrap(), left(&memory)), (0, 0));
    }

    #[test]
    fn never_more_than_two_are_kept_and_none_longer_than_a_policy() {
        let memory = Memory::default();
        let store = store(&memory);
        let ids: Vec<PolicyId> = (0..12_u8).map(|i| id_of(&[i, i])).collect();
        for (i, id) in (0..).zip(&ids) {
            assert_eq!(store.receive(*id, (0, 2), &[i]).unwrap(), 1);
            assert!(left(&memory) <= KEPT);
        }
        let kept = ids.iter().filter(|id| store.received(**id).unwrap() == 1);
        assert_eq!(kept.collect::<Vec<_>>(), [&ids[10], &ids[11]], "the oldest goes");
        let most = MAX_POLICY as u64;
        for (offset, total) in [(0, most + 1), (most, most), (u64::MAX, 1), (0, u64::MAX)] {
            let refused = store.receive(id_of(b"long"), (offset, total), b"x");
            assert!(matches!(refused, Err(StoreError::TooLong { .. })), "{offset} {total}");
        }
        // More than was announced is not taken.
        assert_eq!(store.receive(ids[11], (1, 2), b"xyz").unwrap(), 1);
    }

    #[test]
    fn an_upload_that_began_with_another_length_begins_anew() {
        let store = store(&Memory::default());
        let id = id_of(b"abcd");
        assert_eq!(store.receive(id, (0, 2), b"a").unwrap(), 1);
        assert_eq!(store.receive(id, (1, 4), b"bcd").unwrap(), 0);
        assert_eq!(store.receive(id, (0, 4), b"abcd").unwrap(), 4);
        assert_eq!(store.uploaded(id).unwrap(), b"abcd");
    }
}
