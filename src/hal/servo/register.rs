//! One register of a servo: where it lies, what its bytes mean.

use crate::hal::wire::feetech::{ByteOrder, from_sign_magnitude, to_sign_magnitude};

/// Where a register is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Kept without power; wears out. Writable only while `Lock` is 0 (Feetech) or torque is off
    /// (Dynamixel).
    Eeprom,
    /// Lost without power.
    Ram,
}

/// Who may write a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    Read,
    /// The host.
    ReadWrite,
}

/// How a number lies in a register's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// From 0; of 4 bytes the highest bit is never set.
    Unsigned,
    /// This bit is the sign; the bits below are the magnitude.
    SignMagnitude(u8),
    /// The highest bit of the register counts negative.
    TwosComplement,
}

/// What 1 in a register is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// A number, a code or bits.
    Plain,
    /// One step of the encoder, [`Model::rad_per_tick`](super::Model::rad_per_tick).
    Tick,
    /// 1 or 50 ticks/s, by Feetech's `Phase`: [`feetech::speed_unit`](super::feetech::speed_unit).
    Speed,
    /// So many rad/s.
    RadPerSecond(f64),
    /// So many rad/s².
    RadPerSecond2(f64),
    /// This fraction of all that the servo has.
    Fraction(f64),
    /// So many A.
    Ampere(f64),
    /// So many V.
    Volt(f64),
    /// 1 °C.
    Celsius,
    /// So many s.
    Second(f64),
}

impl Unit {
    /// What 1 is in SI units (and °C); `None` where that is no quantity, or depends on more than
    /// the register.
    pub fn scale(self) -> Option<f64> {
        match self {
            Self::Plain | Self::Tick | Self::Speed => None,
            Self::Celsius => Some(1.0),
            Self::RadPerSecond(scale)
            | Self::RadPerSecond2(scale)
            | Self::Fraction(scale)
            | Self::Ampere(scale)
            | Self::Volt(scale)
            | Self::Second(scale) => Some(scale),
        }
    }
}

/// One register of a servo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Register {
    /// Its datasheet name.
    pub name: &'static str,
    /// Its first byte.
    pub address: u16,
    /// Its bytes: 1, 2 or 4.
    pub size: u8,
    /// What 1 in it is.
    pub unit: Unit,
    /// How the number lies in it.
    pub encoding: Encoding,
    /// The order of its bytes.
    pub order: ByteOrder,
    /// Where it is kept.
    pub memory: Memory,
    /// Who may write it.
    pub access: Access,
    /// What a new servo has in it, where that is known.
    pub default: Option<i32>,
}

impl Register {
    pub(super) const fn new(
        name: &'static str,
        address: u16,
        size: u8,
        unit: Unit,
        access: Access,
    ) -> Self {
        Self {
            name,
            address,
            size,
            unit,
            encoding: Encoding::Unsigned,
            order: ByteOrder::LittleEndian,
            memory: Memory::Ram,
            access,
            default: None,
        }
    }

    /// The address after its last byte.
    pub const fn end(&self) -> u16 {
        self.address + self.size as u16
    }

    /// The same register with this default.
    pub(super) const fn or(mut self, default: i32) -> Self {
        self.default = Some(default);
        self
    }

    /// The value in `bytes`, which begin with this register; `None` when they are too few, or no
    /// value it can have.
    pub fn decode(&self, bytes: &[u8]) -> Option<i32> {
        let bytes = bytes.get(..usize::from(self.size))?;
        let shift = |raw: u32, byte: &u8| raw << 8 | u32::from(*byte);
        let raw = match self.order {
            ByteOrder::LittleEndian => bytes.iter().rev().fold(0, shift),
            ByteOrder::BigEndian => bytes.iter().fold(0, shift),
        };
        match self.encoding {
            Encoding::Unsigned => i32::try_from(raw).ok(),
            Encoding::SignMagnitude(bit) => Some(from_sign_magnitude(raw as u16, bit)),
            // The sign bit is moved to the top and, with its copies, back.
            Encoding::TwosComplement => {
                Some(((raw << self.unused_bits()) as i32) >> self.unused_bits())
            }
        }
    }

    /// The value in `block`, a copy of the registers from address `start` on.
    pub fn decode_at(&self, start: u16, block: &[u8]) -> Option<i32> {
        self.decode(block.get(usize::from(self.address.checked_sub(start)?)..)?)
    }

    /// The bytes that hold `value`; `None` when it does not fit.
    pub fn encode(&self, value: i32) -> Option<heapless::Vec<u8, 4>> {
        let raw = match self.encoding {
            Encoding::Unsigned => u32::try_from(value).ok()?,
            Encoding::SignMagnitude(bit) => u32::from(to_sign_magnitude(value, bit)?),
            Encoding::TwosComplement => {
                let unused = self.unused_bits();
                let fits = (value << unused) >> unused == value;
                fits.then_some((value as u32) << unused >> unused)?
            }
        };
        let bytes = raw.to_le_bytes();
        let (kept, rest) = bytes.split_at_checked(usize::from(self.size))?;
        let mut kept = heapless::Vec::from_slice(kept).ok()?;
        if self.order == ByteOrder::BigEndian {
            kept.reverse();
        }
        rest.iter().all(|byte| *byte == 0).then_some(kept)
    }

    fn unused_bits(&self) -> u32 {
        32u32.saturating_sub(8 * u32::from(self.size))
    }
}
