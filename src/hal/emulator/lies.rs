//! The faults of a specification that servos have.

use super::servo::Servo;
use crate::clock::Time;
use crate::hal::fault::{FaultSpec, Kind, Occasion, Trigger};
use crate::rng::{self, Rng};

/// What is wrong with a servo that its registers do not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Defects {
    /// Says nothing and hears nothing.
    pub silent: bool,
    /// Its measurements stay as they are.
    pub stuck: bool,
    /// Ticks that its position is off by.
    pub offset: i32,
    /// Its position runs the other way around the middle.
    pub mirrored: bool,
    /// Keeps no write to its EEPROM.
    pub eeprom_refused: bool,
    /// Troubles it reports, bits of [`trouble`](crate::hal::servo::trouble).
    pub status: u8,
}

/// What is to go wrong with the servos.
#[derive(Debug, Clone, Default)]
pub(super) struct Lies(Option<Active>);

#[derive(Debug, Clone)]
struct Active {
    triggers: Vec<Trigger>,
    rng: Rng,
    start: Time,
    requests: u64,
}

impl Lies {
    pub(super) fn new(spec: &FaultSpec, seed: u64, start: Time) -> Self {
        let of_servos = spec.fault.iter().filter(|fault| fault.kind.of_servo());
        let triggers: Vec<Trigger> = of_servos.cloned().map(Trigger::new).collect();
        let rng = rng::item(seed, rng::Stream::Faults, 1);
        let active = !triggers.is_empty();
        Self(active.then_some(Active { triggers, rng, start, requests: 0 }))
    }

    /// A request has come: what is wrong with the servos is drawn anew.
    pub(super) fn strike(&mut self, now: Time, servos: &mut [Servo]) {
        let Some(active) = &mut self.0 else { return };
        let elapsed = now.since(active.start);
        for servo in servos {
            let occasion = Occasion { elapsed, transaction: active.requests, id: Some(servo.id()) };
            servo.suffer(Defects::default());
            let mut defects = Defects::default();
            for trigger in &mut active.triggers {
                if !trigger.strikes(occasion, &mut active.rng) {
                    continue;
                }
                let fault = &trigger.fault;
                match fault.kind {
                    Kind::Silent => defects.silent = true,
                    Kind::Stuck => defects.stuck = true,
                    Kind::Offset => defects.offset += fault.ticks.unwrap_or(0),
                    Kind::Mirror => defects.mirrored = true,
                    Kind::Status => defects.status |= fault.bits.unwrap_or(0),
                    Kind::EepromRefused => defects.eeprom_refused = true,
                    Kind::BrownOut => servo.power_cycle(),
                    _ => {}
                }
            }
            servo.suffer(defects);
        }
        active.requests += 1;
    }
}
