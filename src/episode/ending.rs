//! The end that an unfinished file lacks. Its messages are encoded once more and compared with it, byte
//! for byte, so an encoder that has come to where the file breaks off knows how it goes on, and nothing
//! of what is whole need be written again.

use mcap::records::MessageHeader;

use super::encode::{EPISODE, Encoder, OUTCOME};
use super::header::EpisodeHeader;
use super::proto::HeaderMessage;
use super::read::Damage;
use super::scan::{self, OP_MESSAGE, Seal, take_record, take_u16, take_u32, take_u64};

/// How an unfinished file is ended.
pub(super) struct Ending {
    /// So many of the file's bytes stay. Those after them are torn.
    pub(super) keeps: usize,
    /// What follows them.
    pub(super) bytes: Vec<u8>,
    /// What is wrong with the file.
    pub(super) damage: Damage,
}

/// How a file's bytes go on; `None` when they have an end, hold their outcome already, are damaged or
/// are not, byte for byte, what the encoder writes: then they are to be read and written anew.
pub(super) fn ending(file: &[u8]) -> Option<Ending> {
    let unbroken = scan::unbroken(file)?;
    let (first, others) = unbroken.chunks.split_first()?;
    let mut encoder = Encoder::new(&header(first)?).ok()?;
    let (mut keeps, mut bytes) = (0, Vec::new());
    let mut encoded = Vec::new();
    encoder.take(&mut encoded);
    for records in others {
        keeps = follows(file, keeps, &encoded)?;
        encode_again(&mut encoder, records)?;
        encoder.take(&mut encoded);
    }
    // The last chunk's index may be torn: its chunk is whole.
    let there = file.get(keeps..)?;
    match encoded.strip_prefix(there) {
        Some(index) => {
            bytes.extend_from_slice(index);
            keeps = file.len();
        }
        None => keeps = follows(file, keeps, &encoded)?,
    }
    encoder.finish(None).ok()?;
    encoder.take(&mut encoded);
    bytes.extend_from_slice(&encoded);
    let damage = Damage { lost_bytes: unbroken.lost_bytes, ..Damage::none_but(Seal::Missing) };
    Some(Ending { keeps, bytes, damage })
}

/// Where what was encoded ends in a file in which it begins here, if it is there.
fn follows(file: &[u8], at: usize, encoded: &[u8]) -> Option<usize> {
    file.get(at..)?.starts_with(encoded).then_some(at + encoded.len())
}

fn header(mut records: &[u8]) -> Option<EpisodeHeader> {
    while let Some((opcode, body)) = take_record(&mut records) {
        if opcode == OP_MESSAGE {
            let (header, message) = message(body)?;
            let decoded: HeaderMessage = prost::Message::decode(message).ok()?;
            return (header.channel_id == EPISODE).then(|| decoded.into_header())?;
        }
    }
    None
}

fn encode_again(encoder: &mut Encoder, mut records: &[u8]) -> Option<()> {
    while let Some((OP_MESSAGE, body)) = take_record(&mut records) {
        let (header, message) = message(body)?;
        if [EPISODE, OUTCOME].contains(&header.channel_id) {
            return None;
        }
        encoder.again(&header, message).ok()??;
    }
    encoder.end_chunk().ok()?;
    records.is_empty().then_some(())
}

fn message(mut body: &[u8]) -> Option<(MessageHeader, &[u8])> {
    let header = MessageHeader {
        channel_id: take_u16(&mut body)?,
        sequence: take_u32(&mut body)?,
        log_time: take_u64(&mut body)?,
        publish_time: take_u64(&mut body)?,
    };
    Some((header, body))
}
