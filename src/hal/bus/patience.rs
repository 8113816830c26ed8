//! How long an answer is waited for: what the wire takes, and how late answers were of late.

use std::time::Duration;

/// Bits that a byte takes on the wire: start, 8 of data, stop.
const BITS: u64 = 10;
/// Waiting is never cut finer than this: what a clock and a scheduler may be off by.
const GRAIN: Duration = Duration::from_micros(250);
/// The wait grows to this many times two at most.
const MOST_DOUBLINGS: u32 = 6;

/// Learned from the answers, as TCP learns when to send again (RFC 6298): the mean of how late they
/// were and four times its mean deviation, and twice that for each time that nothing came at all.
/// What makes them late is the servo, the adapter and this computer; nothing is assumed of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    byte: Duration,
    /// Mean and mean deviation; `None` before the first answer.
    late: Option<(Duration, Duration)>,
    doublings: u32,
}

/// What is to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// Bytes in all.
    pub bytes: usize,
    /// Of them as many as may come at once, after nothing.
    pub piece: usize,
}

impl Expected {
    /// How many bytes may be next; adapters that gather bytes hand on more.
    pub fn next(self) -> usize {
        self.bytes.min(self.piece)
    }

    /// So many of the bytes have come.
    pub fn without(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.saturating_sub(bytes), ..self }
    }
}

impl Patience {
    /// On a wire of so many bit/s.
    pub fn new(baud: u32) -> Self {
        let byte = Duration::from_nanos(BITS * 1_000_000_000 / u64::from(baud.max(1)));
        Self { byte, late: None, doublings: 0 }
    }

    /// How long the wire takes for so many bytes.
    pub fn wire(&self, bytes: usize) -> Duration {
        self.byte * bytes as u32
    }

    /// How many bytes go over the wire in a time.
    pub fn bytes(&self, time: Duration) -> usize {
        (time.as_nanos() / self.byte.as_nanos().max(1)) as usize
    }

    /// How long nothing may come before what is expected; `None` as long as there was no answer.
    pub fn pause(&self, expected: Expected) -> Option<Duration> {
        Some(self.wire(expected.next()) + self.margin()?)
    }

    /// How late an answer may be.
    fn margin(&self) -> Option<Duration> {
        let (mean, deviation) = self.late?;
        Some((mean + GRAIN.max(4 * deviation)) * (1 << self.doublings))
    }

    /// Whether there were answers to learn from.
    pub fn learned(&self) -> bool {
        self.late.is_some()
    }

    /// An answer came so much later than the wire alone would have it.
    pub fn learn(&mut self, late: Duration) {
        self.doublings = 0;
        self.late = Some(match self.late {
            None => (late, late / 2),
            Some((mean, deviation)) => {
                ((7 * mean + late) / 8, (3 * deviation + mean.abs_diff(late)) / 4)
            }
        });
    }

    /// Nothing came.
    pub fn give_up(&mut self) {
        self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn learned(late: impl IntoIterator<Item = Duration>) -> Patience {
        let mut patience = Patience::new(1_000_000);
        late.into_iter().for_each(|late| patience.learn(late));
        patience
    }

    #[test]
    fn the_wire_takes_ten_bits_a_byte() {
        let patience = Patience::new(1_000_000);
        assert_eq!(patience.wire(100), MS);
        assert_eq!(patience.bytes(MS), 100);
    }

    #[test]
    fn answers_that_are_always_as_late_are_waited_for_little_longer() {
        assert_eq!(Patience::new(1_000_000).margin(), None);
        assert_eq!(learned([16 * MS]).margin(), Some(48 * MS));
        let margin = learned([16 * MS; 40]).margin().unwrap();
        assert!((16 * MS..17 * MS).contains(&margin), "{margin:?}");
    }

    #[test]
    fn a_slower_adapter_is_learned_and_uneven_answers_are_waited_for_longer() {
        let slower = learned([[MS; 40], [4 * MS; 40]].concat()).margin().unwrap();
        assert!((4 * MS..5 * MS).contains(&slower), "{slower:?}");
        let uneven = learned([MS, 3 * MS].repeat(40)).margin().unwrap();
        assert!(uneven > 5 * MS, "{uneven:?}");
    }

    #[test]
    fn silence_doubles_the_wait_up_to_a_bound_and_an_answer_ends_that() {
        let mut patience = learned([MS; 40]);
        let margin = patience.margin().unwrap();
        patience.give_up();
        assert_eq!(patience.margin(), Some(2 * margin));
        (0..100).for_each(|_| patience.give_up());
        assert_eq!(patience.margin(), Some(64 * margin));
        patience.learn(MS);
        assert!(patience.margin().unwrap() <= margin);
    }
}
