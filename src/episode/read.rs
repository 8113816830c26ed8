//! The reader: returns only what a CRC proves, and says what else there was.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use prost::Message as _;

use super::encode::{EPISODE, INPUTS, OUTCOME, STEP};
use super::header::{EpisodeHeader, Outcome};
use super::proto::{
    HeaderMessage, InputsMessage, OutcomeMessage, Place, PlaceMessage, Placed as _, ReadStep,
    StepMessage,
};
use super::scan::{
    self, Chunk, OP_CHANNEL, OP_MESSAGE, Scan, Seal, take, take_record, take_u16, take_u32,
};
use super::schema::TOPICS;
use super::{EpisodeError, Inputs, Step};
use crate::joints::GoalVec;
use crate::storage::Storage;

/// One episode, as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// What was known before the first step.
    pub header: EpisodeHeader,
    /// The steps, in order; one that follows missing ones carries
    /// [`Events::LOG_GAP`](super::Events::LOG_GAP).
    pub steps: Vec<Step>,
    /// What steps were given that differs from the step before, in order.
    pub inputs: Vec<Inputs>,
    /// How it ended; `None` when the writer did not come that far.
    pub outcome: Option<Outcome>,
    /// What is wrong with the file; `None` when every byte is proven.
    pub damage: Option<Damage>,
}

/// What is wrong with an episode's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Whether the file's end vouches for it.
    pub seal: Seal,
    /// Bytes that nothing vouches for; none of them was used.
    pub lost_bytes: u64,
    /// Steps that were written and are not there.
    pub missing_steps: u64,
    /// Steps found twice, of another episode, or with a tick that does not grow, and left out.
    pub misplaced_steps: u64,
    /// Proven messages that this version cannot decode.
    pub unknown_messages: u64,
}

impl Damage {
    /// A file with this end and nothing else wrong.
    pub(super) const fn none_but(seal: Seal) -> Self {
        Self { seal, lost_bytes: 0, missing_steps: 0, misplaced_steps: 0, unknown_messages: 0 }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.seal {
            Seal::Whole => "sealed",
            Seal::Missing => "no end",
            Seal::Broken => "bytes changed",
        })?;
        for (count, what) in [
            (self.lost_bytes, "bytes lost"),
            (self.missing_steps, "steps missing"),
            (self.misplaced_steps, "steps misplaced"),
            (self.unknown_messages, "messages unknown"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Episode {
    /// Reads a file, however it is damaged. Whole chunks are found wherever they are; an error
    /// means that no header is left.
    pub fn read(storage: &dyn Storage, path: &Path) -> Result<Self, EpisodeError> {
        let bytes = read_bytes(storage, path)?;
        Self::decode(&bytes).ok_or_else(|| no_episode(path, &bytes))
    }

    /// What the episode was for, in its goal space: the goal that was wished for last; where none ever
    /// was, in hindsight, the one achieved at the end. Empty when neither is known.
    pub fn goal(&self) -> GoalVec {
        let mut back = self.steps.iter().rev();
        let wished = back.clone().map(|step| &step.desired_goal).find(|goal| !goal.is_empty());
        let achieved = || back.next().map(|step| &step.achieved_goal);
        wished.or_else(achieved).cloned().unwrap_or_default()
    }

    /// Each step with its inputs, where they differ from those of the step before.
    pub fn with_inputs(&self) -> impl Iterator<Item = (&Step, Option<&Inputs>)> {
        let mut inputs = self.inputs.iter().peekable();
        self.steps.iter().map(move |step| {
            while inputs.next_if(|inputs| inputs.tick < step.tick).is_some() {}
            (step, inputs.next_if(|inputs| inputs.tick == step.tick))
        })
    }

    /// Reads a file's bytes; `None` when no header is left.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let Proven { header, steps, inputs, outcome, damage } = proven::<StepMessage>(bytes)?;
        Some(Self { header, steps, inputs, outcome, damage })
    }
}

/// What is proven of an episode.
pub(super) struct Proven<S> {
    pub(super) header: EpisodeHeader,
    pub(super) steps: Vec<S>,
    pub(super) inputs: Vec<Inputs>,
    pub(super) outcome: Option<Outcome>,
    pub(super) damage: Option<Damage>,
}

/// Reads a file as [`Episode::read`] does, but of each step only when it was.
pub(super) fn glance(storage: &dyn Storage, path: &Path) -> Result<Proven<Place>, EpisodeError> {
    let bytes = read_bytes(storage, path)?;
    proven::<PlaceMessage>(&bytes).ok_or_else(|| no_episode(path, &bytes))
}

fn proven<M: ReadStep>(bytes: &[u8]) -> Option<Proven<M::Step>> {
    let scan = scan::scan(bytes);
    let mut contents = Contents::<M>::default();
    scan.chunks.iter().for_each(|chunk| contents.chunk(*chunk));
    contents.proven(&scan)
}

/// The longest file that is read, and so held in memory: 1 GiB. A [`Writer`](super::Writer) ends
/// far below it.
pub(super) const MAX_FILE: u64 = 1 << 30;

/// Reads a file that is not too long to be an episode.
pub(super) fn read_bytes(storage: &dyn Storage, path: &Path) -> Result<Vec<u8>, EpisodeError> {
    let reading = |e| EpisodeError::io("read", path, e);
    let bytes = storage.len(path).map_err(reading)?;
    if bytes > MAX_FILE {
        return Err(EpisodeError::TooLarge { path: path.into(), bytes, limit: MAX_FILE });
    }
    storage.read(path).map_err(reading)
}

/// Says that a file's bytes hold no header.
pub(super) fn no_episode(path: &Path, bytes: &[u8]) -> EpisodeError {
    let found =
        format!("{} bytes that are torn, damaged, compressed or another program's", bytes.len());
    EpisodeError::NoEpisode { path: path.into(), found }
}

/// What the proven chunks hold.
#[derive(Default)]
pub(super) struct Contents<M: ReadStep> {
    topics: BTreeMap<u16, usize>,
    pub(super) header: Option<EpisodeHeader>,
    pub(super) outcome: Option<OutcomeMessage>,
    /// Sequence number, episode number, step.
    steps: Vec<(u32, u64, M::Step)>,
    /// Episode number, inputs.
    inputs: Vec<(u64, Inputs)>,
    unknown: u64,
    /// The message that steps are decoded into, one after the other.
    step: M,
}

impl<M: ReadStep> Contents<M> {
    pub(super) fn chunk(&mut self, chunk: Chunk<'_>) {
        let mut records = chunk.records;
        while let Some((opcode, body)) = take_record(&mut records) {
            let known = match opcode {
                OP_CHANNEL => self.channel(body),
                OP_MESSAGE => self.message(body),
                _ => Some(()),
            };
            self.unknown += u64::from(known.is_none());
        }
        self.unknown += u64::from(!records.is_empty());
    }

    fn channel(&mut self, mut body: &[u8]) -> Option<()> {
        let id = take_u16(&mut body)?;
        take_u16(&mut body)?;
        let len = take_u32(&mut body)? as usize;
        let topic = body.get(..len)?;
        let known = TOPICS.iter().position(|known| known.as_bytes() == topic);
        // A topic of somebody else's is none of ours, whatever its id.
        self.topics.insert(id, known.map_or(usize::MAX, |i| i + 1));
        Some(())
    }

    fn message(&mut self, mut body: &[u8]) -> Option<()> {
        let id = take_u16(&mut body)?;
        let sequence = take_u32(&mut body)?;
        take::<16>(&mut body)?;
        // Without the chunk that names the channels, they are those that our encoder gives out.
        match self.topics.get(&id).copied().unwrap_or(usize::from(id)) as u16 {
            STEP => {
                self.step.clear();
                self.step.merge(body).ok()?;
                self.steps.push((sequence, self.step.episode(), self.step.step()?));
            }
            INPUTS => {
                let message = InputsMessage::decode(body).ok()?;
                self.inputs.push((message.episode, message.inputs()?));
            }
            EPISODE => self.header = Some(HeaderMessage::decode(body).ok()?.into_header()?),
            OUTCOME => {
                let message = OutcomeMessage::decode(body).ok()?;
                message.outcome()?;
                self.outcome = Some(message);
            }
            _ => {}
        }
        Some(())
    }

    fn proven(mut self, scan: &Scan<'_>) -> Option<Proven<M::Step>> {
        let header = self.header.take()?;
        self.inputs.retain(|(episode, _)| *episode == header.number);
        self.inputs.sort_by_key(|(_, inputs)| inputs.tick);
        self.inputs.dedup_by_key(|(_, inputs)| inputs.tick);
        let inputs = self.inputs.into_iter().map(|(_, inputs)| inputs).collect();
        let found = self.steps.len();
        self.steps.retain(|(_, episode, _)| *episode == header.number);
        self.steps.sort_by_key(|(sequence, _, _)| *sequence);
        self.steps.dedup_by_key(|(sequence, _, _)| *sequence);
        let mut damage = Damage {
            lost_bytes: scan.lost_bytes,
            misplaced_steps: (found - self.steps.len()) as u64,
            unknown_messages: self.unknown,
            ..Damage::none_but(scan.seal)
        };
        let mut next = 0;
        let mut steps: Vec<M::Step> = Vec::with_capacity(self.steps.len());
        for (sequence, _, mut step) in self.steps {
            let missing = u64::from(sequence) - next;
            next = u64::from(sequence) + 1;
            if missing > 0 {
                step.follows_gap();
            }
            damage.missing_steps += missing;
            if steps.last().is_some_and(|last| last.tick() >= step.tick()) {
                damage.misplaced_steps += 1;
            } else {
                steps.push(step);
            }
        }
        let written = self.outcome.as_ref().map_or(0, |outcome| outcome.steps);
        damage.missing_steps += written.saturating_sub(next);
        Some(Proven {
            header,
            steps,
            inputs,
            outcome: self.outcome.and_then(|message| message.outcome()),
            damage: (damage != Damage::none_but(Seal::Whole)).then_some(damage),
        })
    }
}
