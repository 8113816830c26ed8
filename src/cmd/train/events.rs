//! Event files that TensorBoard shows: records of a length, its masked CRC-32C, a protobuf `Event`
//! and its masked CRC-32C (TensorFlow's `record_writer` and `event.proto`), little endian.

use std::io;
use std::path::Path;

use prost::Message;

use crate::clock::WallTime;
use crate::storage::{Storage, StorageFile};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that is written.
pub struct Events(Box<dyn StorageFile>);

impl Events {
    /// A new file in `folder`. One more is made each time a training goes on: TensorBoard drops what
    /// an older one says about later steps.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(storage: &dyn Storage, folder: &Path, now: WallTime) -> io::Result<Self> {
        let name = |n: u32| format!("events.out.tfevents.{:010}.regoal.{n}", now.0 / 1_000_000_000);
        let create = |n| match storage.create(&folder.join(name(n))) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            made => Some(made),
        };
        let file = (0..).find_map(create).unwrap_or(Err(io::ErrorKind::AlreadyExists.into()))?;
        let mut events = Self(file);
        let version = Some("brain.Event:2".to_owned());
        events.write(&Event {
            wall_time: seconds(now),
            file_version: version,
            ..Event::default()
        })?;
        Ok(events)
    }

    /// Figures at a step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn figures<'a>(
        &mut self,
        now: WallTime,
        step: u64,
        figures: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        let scalar =
            |(tag, x): (&str, f64)| Scalar { tag: tag.into(), simple_value: Some(x as f32) };
        let value = figures.into_iter().map(scalar).collect();
        let (wall_time, step) = (seconds(now), step as i64);
        self.write(&Event { wall_time, step, summary: Some(Summary { value }), file_version: None })
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        self.0.write_all(&record(&event.encode_to_vec()))?;
        self.0.flush()
    }
}

fn seconds(time: WallTime) -> f64 {
    time.0 as f64 / 1e9
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let masked = |bytes: &[u8]| crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8);
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

/// The remainders of all bytes by the polynomial of Castagnoli, bits reversed.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut bit) = (byte as u32, 0);
        while bit < 8 {
            rest = (rest >> 1) ^ if rest & 1 == 1 { 0x82F6_3B78 } else { 0 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// CRC-32C (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, b| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ b)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    #[test]
    fn the_checksum_is_the_standards() {
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_file_holds_its_version_and_the_figures_and_a_second_one_stands_beside_it() {
        let (storage, now) = (Memory::default(), WallTime(7_500_000_000));
        let mut events = Events::create(&storage, Path::new("run"), now).unwrap();
        events.figures(now, 12, [("loss", 0.5), ("success/any", 1.0)]).unwrap();
        Events::create(&storage, Path::new("run"), now).unwrap();
        let files = storage.list(Path::new("run")).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0], Path::new("run/events.out.tfevents.0000000007.regoal.0"));
        let mut rest = &storage.read(&files[0]).unwrap()[..];
        let mut found = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            let data = &after[4..4 + length];
            assert_eq!(record(data), rest[..length + 16]);
            found.push(Event::decode(data).unwrap());
            rest = &rest[length + 16..];
        }
        assert_eq!(found[0].file_version.as_deref(), Some("brain.Event:2"));
        let scalars = &found[1].summary.as_ref().unwrap().value;
        assert_eq!((found[1].step, found[1].wall_time, scalars.len()), (12, 7.5, 2));
        assert_eq!((scalars[1].tag.as_str(), scalars[1].simple_value), ("success/any", Some(1.0)));
    }
}
