//! A bus of servos that speak Feetech's protocol.

use std::time::Duration;

use super::{Answer, Bus, Servo};
use crate::hal::wire::feetech::{BROADCAST, Decoder, PacketBuf, Request, Status};

/// The servos' end of the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    decoder: Decoder,
}

impl Line {
    /// Serves the requests in `bytes`, which come in any cuts.
    pub(super) fn serve(&mut self, mut bus: Bus<'_>, mut bytes: &[u8], answer: &mut Answer<'_>) {
        let mut packet = PacketBuf::new();
        let mut reply = |status: Status<'_>| {
            if status.emit(&mut packet).is_ok() {
                answer(Duration::ZERO, &packet);
            }
        };
        while let Some(event) = self.decoder.next(&mut bytes) {
            if let Some(request) = event.ok().and_then(|packet| Request::parse(&packet)) {
                bus.heard();
                serve(&mut bus, request, &mut reply);
            }
        }
    }
}

fn serve(bus: &mut Bus<'_>, request: Request<'_>, reply: &mut dyn FnMut(Status<'_>)) {
    let conditions = bus.conditions;
    match request {
        Request::Ping { id } => {
            bus.each(id, BROADCAST, &mut |servo| reply(status(servo.id(), servo, &[])));
        }
        Request::Read { id: BROADCAST, .. } => {}
        Request::Read { id, address, size } => bus.each(id, BROADCAST, &mut |servo| {
            servo.measure(&conditions);
            reply(status(id, servo, servo.registers.read(address.into(), size.into())));
        }),
        Request::SyncRead { address, size, ids } => {
            for id in ids.iter().filter(|id| **id != BROADCAST) {
                serve(bus, Request::Read { id: *id, address, size }, reply);
            }
        }
        Request::SyncWrite { address, size, blocks } => {
            for block in blocks.chunks_exact(usize::from(size) + 1) {
                if let [id, data @ ..] = block {
                    bus.each(*id, BROADCAST, &mut |servo| {
                        servo.write(address.into(), data);
                    });
                }
            }
        }
        Request::Write { id, address, data } => bus.each(id, BROADCAST, &mut |servo| {
            servo.write(address.into(), data);
            acknowledge(id, servo, reply);
        }),
        Request::RegWrite { id, address, data } => bus.each(id, BROADCAST, &mut |servo| {
            servo.prepare(address.into(), data);
            acknowledge(id, servo, reply);
        }),
        Request::Action { id } => bus.each(id, BROADCAST, &mut |servo| {
            servo.act();
            acknowledge(id, servo, reply);
        }),
        Request::FactoryReset { id } => bus.each(id, BROADCAST, &mut |servo| {
            acknowledge(id, servo, reply);
            servo.factory_reset();
        }),
        Request::Reboot { id } => bus.each(id, BROADCAST, &mut |servo| {
            acknowledge(id, servo, reply);
            servo.power_cycle();
        }),
    }
}

fn status<'a>(id: u8, servo: &Servo, data: &'a [u8]) -> Status<'a> {
    Status { id, error: servo.troubles(), data }
}

/// What a servo that was told something says, if it is one that says it: under the id that it was
/// told it by, though that may have been changed.
fn acknowledge(to: u8, servo: &Servo, reply: &mut dyn FnMut(Status<'_>)) {
    if to != BROADCAST && servo.answers_all() {
        reply(status(to, servo, &[]));
    }
}
