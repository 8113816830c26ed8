//! Dynamixel Protocol 2.0: `FF FF FD 00 id length length instruction parameters.. crc crc`.
//!
//! `length` counts the instruction, the parameters and the CRC; two-byte numbers are little-endian.
//! From the instruction on, an `FD` is stuffed in after every `FF FF FD`, so that a header stands
//! nowhere else; length and CRC-16 (polynomial 0x8005, start 0) count it. The one exception is the
//! common answer to a fast read, which [`FastDecoder`] reads. Source: ROBOTIS e-manual, "Protocol
//! 2.0"; limits as in `dynamixel-sdk` 4.1.0 (PyPI).

mod decoder;
mod fast;
mod packet;
mod request;
mod status;

pub use decoder::Decoder;
pub use fast::{FastDecoder, emit_fast};
pub use packet::{
    BROADCAST, Damage, MAX_ID, MAX_PACKET, MAX_PARAMETERS, Packet, PacketBuf, TooLong,
};
pub use request::{Keep, Request, bulk_block, bulk_reads, bulk_writes};
pub use status::{Refusal, Status};

#[cfg(test)]
mod tests;
