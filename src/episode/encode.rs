//! An episode's records as MCAP bytes in memory; nothing here touches a file.
//!
//! Layout: header record, metadata, then chunks, each with its CRC: the first holds the schemas,
//! the channels and the episode's header, the others steps, the last the header once more and the
//! outcome, so that either end of a file tells what it is. Format: <https://mcap.dev/spec>.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use mcap::records::{MessageHeader, Metadata};
use mcap::{McapResult, WriteOptions};
use prost::Message as _;

use super::header::{EpisodeHeader, Outcome};
use super::proto::{HeaderMessage, InputsMessage, OutcomeMessage, StepMessage};
use super::schema;
use super::{Inputs, PolicyId, Step};
use crate::clock::{Time, WallTime};

/// A chunk is ended at this many bytes at the latest, whatever time it spans; a reader that looks
/// for whole chunks in a damaged file need not consider longer ones.
pub(super) const MAX_CHUNK: usize = 64 * 1024;

/// Channel ids, as the encoder gives them out.
pub(super) const EPISODE: u16 = 1;
pub(super) const STEP: u16 = 2;
pub(super) const OUTCOME: u16 = 3;
pub(super) const INPUTS: u16 = 4;

/// The bytes that were encoded and not yet taken. Writing to memory cannot fail.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<Encoded>>);

#[derive(Default)]
struct Encoded {
    taken: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn with<T>(&self, f: impl FnOnce(&mut Encoded) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Tail {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.with(|encoded| encoded.bytes.extend_from_slice(buf));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Tail {
    /// Only tells the position: the encoder buffers chunks and never goes back.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.with(|encoded| encoded.taken + encoded.bytes.len() as u64);
        match to {
            SeekFrom::Current(0) | SeekFrom::End(0) => Ok(end),
            SeekFrom::Start(at) if at == end => Ok(end),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Encodes one episode.
pub(super) struct Encoder {
    mcap: mcap::Writer<Tail>,
    tail: Tail,
    header: EpisodeHeader,
    /// The first step's times and the last one's: log times follow the monotonic clock from the
    /// first step's date on, so that a jump of the date does not disorder a plot.
    span: Option<(Time, WallTime, Time)>,
    steps: u32,
    message: StepMessage,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Begins the file; its header is a whole chunk already.
    pub(super) fn new(header: &EpisodeHeader) -> McapResult<Self> {
        let tail = Tail::default();
        let mut mcap = WriteOptions::new()
            .profile("regoal")
            .library(header.software.as_str())
            .chunk_size(Some(MAX_CHUNK as u64 / 2))
            .disable_seeking(true)
            .create(tail.clone())?;
        mcap.write_metadata(&Metadata {
            name: "regoal.episode".into(),
            metadata: header_text(header),
        })?;
        for channel in schema::channels(header) {
            let schema = mcap.add_schema(channel.schema, "protobuf", &channel.descriptors)?;
            mcap.add_channel(schema, channel.topic, "protobuf", &BTreeMap::new())?;
        }
        let mut encoder = Self {
            mcap,
            tail,
            header: header.clone(),
            span: None,
            steps: 0,
            message: StepMessage::default(),
            buffer: Vec::new(),
        };
        encoder.write_header(0)?;
        encoder.mcap.flush()?;
        Ok(encoder)
    }

    /// Adds a step to the open chunk.
    pub(super) fn step(&mut self, step: &Step) -> McapResult<()> {
        let (first, date, _) = self.span.unwrap_or((step.time, step.wall, step.time));
        self.span = Some((first, date, step.time));
        self.message.fill(step, self.header.number);
        self.buffer.clear();
        // A `Vec` takes any number of bytes, so encoding into it cannot fail.
        let _ = self.message.encode(&mut self.buffer);
        let header = MessageHeader {
            channel_id: STEP,
            sequence: self.steps,
            log_time: self.log_time(),
            publish_time: step.wall.0,
        };
        self.steps = self.steps.wrapping_add(1);
        self.mcap.write_to_known_channel(&header, &self.buffer)
    }

    /// Adds the inputs of the step that comes next to the open chunk.
    pub(super) fn inputs(&mut self, inputs: &Inputs) -> McapResult<()> {
        let message = InputsMessage::new(inputs, self.header.number).encode_to_vec();
        self.write(INPUTS, self.steps, &message)
    }

    /// Adds a message of a file that is encoded again; `None` when a step is not the next one.
    pub(super) fn again(
        &mut self,
        header: &MessageHeader,
        message: &[u8],
    ) -> McapResult<Option<()>> {
        if header.channel_id == STEP {
            if header.sequence != self.steps {
                return Ok(None);
            }
            self.steps = self.steps.wrapping_add(1);
            self.span = Some((Time::ZERO, WallTime(header.log_time), Time::ZERO));
        }
        self.mcap.write_to_known_channel(header, message).map(Some)
    }

    /// Ends the open chunk, if there is one.
    pub(super) fn end_chunk(&mut self) -> McapResult<()> {
        self.mcap.flush()
    }

    /// Ends the file: header once more, outcome, summary. Nothing may be added afterwards.
    pub(super) fn finish(&mut self, outcome: Option<&Outcome>) -> McapResult<()> {
        self.mcap.flush()?;
        self.write_header(1)?;
        if let Some(outcome) = outcome {
            let duration = self.span.map_or(0, |(first, _, last)| last.0.saturating_sub(first.0));
            let message = OutcomeMessage::new(outcome, u64::from(self.steps), duration);
            self.write(OUTCOME, 0, &message.encode_to_vec())?;
            let metadata = outcome_text(outcome, self.steps);
            self.mcap.write_metadata(&Metadata { name: "regoal.outcome".into(), metadata })?;
        }
        self.mcap.finish().map(drop)
    }

    /// Moves what was encoded since the last call into `bytes`.
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>) {
        bytes.clear();
        self.tail.with(|encoded| {
            std::mem::swap(&mut encoded.bytes, bytes);
            encoded.taken += bytes.len() as u64;
        });
    }

    /// Steps so far.
    pub(super) fn steps(&self) -> u64 {
        u64::from(self.steps)
    }

    fn write_header(&mut self, sequence: u32) -> McapResult<()> {
        let message = HeaderMessage::from(&self.header).encode_to_vec();
        self.write(EPISODE, sequence, &message)
    }

    fn write(&mut self, channel_id: u16, sequence: u32, message: &[u8]) -> McapResult<()> {
        let log_time = self.log_time();
        let header = MessageHeader { channel_id, sequence, log_time, publish_time: log_time };
        self.mcap.write_to_known_channel(&header, message)
    }

    /// The last step's date, by the monotonic clock; the episode's beginning before the first step.
    fn log_time(&self) -> u64 {
        self.span.map_or(self.header.started.0, |(first, date, last)| {
            date.0.saturating_add(last.0.saturating_sub(first.0))
        })
    }
}

fn header_text(header: &EpisodeHeader) -> BTreeMap<String, String> {
    let policy = if header.policy == PolicyId::default() {
        String::new()
    } else {
        header.policy.to_string()
    };
    text([
        ("number", header.number.to_string()),
        ("robot", header.robot.clone()),
        ("joints", header.joints.join(",")),
        ("rate_hz", header.rate_hz.to_string()),
        ("task", header.task.clone()),
        ("goal_space", header.goal_space.clone()),
        ("goal_tolerance", header.goal_tolerance.to_string()),
        ("source", header.source.to_string()),
        ("split", header.split.to_string()),
        ("calibration", header.calibration.clone()),
        ("policy", policy),
        ("seed", header.seed.map_or(String::new(), |seed| seed.to_string())),
        ("started_ns", header.started.0.to_string()),
        ("software", header.software.clone()),
    ])
}

fn outcome_text(outcome: &Outcome, steps: u32) -> BTreeMap<String, String> {
    let label = match outcome.success {
        None => "unknown",
        Some(true) => "success",
        Some(false) => "failure",
    };
    text([
        ("label", label.to_owned()),
        ("final_distance", outcome.final_distance.map_or(String::new(), |d| d.to_string())),
        ("reached_tick", outcome.reached_tick.map_or(String::new(), |tick| tick.to_string())),
        ("ticks", outcome.ticks.to_string()),
        ("missed_ticks", outcome.missed_ticks.to_string()),
        ("reason", outcome.reason.as_str().to_owned()),
        ("steps", steps.to_string()),
    ])
}

fn text<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
