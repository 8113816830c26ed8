//! Numbers in registers.

/// Which byte of a two-byte register comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// The low one: STS and SMS servos.
    LittleEndian,
    /// The high one: SCS servos.
    BigEndian,
}

impl ByteOrder {
    /// The number that two bytes of a packet are.
    pub fn word(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::LittleEndian => u16::from_le_bytes(bytes),
            Self::BigEndian => u16::from_be_bytes(bytes),
        }
    }

    /// The two bytes of a number.
    pub fn bytes(self, word: u16) -> [u8; 2] {
        match self {
            Self::LittleEndian => word.to_le_bytes(),
            Self::BigEndian => word.to_be_bytes(),
        }
    }
}

/// A number whose sign is bit `sign_bit` and whose magnitude is the bits below it.
pub fn from_sign_magnitude(raw: u16, sign_bit: u8) -> i32 {
    let sign = 1u32 << sign_bit.min(15);
    let magnitude = (u32::from(raw) & (sign - 1)) as i32;
    if u32::from(raw) & sign == 0 { magnitude } else { -magnitude }
}

/// The inverse of [`from_sign_magnitude`]; `None` when the magnitude needs more bits.
pub fn to_sign_magnitude(value: i32, sign_bit: u8) -> Option<u16> {
    let sign = 1u32 << sign_bit.min(15);
    let magnitude = value.unsigned_abs();
    let raw = magnitude | if value < 0 { sign } else { 0 };
    (magnitude < sign).then_some(raw as u16)
}
