//! A bus of servos that speak Dynamixel Protocol 2.0.

use std::time::Duration;

use super::{Answer, Bus, Servo, x_series};
use crate::hal::servo::dynamixel as table;
use crate::hal::wire::dynamixel::{
    BROADCAST, Decoder, Keep, PacketBuf, Refusal, Request, Status, bulk_reads, bulk_writes,
    emit_fast,
};

/// The bytes of a common answer before the first servo's part.
const FAST_START: usize = 8;
/// Error byte, id and CRC of a part.
const FAST_PART: usize = 4;
/// Addresses from here on cannot be read: the XL330's indirect data ends here.
const END: usize = 228;
/// One unit of `Return_Delay_Time`.
const RETURN_DELAY: Duration = Duration::from_micros(2);

/// The servos' end of the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    decoder: Decoder,
}

impl Line {
    /// Serves the requests in `bytes`, which come in any cuts.
    pub(super) fn serve(&mut self, mut bus: Bus<'_>, mut bytes: &[u8], answer: &mut Answer<'_>) {
        while let Some(event) = self.decoder.next(&mut bytes) {
            if let Some(request) = event.ok().and_then(|packet| Request::parse(&packet)) {
                bus.heard();
                serve(&mut bus, request, answer);
            }
        }
    }
}

fn serve(bus: &mut Bus<'_>, request: Request<'_>, answer: &mut Answer<'_>) {
    match request {
        Request::Ping { id } => bus.each(id, BROADCAST, &mut |servo| {
            let data: Vec<u8> = [servo.registers.read(0, 2), servo.registers.read(6, 1)].concat();
            reply(servo, servo.id(), None, &data, answer);
        }),
        Request::Read { id: BROADCAST, .. } => {}
        Request::Read { id, address, size } => read(bus, id, address, size, answer),
        Request::SyncRead { address, size, ids } => {
            ids.iter().for_each(|id| read(bus, *id, address, size, answer));
        }
        Request::BulkRead { blocks } => {
            bulk_reads(blocks).for_each(|(id, address, size)| read(bus, id, address, size, answer));
        }
        Request::FastSyncRead { address, size, ids } => {
            read_fast(bus, ids.iter().map(|id| (*id, address, size)), answer);
        }
        Request::FastBulkRead { blocks } => read_fast(bus, bulk_reads(blocks), answer),
        Request::SyncWrite { address, size, blocks } => {
            for block in blocks.chunks_exact(usize::from(size) + 1) {
                if let [id, data @ ..] = block {
                    write(bus, *id, address, data);
                }
            }
        }
        Request::BulkWrite { blocks } => {
            bulk_writes(blocks).for_each(|(id, address, data)| write(bus, id, address, data));
        }
        request => tell(bus, request, answer),
    }
}

/// Serves what a servo does and then says that it did.
fn tell(bus: &mut Bus<'_>, request: Request<'_>, answer: &mut Answer<'_>) {
    let (Request::Write { id, .. }
    | Request::RegWrite { id, .. }
    | Request::Action { id }
    | Request::FactoryReset { id, .. }
    | Request::Reboot { id }
    | Request::ClearMultiTurn { id }) = request
    else {
        return;
    };
    bus.each(id, BROADCAST, &mut |servo| {
        // The last word of one that begins anew comes before.
        let says = id != BROADCAST && servo.answers_all();
        let restarts = matches!(request, Request::Reboot { .. } | Request::FactoryReset { .. });
        if says && restarts {
            reply(servo, id, None, &[], answer);
        }
        let refusal = obey(servo, &request);
        if says && !restarts {
            reply(servo, id, refusal, &[], answer);
        }
    });
}

fn obey(servo: &mut Servo, request: &Request<'_>) -> Option<Refusal> {
    match *request {
        Request::Write { address, data, .. } => {
            return Refusal::of_number(servo.write(address.into(), data));
        }
        Request::RegWrite { address, data, .. } => {
            servo.prepare(address.into(), data);
            servo.registers.set(&table::REGISTERED, 1);
        }
        Request::Action { .. } => {
            if servo.get(&table::REGISTERED) == 0 {
                return Some(Refusal::Instruction);
            }
            servo.registers.set(&table::REGISTERED, 0);
            servo.act();
        }
        Request::FactoryReset { id: BROADCAST, keep: Keep::Nothing } => {}
        Request::FactoryReset { keep, .. } => reset(servo, keep),
        Request::Reboot { .. } => servo.power_cycle(),
        Request::ClearMultiTurn { .. } => {
            if servo.get(&table::TORQUE_ENABLE) != 0 {
                return Some(Refusal::ResultFail);
            }
            servo.forget_turns();
        }
        _ => {}
    }
    None
}

fn reset(servo: &mut Servo, keep: Keep) {
    let (id, baud) = (servo.get(&table::ID), servo.get(&table::BAUD_RATE));
    servo.factory_reset();
    if keep != Keep::Nothing {
        servo.set(&table::ID, id);
    }
    if keep == Keep::IdAndBaudRate {
        servo.set(&table::BAUD_RATE, baud);
    }
}

fn write(bus: &mut Bus<'_>, id: u8, address: u16, data: &[u8]) {
    bus.each(id, BROADCAST, &mut |servo| {
        servo.write(address.into(), data);
    });
}

fn read(bus: &mut Bus<'_>, id: u8, address: u16, size: u16, answer: &mut Answer<'_>) {
    if id == BROADCAST {
        return;
    }
    let conditions = bus.conditions;
    bus.each(id, BROADCAST, &mut |servo| {
        if servo.get(&table::STATUS_RETURN_LEVEL) == 0 {
            return;
        }
        servo.measure(&conditions);
        let (address, size) = (usize::from(address), usize::from(size));
        let (refusal, data) = match address + size <= END {
            true => (None, servo.registers.read(address, size)),
            false => (Some(Refusal::Access), &[][..]),
        };
        reply(servo, id, refusal, data, answer);
    });
}

/// One answer of several servos, which ends where one of them is missing.
fn read_fast(
    bus: &mut Bus<'_>,
    blocks: impl Iterator<Item = (u8, u16, u16)>,
    answer: &mut Answer<'_>,
) {
    let conditions = bus.conditions;
    let (mut parts, mut said, mut delay) = (Vec::new(), FAST_START, None);
    let mut complete = true;
    for (id, address, size) in blocks {
        let mut part = (id, false, vec![0; size.into()]);
        let mut there = false;
        bus.each(id, BROADCAST, &mut |servo| {
            servo.measure(&conditions);
            let data = servo.registers.read(address.into(), size.into());
            part.2.iter_mut().zip(data).for_each(|(to, byte)| *to = *byte);
            part.1 = x_series::hardware_error(servo) != 0;
            delay.get_or_insert(wait(servo));
            there = id != BROADCAST;
        });
        complete &= there;
        said += if complete { usize::from(size) + FAST_PART } else { 0 };
        parts.push(part);
    }
    let statuses = parts.iter().map(|(id, alert, data)| Status {
        id: *id,
        alert: *alert,
        refusal: None,
        data,
    });
    let mut packet = PacketBuf::new();
    // Without the first servo nobody begins.
    if said > FAST_START && emit_fast(&mut packet, statuses).is_ok() {
        answer(delay.unwrap_or_default(), packet.get(..said).unwrap_or(&packet));
    }
}

fn reply(servo: &Servo, id: u8, refusal: Option<Refusal>, data: &[u8], answer: &mut Answer<'_>) {
    let alert = x_series::hardware_error(servo) != 0;
    let mut packet = PacketBuf::new();
    if (Status { id, alert, refusal, data }).emit(&mut packet).is_ok() {
        answer(wait(servo), &packet);
    }
}

/// How long a servo waits before it answers.
fn wait(servo: &Servo) -> Duration {
    RETURN_DELAY * servo.get(&table::RETURN_DELAY).max(0) as u32
}
