//! What can go wrong on a bus, and how often it did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TRIES;
use crate::config::Protocol;
use crate::hal::port::PortError;
use crate::hal::wire::dynamixel::Refusal;

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The port failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// No valid answer came.
    #[error(
        "expected an answer of servo {id}, found none within {TRIES} tries; check its power, cable and id"
    )]
    NoAnswer {
        /// Whom was asked.
        id: u8,
    },
    /// The servo said no.
    #[error("servo {id} refused: {}", reason(*refusal))]
    Refused {
        /// Who.
        id: u8,
        /// Why.
        refusal: Refusal,
    },
    /// A value does not fit its register.
    #[error("expected a value that fits register {register}, found {value}")]
    Value {
        /// The register's name.
        register: &'static str,
        /// The value.
        value: i32,
    },
    /// The servos of this protocol have no such address.
    #[error("expected a register address below 256, found {address}; check the servo's model")]
    Address {
        /// The address.
        address: u16,
    },
    /// The servos of this protocol cannot do that.
    #[error("servos that speak {protocol:?} know no such request")]
    Unsupported {
        /// What they speak.
        protocol: Protocol,
    },
    /// The request does not fit a packet.
    #[error("expected a request that fits a packet; ask fewer servos or bytes at once")]
    TooLong,
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::ResultFail => "it failed to do it",
        Refusal::Instruction => "it knows no such instruction, or none was prepared",
        Refusal::Crc => "the request reached it damaged; check the cable",
        Refusal::Range => "the value is out of the register's range",
        Refusal::Length => "the data is shorter than the register",
        Refusal::Limit => "the value is beyond a limit that is set in it",
        Refusal::Access => {
            "the register is read-only now; torque must be off, or its bus watchdog cleared"
        }
        _ => "it did not say why",
    }
}

/// Faults seen since the bus was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "BusCounters")]
pub struct Counters {
    /// Tries that ended at their deadline.
    pub timeouts: u64,
    /// Feetech packets whose checksum did not fit.
    pub checksum: u64,
    /// Dynamixel packets whose CRC did not fit.
    pub crc: u64,
    /// Answers of servos that were not asked.
    pub wrong_id: u64,
    /// Answers of another size than asked for, late ones among them.
    pub wrong_length: u64,
    /// Bytes that belonged to no packet.
    pub garbage_bytes: u64,
    /// Bytes that came before they were asked for.
    pub stale_bytes: u64,
    /// Requests that came back as they were sent.
    pub echoes: u64,
    /// Feetech answers with a status bit set.
    pub status_bits: u64,
    /// Dynamixel answers with the alert bit set.
    pub alerts: u64,
    /// Requests that a servo said no to.
    pub refused: u64,
    /// Requests made again.
    pub retries: u64,
}
