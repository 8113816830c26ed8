//! When a process that controls an arm counts as hung, and how often it is started again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Time;

/// How often a supervisor looks.
pub const LOOK: Duration = Duration::from_millis(5);
/// So much of the time between two looks counts: a supervisor that did not run itself, on a computer
/// that is overloaded or was asleep, holds the rest against nobody.
const COUNTED: Duration = Duration::from_millis(10);
/// Time for the first tick: policies and libraries are loaded before.
const FIRST_TICK: Duration = Duration::from_secs(60);
/// So many starts within this time; more would wear an arm out that a person must look at.
const STARTS: usize = 4;
const WITHIN: Duration = Duration::from_secs(60);

/// Watches a counter that shall go on growing.
#[derive(Debug)]
pub struct Watch {
    limit: Duration,
    ticks: u64,
    quiet: Duration,
    looked: Time,
}

impl Watch {
    /// A watch on a process that is being started; hung without a tick for `limit`.
    pub fn new(limit: Duration, now: Time) -> Self {
        Self { limit, ticks: 0, quiet: Duration::ZERO, looked: now }
    }

    /// Whether the counter has stood still for too long.
    pub fn is_stuck(&mut self, ticks: u64, now: Time) -> bool {
        self.quiet += now.since(self.looked).min(COUNTED);
        self.looked = now;
        if ticks != self.ticks {
            self.ticks = ticks;
            self.quiet = Duration::ZERO;
        }
        self.quiet >= if ticks == 0 { FIRST_TICK } else { self.limit }
    }

    /// Whether the last look found that it had grown.
    pub fn grows(&self) -> bool {
        self.quiet.is_zero()
    }
}

/// Counts starts.
#[derive(Debug, Default)]
pub struct StartLimit {
    starts: VecDeque<Time>,
}

impl StartLimit {
    /// Whether it may be started now; counted if so.
    pub fn start(&mut self, now: Time) -> bool {
        while self.starts.front().is_some_and(|start| now.since(*start) > WITHIN) {
            self.starts.pop_front();
        }
        let may = self.starts.len() < STARTS;
        if may {
            self.starts.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    /// Looks until it is stuck; how long after the last tick that was.
    fn stuck_after(ticks: u64, look: Duration) -> Duration {
        let (mut now, last) = (Time::ZERO, Time::ZERO + look);
        let mut watch = Watch::new(LIMIT, now);
        for _ in 0..1_000_000 {
            now = now + look;
            if watch.is_stuck(ticks, now) {
                return now.since(last);
            }
        }
        Duration::MAX
    }

    #[test]
    fn a_counter_that_stands_still_is_found_at_the_limit_and_a_growing_one_never() {
        assert_eq!(stuck_after(5, LOOK), LIMIT);
        let mut watch = Watch::new(LIMIT, Time::ZERO);
        for ms in 0..10_000 {
            assert!(!watch.is_stuck(1 + ms / 99, Time(ms * 1_000_000)), "{ms}");
            assert_eq!(watch.grows(), ms % 99 == 0, "{ms}");
        }
    }

    #[test]
    fn before_the_first_tick_there_is_time_to_load() {
        let found = stuck_after(0, LOOK);
        assert!(found >= FIRST_TICK - LOOK && found <= FIRST_TICK, "{found:?}");
    }

    #[test]
    fn time_in_which_the_supervisor_did_not_run_is_held_against_nobody() {
        let mut watch = Watch::new(LIMIT, Time::ZERO);
        assert!(!watch.is_stuck(1, Time(1)));
        assert!(!watch.is_stuck(1, Time::from_secs_f64(3600.0)));
        assert_eq!(stuck_after(5, Duration::from_secs(1)), Duration::from_secs(10));
    }

    #[test]
    fn starts_are_limited_and_forgotten_after_a_while() {
        let mut limit = StartLimit::default();
        let at = Time::from_secs_f64;
        assert!((0..4).all(|i| limit.start(at(f64::from(i)))));
        assert!(!limit.start(at(5.0)));
        assert!(limit.start(at(61.0)), "the first one is a minute ago");
        assert!(!limit.start(at(61.0)));
    }
}
