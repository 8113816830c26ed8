//! A checkpoint as bytes: a mark, the payload's length and its CRC-32 (all little endian), then the
//! payload, a protobuf message. What is cut short or damaged is refused before it is read.

use prost::Message;

use super::{Checkpoint, CheckpointError};

const MARK: &[u8; 8] = b"REGOALC1";
/// Mark, length (u64), CRC (u32).
const HEADER: usize = 8 + 8 + 4;

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(message, repeated, tag = "1")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "2")]
    counts: Vec<Count>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, repeated, tag = "2")]
    data: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct Count {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(fixed64, tag = "2")]
    value: u64,
}

impl Checkpoint {
    /// The file's content; the same checkpoint gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensors = self.tensors.iter();
        let counts = self.counts.iter();
        let payload = Payload {
            tensors: tensors
                .map(|(name, data)| Tensor { name: name.clone(), data: data.clone() })
                .collect(),
            counts: counts
                .map(|(name, value)| Count { name: name.clone(), value: *value })
                .collect(),
        };
        let payload = payload.encode_to_vec();
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(MARK);
        bytes.extend((payload.len() as u64).to_le_bytes());
        bytes.extend(crc32fast::hash(&payload).to_le_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// It is no checkpoint, cut short or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let format = |found: String| Err(CheckpointError::Format(found));
        let Some((mark, rest)) = bytes.split_first_chunk::<8>() else {
            return format(format!("{} bytes", bytes.len()));
        };
        if mark != MARK {
            return format(format!("a file that begins with {}", mark.escape_ascii()));
        }
        let Some((length, rest)) = rest.split_first_chunk::<8>() else {
            return format("a file that ends in its header".into());
        };
        let Some((crc, payload)) = rest.split_first_chunk::<4>() else {
            return format("a file that ends in its header".into());
        };
        let length = u64::from_le_bytes(*length);
        if length != payload.len() as u64 {
            return format(format!("{} bytes of {length}", payload.len()));
        }
        if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
            return format("damage: the checksum differs".into());
        }
        let payload = Payload::decode(payload)
            .map_err(|e| CheckpointError::Format(format!("another content: {e}")))?;
        Ok(Self {
            tensors: payload.tensors.into_iter().map(|t| (t.name, t.data)).collect(),
            counts: payload.counts.into_iter().map(|c| (c.name, c.value)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        let numbers = vec(any::<u32>().prop_map(f32::from_bits), 0..9);
        let tensors = btree_map(".{0,6}", numbers, 0..4);
        let counts = btree_map(".{0,6}", any::<u64>(), 0..4);
        (tensors, counts).prop_map(|(tensors, counts)| Checkpoint { tensors, counts })
    }

    proptest! {
        #[test]
        fn bytes_give_the_checkpoint_back_bit_by_bit(kept in checkpoints()) {
            let bytes = kept.to_bytes();
            // By bytes: a NaN does not equal itself.
            prop_assert_eq!(Checkpoint::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        }

        #[test]
        fn a_cut_or_a_flipped_bit_is_refused(
            kept in checkpoints(),
            place in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let bytes = kept.to_bytes();
            let at = place.index(bytes.len());
            prop_assert!(Checkpoint::from_bytes(&bytes[..at]).is_err());
            let mut flipped = bytes;
            flipped[at] ^= 1 << bit;
            prop_assert!(Checkpoint::from_bytes(&flipped).is_err());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let bytes = Checkpoint::default().to_bytes();
        let says = |bytes: &[u8]| Checkpoint::from_bytes(bytes).unwrap_err().to_string();
        let expected = "expected a checkpoint of regoal, found ";
        assert_eq!(says(b"method = 1"), format!("{expected}a file that begins with method =",));
        assert_eq!(says(b""), format!("{expected}0 bytes"));
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(says(&longer), format!("{expected}1 bytes of 0"));
    }
}
