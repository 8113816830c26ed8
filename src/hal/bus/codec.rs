//! What both protocols have in common: one request, one answer, one kind of damage.

use super::BusError;
use crate::config::Protocol;
use crate::hal::servo::{Block, trouble};
use crate::hal::wire::dynamixel::{self, Keep, Refusal};
use crate::hal::wire::feetech;
use crate::joints::JointVec;

/// The data sizes of the answers to come.
type Sizes = <JointVec<u16> as IntoIterator>::IntoIter;

/// The id that every servo listens to.
pub const BROADCAST: u8 = feetech::BROADCAST;

/// What a host asks, in either protocol.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    Ping { id: u8 },
    Read { id: u8, block: Block },
    Write { id: u8, address: u16, data: &'a [u8] },
    RegWrite { id: u8, address: u16, data: &'a [u8] },
    Action { id: u8 },
    SyncRead { block: Block, ids: &'a [u8], fast: bool },
    BulkRead { ids: &'a [u8], blocks: &'a [Block], fast: bool },
    SyncWrite { address: u16, size: u8, blocks: &'a [u8] },
    Reboot { id: u8 },
    FactoryReset { id: u8, keep: Keep },
}

/// What a servo answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status<'a> {
    pub id: u8,
    /// Bits of [`trouble`](crate::hal::servo::trouble).
    pub trouble: u8,
    pub refusal: Option<Refusal>,
    pub data: &'a [u8],
}

/// What is wrong with bytes that are no packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Damage {
    Garbage { bytes: usize },
    Length,
    Checksum { id: u8 },
}

/// What came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event<'a> {
    Status(Status<'a>),
    /// An adapter gave back what was sent.
    Echo,
    Damage(Damage),
}

/// The codec of one protocol, and the request made last.
pub(super) enum Codec {
    Feetech(Box<Feetech>),
    Dynamixel(Box<Dynamixel>),
}

#[derive(Default)]
pub(super) struct Feetech {
    decoder: feetech::Decoder,
    request: feetech::PacketBuf,
}

#[derive(Default)]
pub(super) struct Dynamixel {
    decoder: dynamixel::Decoder,
    /// Reads the answer to a fast read, when that is what was asked last.
    fast: Option<dynamixel::FastDecoder<Sizes>>,
    request: dynamixel::PacketBuf,
}

impl Codec {
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Feetech => Self::Feetech(Box::default()),
            Protocol::Dynamixel => Self::Dynamixel(Box::default()),
        }
    }

    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Feetech(_) => Protocol::Feetech,
            Self::Dynamixel(_) => Protocol::Dynamixel,
        }
    }

    /// The bytes of an answer that are not its data.
    pub fn overhead(&self) -> usize {
        match self {
            Self::Feetech(_) => feetech::MAX_PACKET - feetech::MAX_PARAMETERS,
            // The error byte counts too.
            Self::Dynamixel(_) => dynamixel::MAX_PACKET - dynamixel::MAX_PARAMETERS + 1,
        }
    }

    /// Makes the bytes of a request; [`bytes`](Self::bytes) are they.
    pub fn emit(&mut self, request: &Request<'_>) -> Result<(), BusError> {
        match self {
            Self::Feetech(codec) => {
                to_feetech(request)?.emit(&mut codec.request).map_err(|_| BusError::TooLong)
            }
            Self::Dynamixel(codec) => codec.emit(request).map_err(|_| BusError::TooLong),
        }
    }

    /// The request as it goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Feetech(codec) => &codec.request,
            Self::Dynamixel(codec) => &codec.request,
        }
    }

    /// Forgets what came in. From now on an answer with more than `longest` bytes of data is damage.
    pub fn restart(&mut self, longest: usize) {
        match self {
            Self::Feetech(codec) => codec.decoder.restart(longest),
            // The error byte counts too.
            Self::Dynamixel(codec) => codec.decoder.restart(longest + 1),
        }
    }

    /// What comes next in what was fed and `input`, which is shortened by what was used.
    pub fn next<'c>(&'c mut self, input: &mut &[u8]) -> Option<Event<'c>> {
        match self {
            Self::Feetech(codec) => Some(from_feetech(codec.decoder.next(input)?, &codec.request)),
            Self::Dynamixel(codec) => codec.next(input),
        }
    }
}

impl Dynamixel {
    fn emit(&mut self, request: &Request<'_>) -> Result<(), dynamixel::TooLong> {
        use dynamixel::Request as To;
        self.fast = None;
        let out = &mut self.request;
        match *request {
            Request::Ping { id } => To::Ping { id }.emit(out),
            Request::Read { id, block: Block { address, size } } => {
                To::Read { id, address, size: size.into() }.emit(out)
            }
            Request::Write { id, address, data } => To::Write { id, address, data }.emit(out),
            Request::RegWrite { id, address, data } => To::RegWrite { id, address, data }.emit(out),
            Request::Action { id } => To::Action { id }.emit(out),
            Request::Reboot { id } => To::Reboot { id }.emit(out),
            Request::FactoryReset { id, keep } => To::FactoryReset { id, keep }.emit(out),
            Request::SyncWrite { address, size, blocks } => {
                To::SyncWrite { address, size: size.into(), blocks }.emit(out)
            }
            Request::SyncRead { block: Block { address, size }, ids, fast } => {
                let size = size.into();
                if !fast {
                    return To::SyncRead { address, size, ids }.emit(out);
                }
                self.expect_fast(ids.iter().map(|_| size))?;
                To::FastSyncRead { address, size, ids }.emit(&mut self.request)
            }
            Request::BulkRead { ids, blocks, fast } => {
                let mut asked: heapless::Vec<u8, { 5 * crate::joints::MAX_JOINTS }> =
                    heapless::Vec::new();
                for (id, Block { address, size }) in ids.iter().zip(blocks) {
                    let block = dynamixel::bulk_block(*id, *address, u16::from(*size));
                    asked.extend_from_slice(&block).map_err(|_| dynamixel::TooLong)?;
                }
                if !fast {
                    return To::BulkRead { blocks: &asked }.emit(out);
                }
                self.expect_fast(blocks.iter().map(|block| block.size.into()))?;
                To::FastBulkRead { blocks: &asked }.emit(&mut self.request)
            }
        }
    }

    fn expect_fast(&mut self, sizes: impl Iterator<Item = u16>) -> Result<(), dynamixel::TooLong> {
        let sizes: JointVec<u16> = sizes.collect();
        self.fast = Some(dynamixel::FastDecoder::new(sizes.into_iter())?);
        Ok(())
    }

    fn next<'c>(&'c mut self, input: &mut &[u8]) -> Option<Event<'c>> {
        let status = match &mut self.fast {
            Some(fast) => fast.next(input)?.map(Some),
            None => self.decoder.next(input)?.map(|packet| dynamixel::Status::parse(&packet)),
        };
        Some(match status {
            Ok(Some(dynamixel::Status { id, alert, refusal, data })) => {
                let trouble = if alert { trouble::ALERT } else { 0 };
                Event::Status(Status { id, trouble, refusal, data })
            }
            Ok(None) => Event::Echo,
            Err(dynamixel::Damage::Crc { id }) => Event::Damage(Damage::Checksum { id }),
            Err(dynamixel::Damage::Garbage { bytes }) => Event::Damage(Damage::Garbage { bytes }),
            Err(_) => Event::Damage(Damage::Length),
        })
    }
}

fn to_feetech<'a>(request: &Request<'a>) -> Result<feetech::Request<'a>, BusError> {
    // No Feetech servo has a register beyond 255.
    let narrow = |address: u16| u8::try_from(address).map_err(|_| BusError::Address { address });
    Ok(match *request {
        Request::Ping { id } => feetech::Request::Ping { id },
        Request::Read { id, block } => {
            feetech::Request::Read { id, address: narrow(block.address)?, size: block.size }
        }
        Request::Write { id, address, data } => {
            feetech::Request::Write { id, address: narrow(address)?, data }
        }
        Request::RegWrite { id, address, data } => {
            feetech::Request::RegWrite { id, address: narrow(address)?, data }
        }
        Request::Action { id } => feetech::Request::Action { id },
        Request::SyncRead { block, ids, .. } => {
            feetech::Request::SyncRead { address: narrow(block.address)?, size: block.size, ids }
        }
        Request::SyncWrite { address, size, blocks } => {
            feetech::Request::SyncWrite { address: narrow(address)?, size, blocks }
        }
        Request::Reboot { id } => feetech::Request::Reboot { id },
        // Its factory reset always keeps the id.
        Request::FactoryReset { id, keep: Keep::Id } => feetech::Request::FactoryReset { id },
        Request::BulkRead { .. } | Request::FactoryReset { .. } => {
            return Err(BusError::Unsupported { protocol: Protocol::Feetech });
        }
    })
}

fn from_feetech<'a>(
    event: Result<feetech::Packet<'a>, feetech::Damage>,
    request: &[u8],
) -> Event<'a> {
    match event {
        // A ping looks like the answer to it when the voltage bit is set, so it is never taken for
        // an echo.
        Ok(packet)
            if !packet.parameters.is_empty()
                && feetech::Packet::new_checked(request).as_ref() == Ok(&packet) =>
        {
            Event::Echo
        }
        Ok(packet) => {
            let feetech::Status { id, error, data } = feetech::Status::parse(&packet);
            Event::Status(Status { id, trouble: error, refusal: None, data })
        }
        Err(feetech::Damage::Garbage { bytes }) => Event::Damage(Damage::Garbage { bytes }),
        Err(feetech::Damage::Length { .. }) => Event::Damage(Damage::Length),
        Err(feetech::Damage::Checksum { id }) => Event::Damage(Damage::Checksum { id }),
    }
}
