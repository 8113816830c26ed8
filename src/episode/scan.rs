//! Which bytes of an MCAP file are proven: by the CRCs of its end, or chunk by chunk.
//!
//! Record layouts and what each CRC covers: <https://mcap.dev/spec>.

use super::encode::MAX_CHUNK;

const MAGIC: &[u8; 8] = b"\x89MCAP0\r\n";
/// Opcode and length.
const RECORD_HEAD: usize = 9;
/// A footer record and the magic bytes after it.
pub(super) const FOOTER: usize = RECORD_HEAD + 20 + MAGIC.len();
const DATA_END: usize = RECORD_HEAD + 4;
/// A chunk's fields before its records, without compression: two times, size, CRC, no name, size.
const CHUNK_HEAD: usize = 8 + 8 + 8 + 4 + 4 + 8;

/// The longest chunk that is looked for among damaged bytes.
const LONGEST: usize = RECORD_HEAD + CHUNK_HEAD + MAX_CHUNK;

const OP_FOOTER: u8 = 0x02;
pub(super) const OP_CHANNEL: u8 = 0x04;
pub(super) const OP_MESSAGE: u8 = 0x05;
const OP_CHUNK: u8 = 0x06;
const OP_MESSAGE_INDEX: u8 = 0x07;
const OP_CHUNK_INDEX: u8 = 0x08;
const OP_DATA_END: u8 = 0x0f;

/// Whether a file's end vouches for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seal {
    /// The CRCs at the end cover every byte and hold.
    Whole,
    /// There is no end: the program or the computer stopped in mid episode, or the file was cut.
    Missing,
    /// There is an end, but its CRCs do not match: bytes were changed.
    Broken,
}

/// Splits `N` bytes off the front.
pub(super) fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(front)
}

pub(super) fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes).map(|b| u16::from_le_bytes(*b))
}

pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(|b| u32::from_le_bytes(*b))
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(|b| u64::from_le_bytes(*b))
}

/// One record: its opcode and its body.
pub(super) type Record<'a> = (u8, &'a [u8]);

/// The record at the front, split off; `None` when it is not whole.
pub(super) fn take_record<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let mut rest = *bytes;
    let [opcode] = *take::<1>(&mut rest)?;
    let len = usize::try_from(take_u64(&mut rest)?).ok()?;
    let (body, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some((opcode, body))
}

/// The records of a whole chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) records: &'a [u8],
}

/// The chunk at the front of `bytes`, if its CRC proves it, and the bytes it takes.
pub(super) fn chunk(bytes: &[u8]) -> Option<(Chunk<'_>, usize)> {
    let mut rest = bytes;
    let (opcode, mut body) = take_record(&mut rest)?;
    let len = body.len();
    take::<16>(&mut body)?;
    let size = take_u64(&mut body)?;
    let crc = take_u32(&mut body)?;
    let compression = take_u32(&mut body)?;
    let records_size = take_u64(&mut body)?;
    let consistent = opcode == OP_CHUNK
        && compression == 0
        && records_size == size
        && body.len() as u64 == size
        && len == CHUNK_HEAD + body.len();
    (consistent && crc32fast::hash(body) == crc)
        .then_some((Chunk { records: body }, bytes.len() - rest.len()))
}

/// What a file holds.
pub(super) struct Scan<'a> {
    pub(super) seal: Seal,
    pub(super) chunks: Vec<Chunk<'a>>,
    /// Bytes that nothing vouches for.
    pub(super) lost_bytes: u64,
}

/// Finds every whole chunk, wherever the bytes between them are damaged.
pub(super) fn scan(bytes: &[u8]) -> Scan<'_> {
    let (seal, data_end) = seal(bytes);
    let longest = if seal == Seal::Whole { usize::MAX } else { LONGEST };
    let data = bytes.get(..data_end).unwrap_or(bytes);
    let mut found = Scan { seal, chunks: Vec::new(), lost_bytes: 0 };
    // The bytes since the last whole chunk.
    let mut gap = data.strip_prefix(MAGIC).unwrap_or(data);
    found.lost_bytes += (MAGIC.len().min(data.len()) - (data.len() - gap.len())) as u64;
    let mut rest = gap;
    while let Some(at) = memchr(OP_CHUNK, rest) {
        let candidate = rest.get(at..).unwrap_or(&[]);
        let window = candidate.get(..longest.min(candidate.len())).unwrap_or(&[]);
        match chunk(window) {
            Some((chunk, len)) => {
                found.chunks.push(chunk);
                let between = gap.len() - candidate.len();
                found.lost_bytes += unexplained(gap.get(..between).unwrap_or(&[]), seal);
                rest = candidate.get(len..).unwrap_or(&[]);
                gap = rest;
            }
            None => rest = candidate.get(1..).unwrap_or(&[]),
        }
    }
    found.lost_bytes += unexplained(gap, seal);
    found
}

/// An unfinished file that is whole up to where it breaks off.
pub(super) struct Unbroken<'a> {
    /// The records of each chunk; their CRCs were not looked at.
    pub(super) chunks: Vec<&'a [u8]>,
    /// Bytes after the last chunk that nothing vouches for.
    pub(super) lost_bytes: u64,
}

/// Finds the chunks of an unfinished file that stand side by side from its beginning; `None` when it has
/// an end, or whole ones stand behind bytes that are not.
pub(super) fn unbroken(file: &[u8]) -> Option<Unbroken<'_>> {
    let mut rest = file.strip_prefix(MAGIC).filter(|_| !file.ends_with(MAGIC))?;
    let (mut chunks, mut gap) = (Vec::new(), rest);
    while let Some((opcode, body)) = take_record(&mut rest) {
        match opcode {
            OP_CHUNK => {
                chunks.push(body.get(CHUNK_HEAD..)?);
                gap = rest;
            }
            OP_DATA_END => break,
            _ => {}
        }
    }
    let whole_at = |at| {
        let candidate = gap.get(at..).unwrap_or(&[]);
        chunk(candidate.get(..LONGEST.min(candidate.len())).unwrap_or(&[])).is_some()
    };
    let none = !(0..gap.len()).any(|at| gap.get(at) == Some(&OP_CHUNK) && whole_at(at));
    none.then(|| Unbroken { chunks, lost_bytes: unexplained(gap, Seal::Missing) })
}

fn memchr(needle: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == needle)
}

/// How many of the bytes between two chunks are not whole records that belong there.
fn unexplained(mut gap: &[u8], seal: Seal) -> u64 {
    if seal == Seal::Whole {
        return 0;
    }
    let mut rest = gap;
    while let Some((opcode, body)) = take_record(&mut rest) {
        let known = match opcode {
            OP_MESSAGE_INDEX => is_message_index(body),
            OP_CHUNK => false,
            _ => (0x01..=0x0f).contains(&opcode),
        };
        if !known {
            break;
        }
        gap = rest;
    }
    gap.len() as u64
}

/// Whether a message index' own length and its list's agree.
fn is_message_index(mut body: &[u8]) -> bool {
    take_u16(&mut body).is_some()
        && take_u32(&mut body).is_some_and(|len| len as usize == body.len())
}

/// Whether the end vouches for the file, and where its data section ends.
fn seal(bytes: &[u8]) -> (Seal, usize) {
    if !bytes.ends_with(MAGIC) || bytes.len() < MAGIC.len() + DATA_END + FOOTER {
        return (Seal::Missing, bytes.len());
    }
    match sealed_data(bytes) {
        Some(end) => (Seal::Whole, end),
        None => (Seal::Broken, bytes.len()),
    }
}

/// The length of the data section, if both its CRC and the summary's hold.
fn sealed_data(bytes: &[u8]) -> Option<usize> {
    let (summary_at, _) = footer(bytes.last_chunk()?)?;
    let data_end = usize::try_from(summary_at).ok()?.checked_sub(DATA_END)?;
    let (data, end) = bytes.split_at_checked(data_end)?;
    data_crc(end).filter(|crc| data.starts_with(MAGIC) && crc32fast::hash(data) == *crc)?;
    summary(end)?;
    Some(data_end)
}

/// The data section's CRC, from the record that follows it.
fn data_crc(end: &[u8]) -> Option<u32> {
    let mut end = end;
    let (opcode, mut body) = take_record(&mut end)?;
    (opcode == OP_DATA_END && body.len() == 4).then(|| take_u32(&mut body))?
}

/// Where the summary begins, and its CRC, from a file's last bytes.
pub(super) fn footer(bytes: &[u8; FOOTER]) -> Option<(u64, u32)> {
    let mut rest = bytes.as_slice();
    let (opcode, mut body) = take_record(&mut rest)?;
    let summary_at = take_u64(&mut body)?;
    take_u64(&mut body)?;
    let crc = take_u32(&mut body)?;
    (opcode == OP_FOOTER && body.is_empty() && rest == MAGIC).then_some((summary_at, crc))
}

/// The summary's records, if its CRC holds; `end` begins with the data section's end record and
/// reaches to the end of the file.
pub(super) fn summary(end: &[u8]) -> Option<&[u8]> {
    let (_, crc) = footer(end.last_chunk()?)?;
    let summary = end.get(DATA_END..)?;
    let covered = summary.get(..summary.len().checked_sub(MAGIC.len() + 4)?)?;
    (crc32fast::hash(covered) == crc).then(|| summary.get(..summary.len() - FOOTER))?
}

/// Bytes from the data section's end record to the end of a file that is `len` bytes long.
pub(super) fn end_len(len: u64, summary_at: u64) -> Option<u64> {
    len.checked_sub(summary_at.checked_sub(DATA_END as u64)?)
}

/// Where the last chunk is and how long it is, from a summary's records.
pub(super) fn last_chunk(mut summary: &[u8]) -> Option<(u64, u64)> {
    let mut last = None;
    while let Some((opcode, mut body)) = take_record(&mut summary) {
        if opcode == OP_CHUNK_INDEX {
            take::<16>(&mut body)?;
            last = Some((take_u64(&mut body)?, take_u64(&mut body)?));
        }
    }
    last
}
