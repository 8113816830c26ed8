//! L1: a process that records is killed at any moment, half of the time inside a sync.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{Clock as _, SystemClock, Time};
use regoal::episode::*;
use regoal::rng::Rng;
use regoal::storage::{Disk, Storage, StorageFile};
use serde_json::json;

use crate::bench::{number, report};
use crate::fixtures::*;

/// Where the recording process writes.
const VARIABLE: &str = "REGOAL_RECORD_INTO";
/// Steps of an episode that is not cut off, at 200 Hz.
const STEPS: u64 = 400;

/// What the recording process says, each with a number, on a pipe that outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Word {
    /// This episode begins: its file is on the disk.
    Begin,
    /// This many steps are handed over in a moment.
    Push,
    /// This many are written.
    Written,
    /// A sync begins.
    Sync,
    /// This many are synced.
    Synced,
    /// This episode is finished.
    Finished,
}

const WORDS: [Word; 6] =
    [Word::Begin, Word::Push, Word::Written, Word::Sync, Word::Synced, Word::Finished];
/// A word's byte and its number's.
const SAID: usize = 9;

fn say(word: Word, number: u64) {
    let mut said = [word as u8; SAID];
    said[1..].copy_from_slice(&number.to_le_bytes());
    io::stderr().write_all(&said).unwrap();
}

fn heard(said: &[u8; SAID]) -> (Word, u64) {
    (WORDS[usize::from(said[0])], u64::from_le_bytes(said[1..].try_into().unwrap()))
}

/// The disk, which tells when a sync begins.
struct Telling;

struct TellingFile(Box<dyn StorageFile>);

impl Read for TellingFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for TellingFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for TellingFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl StorageFile for TellingFile {
    fn sync(&mut self) -> io::Result<()> {
        say(Word::Sync, 0);
        self.0.sync()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

impl Storage for Telling {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(TellingFile(Disk.create(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Disk.open(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        Disk.lock(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(folder)
    }
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.create_folder(folder)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        say(Word::Sync, 0);
        Disk.sync_folder(folder)
    }
}

/// A step at 200 Hz that tells which episode it is of.
fn frame(episode: u64, tick: u64) -> Step {
    let time = Time(1_000_000_000 + tick * 5_000_000);
    Step { time, stamps: [time; 6].into_iter().collect(), ..step(tick + episode * STEPS) }
}

#[test]
#[ignore = "the process that the campaign kills"]
fn recorder() {
    let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return };
    let storage: Arc<dyn Storage> = Arc::new(Telling);
    let header = EpisodeHeader { rate_hz: 200.0, ..header() };
    loop {
        let config = WriterConfig::default();
        let mut writer = Writer::create(&storage, &folder, header.clone(), &config).unwrap();
        let episode = writer.number();
        say(Word::Begin, episode);
        let (mut bytes, mut synced) = (writer.bytes(), 0);
        for tick in 0..STEPS {
            say(Word::Push, tick + 1);
            writer.push(&frame(episode, tick)).unwrap();
            if writer.bytes() > bytes {
                bytes = writer.bytes();
                say(Word::Written, tick + 1);
            }
            if writer.synced_steps() > synced {
                synced = writer.synced_steps();
                say(Word::Synced, synced);
            }
        }
        writer.finish(&outcome()).unwrap();
        say(Word::Finished, episode);
    }
}

/// What was acknowledged of one episode.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    pushed: u64,
    written: u64,
    synced: u64,
    finished: bool,
}

/// Starts a recorder and kills it, at once when the n-th sync begins or after some time; gives what
/// it had told of its episodes.
fn record_and_kill(folder: &Path, rng: &mut Rng, in_sync: bool) -> BTreeMap<u64, Told> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::recorder", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let mut said = Vec::new();
    let mut syncs = if in_sync { rng.random_range(1..16) } else { 1 };
    while syncs > 0 {
        let mut word = [0; SAID];
        pipe.read_exact(&mut word).unwrap();
        syncs -= u64::from(heard(&word).0 == Word::Sync);
        said.extend(word);
    }
    let rest = std::thread::spawn(move || {
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).map(|_| rest)
    });
    let most = if in_sync { 1_000 } else { 60_000 };
    let pause = Duration::from_micros(rng.random_range(0..most));
    SystemClock.sleep_until(SystemClock.now() + pause);
    end(&mut child);
    said.extend(rest.join().unwrap().unwrap());
    told(&said)
}

/// SIGKILL.
fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn told(said: &[u8]) -> BTreeMap<u64, Told> {
    let mut episodes = BTreeMap::new();
    let mut told = &mut Told::default();
    for word in said.chunks_exact(SAID) {
        match heard(word.try_into().unwrap()) {
            (Word::Begin, episode) => told = episodes.entry(episode).or_default(),
            (Word::Push, steps) => told.pushed = steps,
            (Word::Written, steps) => told.written = steps,
            (Word::Synced, steps) => told.synced = steps,
            (Word::Finished, _) => told.finished = true,
            (Word::Sync, _) => {}
        }
    }
    episodes
}

/// Opens an episode after the kill and mends it; gives the steps that are lost, or what is wrong.
fn reopen(folder: &Path, number: u64, told: Told) -> Result<u64, String> {
    let path = folder.join(name(number));
    let say = |e: EpisodeError| e.to_string();
    let read = Episode::read(&Disk, &path).map_err(say)?;
    let count = read.steps.len() as u64;
    let frames: Vec<Step> = (0..count).map(|tick| frame(number, tick)).collect();
    if read.steps != frames {
        return Err(format!("{path:?}: steps that were not written, twice or out of order"));
    }
    if count < told.synced || count < told.written || count > told.pushed {
        return Err(format!("{path:?}: {count} steps of {told:?}"));
    }
    if told.finished && (read.damage.is_some() || count != STEPS) {
        return Err(format!("{path:?}: finished, but {:?}", read.damage));
    }
    if repair(&Disk, &path).map_err(say)?.is_some() {
        let mended = Episode::read(&Disk, &path).map_err(say)?;
        if mended != (Episode { damage: None, ..read }) {
            return Err(format!("{path:?}: mending changed it"));
        }
    }
    Ok(told.pushed - count)
}

/// The times to list a torn log, as whoever opens the folder does, and to mend it, for each 100 MB of
/// it (ms).
fn reopening_ms(folder: &Path) -> [f64; 2] {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let config = WriterConfig { sync: Duration::MAX, ..WriterConfig::default() };
    let mut writer = Writer::create(&storage, folder, header(), &config).unwrap();
    let path = writer.path().to_owned();
    for tick in 0.. {
        writer.push(&step(tick)).unwrap();
        if writer.bytes() > 10_000_000 {
            break;
        }
    }
    drop(writer);
    let start = SystemClock.now();
    let bytes = list(&Disk, folder).unwrap()[0].bytes;
    let listed = SystemClock.now();
    assert!(repair(&Disk, &path).unwrap().is_some());
    let mended = SystemClock.now();
    [listed.since(start), mended.since(listed)]
        .map(|took| (took.as_secs_f64() * 1e3 * 1e8 / bytes as f64).round())
}

#[test]
fn l1_no_kill_loses_what_was_synced_or_more_than_the_newest_50_ms() {
    let kills = number("REGOAL_KILLS", 200);
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = parent.path().join("killed");
    let (mut lost, mut failures, mut finished) = (Vec::new(), 0, 0);
    let mut all = BTreeMap::new();
    for kill in 0..kills {
        let episodes = record_and_kill(&folder, &mut rng(kill), kill % 2 == 0);
        finished += episodes.values().filter(|told| told.finished).count();
        for (number, told) in &episodes {
            match reopen(&folder, *number, *told) {
                Ok(steps) => lost.push(steps),
                Err(why) => {
                    eprintln!("kill {kill}: {why}");
                    failures += 1;
                }
            }
        }
        all.extend(episodes);
    }
    // All sessions went into one folder: every number has its file, and what was told stays true.
    let summaries = list(&Disk, &folder).unwrap();
    failures += (0..).zip(&summaries).filter(|(n, s)| !s.path.ends_with(name(*n))).count();
    failures += all.iter().filter(|(n, told)| reopen(&folder, **n, **told).is_err()).count();
    lost.retain(|steps| *steps > 0);
    lost.resize(kills as usize, 0);
    lost.sort_unstable();
    let p99_ms = 5 * lost[lost.len() * 99 / 100];
    failures += usize::from(p99_ms > 50);
    let [list_ms, mend_ms] = reopening_ms(&parent.path().join("long"));
    let figures = json!({
        "episodes": summaries.len(), "finished": finished,
        "lost_ms_p99": p99_ms, "lost_ms_most": 5 * lost[lost.len() - 1],
        "list_ms_per_100_mb": list_ms, "mend_ms_per_100_mb": mend_ms,
    });
    report("L1", seed(), kills, failures as u64, figures);
    assert_eq!(failures, 0);
}

fn name(number: u64) -> String {
    format!("episode-{number:06}.mcap")
}
