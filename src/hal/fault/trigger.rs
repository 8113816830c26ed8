//! When a fault happens.

use std::time::Duration;

use rand::RngExt as _;

use super::Fault;
use crate::clock::Time;
use crate::rng::Rng;

/// One fault and what it has done so far.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) fault: Fault,
    /// Goes on until then, for each id that it has happened to.
    until: [Time; 256],
}

/// What may fail now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occasion {
    /// Since the start.
    pub(crate) elapsed: Duration,
    pub(crate) transaction: u64,
    /// Whose packet or which servo.
    pub(crate) id: Option<u8>,
}

impl Trigger {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, until: [Time::ZERO; 256] }
    }

    /// Whether it happens now. Draws from `rng` whenever its conditions hold.
    pub(crate) fn strikes(&mut self, occasion: Occasion, rng: &mut Rng) -> bool {
        if !self.concerns(occasion) {
            return false;
        }
        if self.started_before(occasion) {
            return true;
        }
        let struck = self.may(occasion) && rng.random::<f64>() < self.fault.rate;
        if struck
            && let Some(lasting) = self.fault.for_s
            && let Some(until) = self.until.get_mut(place(occasion))
        {
            *until = Time::ZERO + occasion.elapsed + Duration::from_secs_f64(lasting);
        }
        struck
    }

    /// Whether it goes on once it has happened: as long as it says, else while its conditions hold.
    pub(crate) fn lasts(&self, occasion: Occasion) -> bool {
        match self.fault.for_s {
            Some(_) => self.started_before(occasion),
            None => self.may(occasion),
        }
    }

    fn concerns(&self, occasion: Occasion) -> bool {
        self.fault.id.is_none_or(|id| occasion.id == Some(id))
    }

    fn started_before(&self, occasion: Occasion) -> bool {
        let until = self.until.get(place(occasion)).copied().unwrap_or_default();
        Time::ZERO + occasion.elapsed < until
    }

    /// Whether all its conditions hold but for chance.
    fn may(&self, occasion: Occasion) -> bool {
        let fault = &self.fault;
        let seconds = occasion.elapsed.as_secs_f64();
        fault.from_s.is_none_or(|from| seconds >= from)
            && fault.until_s.is_none_or(|until| seconds < until)
            && fault.period_s.is_none_or(|period| first_half(occasion.elapsed, period))
            && fault.transaction.is_none_or(|number| number == occasion.transaction)
    }
}

fn place(occasion: Occasion) -> usize {
    usize::from(occasion.id.unwrap_or(u8::MAX))
}

/// Whether a time lies in the first half of its period (s).
fn first_half(elapsed: Duration, period: f64) -> bool {
    let period = Duration::from_secs_f64(period).as_nanos().max(1);
    elapsed.as_nanos() % period < period / 2
}
