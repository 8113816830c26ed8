//! What a servo answers.

use super::packet::{BROADCAST, Packet, PacketBuf, TooLong, emit};

/// The instruction of every answer.
pub(super) const STATUS: u8 = 0x55;
const ALERT: u8 = 0x80;

/// Why a servo did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// 1: it failed to.
    ResultFail,
    /// 2: no such instruction, or an action with nothing registered.
    Instruction,
    /// 3: the CRC did not fit.
    Crc,
    /// 4: the value is out of the register's range.
    Range,
    /// 5: the data is shorter than the register.
    Length,
    /// 6: the value is out of the limits set in the servo.
    Limit,
    /// 7: read-only, write-only, not there, or EEPROM while torque is on.
    Access,
    /// A number that the e-manual doesn't name.
    Other(u8),
}

impl Refusal {
    /// The refusal of a number, `None` for 0.
    pub fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => return None,
            1 => Self::ResultFail,
            2 => Self::Instruction,
            3 => Self::Crc,
            4 => Self::Range,
            5 => Self::Length,
            6 => Self::Limit,
            7 => Self::Access,
            other => Self::Other(other),
        })
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::ResultFail => 1,
            Self::Instruction => 2,
            Self::Crc => 3,
            Self::Range => 4,
            Self::Length => 5,
            Self::Limit => 6,
            Self::Access => 7,
            Self::Other(number) => number,
        }
    }
}

/// What a servo answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// Who.
    pub id: u8,
    /// It has a hardware error, see its register Hardware Error Status; the data is valid beside it.
    pub alert: bool,
    /// Why it did not do what it was asked.
    pub refusal: Option<Refusal>,
    /// The registers asked for; to a ping, model number (2 bytes) and firmware version.
    pub data: &'a [u8],
}

impl<'a> Status<'a> {
    /// The answer of one servo that a packet is, `None` when it is a request or the common answer
    /// to a fast read.
    pub fn parse(packet: &Packet<'a>) -> Option<Self> {
        match (packet.id, packet.instruction, packet.parameters) {
            (BROADCAST, ..) => None,
            (id, STATUS, [error, data @ ..]) => Some(Self::new(id, *error, data)),
            _ => None,
        }
    }

    /// The answer with this error byte.
    pub(super) fn new(id: u8, error: u8, data: &'a [u8]) -> Self {
        Self { id, alert: error & ALERT != 0, refusal: Refusal::of_number(error & !ALERT), data }
    }

    /// The error byte.
    pub fn error(&self) -> u8 {
        let number = self.refusal.map_or(0, Refusal::number) & !ALERT;
        number | if self.alert { ALERT } else { 0 }
    }

    /// Writes the answer's packet into `out`, replacing what was there.
    ///
    /// # Errors
    /// It is longer than a packet may be.
    pub fn emit(&self, out: &mut PacketBuf) -> Result<(), TooLong> {
        emit(out, self.id, STATUS, &[&[self.error()], self.data])
    }
}
