//! Time as a value that is passed in: the wall's clock never steers anything.

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A monotonic instant, nanoseconds since an arbitrary origin.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);

    /// An instant this many seconds after the origin.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self((secs * 1e9) as u64)
    }

    /// Seconds since the origin.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The date, nanoseconds since 1970-01-01 UTC: for logs, file names and expiry only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime(pub u64);

const DAY_NANOS: u64 = 86_400_000_000_000;

impl WallTime {
    /// The begin of a day that is written as `2026-01-31`, UTC; none for any other text.
    pub fn from_date(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        if !(1970..2500).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        // Years begin in March, so that the leap day is the last (Hinnant's calendar algorithms).
        let from_march = (month + 9) % 12;
        let year = year - u64::from(month < 3);
        let before = year * 365 + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5;
        let time = Self((before + day).checked_sub(719_469)?.checked_mul(DAY_NANOS)?);
        (time.date() == text).then_some(time)
    }

    /// The day as `2026-01-31`, UTC.
    pub fn date(self) -> String {
        let days = self.0 / DAY_NANOS + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * years + years / 4 - years / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + years + u64::from(month < 3);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Where time comes from: the machine in service, a counter in tests.
pub trait Clock: Send + Sync {
    /// The monotonic time now.
    fn now(&self) -> Time;
    /// The date now; may jump.
    fn wall(&self) -> WallTime;
    /// Returns at `deadline` or later; at once when it has passed.
    fn sleep_until(&self, deadline: Time);
}

/// Processor time that this process has used in all its threads.
pub fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.max(0) as u64, used.tv_nsec as u32)
}

/// The machine's clocks: `CLOCK_MONOTONIC` with absolute sleeps, and the date.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Time(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    fn wall(&self) -> WallTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        WallTime((now.tv_sec.max(0) as u64) * 1_000_000_000 + now.tv_nsec as u64)
    }

    fn sleep_until(&self, deadline: Time) {
        let request = rustix::time::Timespec {
            tv_sec: (deadline.0 / 1_000_000_000) as i64,
            tv_nsec: (deadline.0 % 1_000_000_000) as i64,
        };
        // A signal may end the sleep early; the deadline is absolute, so go back to sleep.
        while rustix::thread::clock_nanosleep_absolute(rustix::thread::ClockId::Monotonic, &request)
            == Err(rustix::io::Errno::INTR)
        {}
    }
}

/// A clock that moves only when it is told to, or when somebody sleeps on it: virtual time.
/// Clones share one time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
}

impl ManualClock {
    /// The date at the origin of virtual time: 2026-01-01 UTC.
    pub const EPOCH: WallTime = WallTime(1_767_225_600_000_000_000);

    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let to = Time(self.now.load(Ordering::Relaxed)) + by;
        self.now.store(to.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.now.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(Self::EPOCH.0 + self.now().0)
    }

    fn sleep_until(&self, deadline: Time) {
        self.now.fetch_max(deadline.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_sleep_moves_time_to_the_deadline_and_never_back() {
        let clock = ManualClock::default();
        clock.sleep_until(Time(500));
        clock.sleep_until(Time(200));
        assert_eq!(clock.now(), Time(500));
    }

    #[test]
    fn every_day_has_its_date_and_what_is_no_date_has_no_day() {
        let mut day = WallTime(0);
        assert_eq!(day.date(), "1970-01-01");
        assert_eq!(ManualClock::EPOCH.date(), "2026-01-01");
        for _ in 0..190_000 {
            assert_eq!(WallTime::from_date(&day.date()), Some(day), "{}", day.date());
            day = day + Duration::from_hours(24);
        }
        for text in ["", "2026", "2026-02-30", "2027-02-29", "2026-1-1", "2026-13-01", "1969-12-31"]
        {
            assert_eq!(WallTime::from_date(text), None, "{text}");
        }
        assert!(WallTime::from_date("2028-02-29").is_some());
    }

    #[test]
    fn system_sleep_returns_after_its_deadline() {
        let deadline = SystemClock.now() + Duration::from_millis(2);
        SystemClock.sleep_until(deadline);
        assert!(SystemClock.now() >= deadline);
    }
}
