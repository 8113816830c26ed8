//! Logged episodes sorted by what learning may do with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};

use crate::episode::{Episode, EpisodeHeader, Source, Split, paths};
use crate::goal::{Mix, ReplayBuffer, Trajectory};
use crate::learn::checkpoint::Checkpoint;
use crate::learn::{LearnError, dataset};
use crate::policy::PolicySpec;
use crate::rng::{self, Stream};
use crate::storage::Storage;

/// Episodes sorted by what learning may do with them, each of them once: a copy of another, down to
/// its numbers, is left out.
#[derive(Debug, Clone, Default)]
pub struct Experience {
    demonstrations: Pieces,
    attempts: Pieces,
    validation: Pieces,
    /// Attempts in which a person took over: what they showed there stands among the demonstrations.
    corrected: BTreeSet<u64>,
    seen: BTreeSet<u64>,
    copies: usize,
}

/// How many episodes there are of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub demonstrations: usize,
    pub attempts: usize,
    pub corrections: usize,
    pub validation: usize,
    pub copies: usize,
}

/// Pieces of episodes, and for each the fingerprint of its episode.
#[derive(Debug, Clone, Default)]
struct Pieces {
    buffer: ReplayBuffer,
    episodes: Vec<u64>,
}

impl Pieces {
    fn push<S: AsRef<[f32]>>(
        &mut self,
        piece: &Trajectory<S>,
        episode: u64,
    ) -> Result<(), LearnError> {
        self.buffer.push(piece)?;
        self.episodes.push(episode);
        Ok(())
    }

    fn distinct(&self) -> BTreeSet<u64> {
        self.episodes.iter().copied().collect()
    }

    /// The same without the episodes in `away`, which are added to `to`.
    fn part(self, away: &BTreeSet<u64>, to: &mut Self) -> Result<Self, LearnError> {
        let mut stay = Self::default();
        for (piece, episode) in self.buffer.trajectories().zip(&self.episodes) {
            let place = if away.contains(episode) { &mut *to } else { &mut stay };
            place.push(&piece, *episode)?;
        }
        Ok(stay)
    }

    fn save(&self, kept: &mut Checkpoint, name: &str) {
        kept.put_replay(name, &self.buffer);
        let sizes = self.buffer.trajectories().next().map_or([0; 3], |piece| piece.sizes());
        for (part, size) in sizes.into_iter().enumerate() {
            kept.put_count(&format!("{name}.size{part}"), size as u64);
        }
        for (place, episode) in self.episodes.iter().enumerate() {
            kept.put_count(&format!("{name}.episode{place:08}"), *episode);
        }
    }

    fn restore(kept: &Checkpoint, name: &str) -> Result<Self, LearnError> {
        let size = |part: usize| kept.count(&format!("{name}.size{part}"));
        let sizes = [size(0)? as usize, size(1)? as usize, size(2)? as usize];
        let buffer = kept.replay(name, sizes)?;
        let episode = |place| kept.count(&format!("{name}.episode{place:08}"));
        let episodes = (0..buffer.trajectories().len()).map(episode).collect::<Result<_, _>>()?;
        Ok(Self { buffer, episodes })
    }
}

/// What learning does with an episode; one of evaluation is left out.
#[derive(Debug, Clone, Copy)]
enum Use {
    Demonstration,
    Attempt,
    Validation,
    /// What a person showed in an attempt.
    Correction,
}

impl Use {
    fn of(header: &EpisodeHeader) -> Option<Self> {
        match (header.source, header.split) {
            (Source::Demonstration, Split::Training) => Some(Self::Demonstration),
            (Source::Attempt | Source::Run, Split::Training) => Some(Self::Attempt),
            (Source::Attempt | Source::Run, Split::Validation) => Some(Self::Validation),
            (Source::Demonstration, Split::Validation) | (Source::Evaluation, _) => None,
        }
    }
}

impl Experience {
    /// Sorts logged episodes: demonstrations, own attempts (failures included), and those kept aside.
    /// Evaluation episodes are left out.
    ///
    /// # Errors
    /// An episode of another robot.
    pub fn of(episodes: &[Episode], spec: &PolicySpec) -> Result<Self, LearnError> {
        let mut all = Self::default();
        for episode in episodes {
            all.add(usable(episode, spec), episodes.len())?;
        }
        Ok(all)
    }

    /// The same of all episodes in some folders, of which only the numbers to learn from stay in
    /// memory.
    ///
    /// # Errors
    /// An episode of another robot, or a folder that cannot be read.
    pub fn load(
        storage: &dyn Storage,
        folders: &[PathBuf],
        spec: &PolicySpec,
    ) -> Result<Self, LearnError> {
        let mut all = Self::default();
        let mut files = 0;
        for folder in folders {
            files += paths(storage, folder)?.len();
        }
        for folder in folders {
            let of = |episode: Episode| usable(&episode, spec);
            dataset::read_each(storage, folder, of, |pieces| all.add(pieces, files))?;
        }
        Ok(all)
    }

    /// Adds one of about so many episodes.
    fn add(&mut self, usable: Usable, episodes: usize) -> Result<(), LearnError> {
        let usable = usable?;
        let Some(fingerprint) = fingerprint(&usable) else { return Ok(()) };
        if !self.seen.insert(fingerprint) {
            self.copies += 1;
            return Ok(());
        }
        for (kind, pieces) in &usable {
            let to = match kind {
                Use::Demonstration | Use::Correction => &mut self.demonstrations,
                Use::Attempt => &mut self.attempts,
                Use::Validation => &mut self.validation,
            };
            let first = to.episodes.is_empty();
            pieces.iter().try_for_each(|piece| to.push(piece, fingerprint))?;
            if first {
                to.buffer.reserve(episodes * pieces.len());
            }
            if matches!(kind, Use::Correction) && !pieces.is_empty() {
                self.corrected.insert(fingerprint);
            }
        }
        Ok(())
    }

    /// Keeps a share of the episodes aside, to judge by, of the robot's own where it has any to spare:
    /// which ones, a generator of this seed says of each episode by itself, so that an episode that was
    /// kept aside once always is. Nothing changes where the recording has kept some aside, or there are
    /// fewer than two.
    ///
    /// # Errors
    /// None that a buffer with episodes of one robot could have.
    pub fn hold_out(mut self, share: f64, seed: u64) -> Result<Self, LearnError> {
        if !self.validation.episodes.is_empty() || share <= 0.0 {
            return Ok(self);
        }
        let draw = |episode: u64| rng::item(seed, Stream::Validation, episode).random::<f64>();
        // The base may have been made of the demonstrations: it would be judged by what it has seen.
        let all = match self.attempts.distinct() {
            attempts if attempts.len() > 1 => attempts,
            attempts => &self.demonstrations.distinct() | &attempts,
        };
        let mut drawn: Vec<(f64, u64)> = all.into_iter().map(|e| (draw(e), e)).collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
        let most = drawn.len().saturating_sub(1);
        let count = drawn.iter().filter(|(draw, _)| *draw < share).count().clamp(1.min(most), most);
        let away: BTreeSet<u64> = drawn.iter().take(count).map(|(_, episode)| *episode).collect();
        // What a person showed in an attempt that is kept aside is not learned from either.
        let shown = &away & &self.corrected;
        self.demonstrations = self.demonstrations.part(&shown, &mut Pieces::default())?;
        self.demonstrations = self.demonstrations.part(&away, &mut self.validation)?;
        self.attempts = self.attempts.part(&away, &mut self.validation)?;
        self.corrected = &self.corrected - &away;
        Ok(self)
    }

    /// Demonstrations and attempts to train on.
    pub fn training(&self) -> Mix<'_> {
        Mix { demonstrations: &self.demonstrations.buffer, attempts: &self.attempts.buffer }
    }

    /// Episodes kept aside.
    pub fn validation(&self) -> &ReplayBuffer {
        &self.validation.buffer
    }

    /// The same without the robot's own episodes: the control of the experiment.
    #[must_use]
    pub fn demonstrations_only(mut self) -> Self {
        self.attempts = Pieces::default();
        self
    }

    pub(super) fn counts(&self) -> Counts {
        let shown = self.demonstrations.distinct();
        Counts {
            demonstrations: (&shown - &self.corrected).len(),
            attempts: self.attempts.distinct().len(),
            corrections: self.corrected.len(),
            validation: self.validation.distinct().len(),
            copies: self.copies,
        }
    }

    /// Tells two experiences apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let all = [&self.demonstrations, &self.attempts, &self.validation];
        let mut hash = Sha256::new();
        for pieces in all {
            hash.update(pieces.episodes.len().to_le_bytes());
            pieces.episodes.iter().for_each(|episode| hash.update(episode.to_le_bytes()));
        }
        first_word(hash)
    }

    /// All of it, to take a training up again when the folders hold other episodes.
    pub fn save(&self) -> Checkpoint {
        let mut kept = Checkpoint::default();
        self.demonstrations.save(&mut kept, "demonstrations");
        self.attempts.save(&mut kept, "attempts");
        self.validation.save(&mut kept, "validation");
        for (place, episode) in self.corrected.iter().enumerate() {
            kept.put_count(&format!("corrected{place:08}"), *episode);
        }
        kept.put_count("copies", self.copies as u64);
        kept
    }

    /// What [`save`](Self::save) gave.
    ///
    /// # Errors
    /// It is something else.
    pub fn restore(kept: &Checkpoint) -> Result<Self, LearnError> {
        let [demonstrations, attempts, validation] =
            ["demonstrations", "attempts", "validation"].map(|name| Pieces::restore(kept, name));
        let counts: BTreeMap<&str, u64> = kept.counts().collect();
        let corrected = counts.iter().filter(|(name, _)| name.starts_with("corrected"));
        Ok(Self {
            demonstrations: demonstrations?,
            attempts: attempts?,
            validation: validation?,
            corrected: corrected.map(|(_, episode)| *episode).collect(),
            seen: BTreeSet::new(),
            copies: kept.count("copies")? as usize,
        })
    }
}

/// An episode's pieces and what they are for; nothing where it is left out.
type Usable = Result<Vec<(Use, Vec<Trajectory>)>, LearnError>;

fn usable(episode: &Episode, spec: &PolicySpec) -> Usable {
    let Some(kind) = Use::of(&episode.header) else { return Ok(Vec::new()) };
    let mut usable = vec![(kind, dataset::trajectories(episode, spec)?)];
    if matches!(kind, Use::Attempt) {
        usable.push((Use::Correction, dataset::corrections(episode, spec)?));
    }
    Ok(usable)
}

/// What tells an episode's numbers from another's; nothing of one that teaches nothing.
fn fingerprint(usable: &[(Use, Vec<Trajectory>)]) -> Option<u64> {
    let mut hash = Sha256::new();
    let (_, pieces) = usable.first().filter(|(_, pieces)| !pieces.is_empty())?;
    for piece in pieces {
        hash.update(piece.last().to_le_bytes());
        let numbers = piece.view().rows().iter().chain(piece.desired_goal());
        numbers.for_each(|x| hash.update(x.to_le_bytes()));
    }
    Some(first_word(hash))
}

fn first_word(hash: Sha256) -> u64 {
    hash.finalize().iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}
