//! Randomness as a value that is passed in: every stream of numbers has a name and a seed.

use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// The generator used everywhere: the same numbers on every machine.
pub type Rng = rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. Streams with different purposes are disjoint: they are
/// separate keys of one block cipher, so attempts never see a held-out goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Goals of demonstrations.
    Demonstrations = 1,
    /// Goals of the robot's own attempts.
    Attempts = 2,
    /// Goals a candidate policy must pass before it is swapped in.
    Validation = 3,
    /// Goals that success rates are reported on.
    HeldOut = 4,
    /// Initial weights.
    Weights = 5,
    /// Batches, relabelling and training noise.
    Training = 6,
    /// Exploration noise.
    Exploration = 7,
    /// The emulator's measurement noise.
    Emulator = 8,
    /// Faults of a line and of emulated servos.
    Faults = 9,
}

/// The generator of one stream.
pub fn stream(seed: u64, purpose: Stream) -> Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(b"regoal\0\0");
    Rng::from_seed(key)
}

/// The generator of item `index` of one stream, the same whatever was drawn before.
pub fn item(seed: u64, purpose: Stream, index: u64) -> Rng {
    let mut rng = stream(seed, purpose);
    rng.set_stream(index.wrapping_add(1));
    rng
}

/// A draw from the standard normal distribution (Box and Muller, 1958).
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// A 64-bit draw: a seed for something else.
pub fn seed_from(rng: &mut Rng) -> u64 {
    rng.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(draw(7, Stream::HeldOut), draw(7, Stream::HeldOut));
        assert_ne!(draw(7, Stream::HeldOut), draw(7, Stream::Attempts));
        assert_ne!(draw(7, Stream::HeldOut), draw(8, Stream::HeldOut));
        assert_ne!(item(7, Stream::HeldOut, 0).next_u64(), item(7, Stream::HeldOut, 1).next_u64());
    }

    #[test]
    fn normal_draws_have_zero_mean_and_unit_variance() {
        let mut rng = stream(1, Stream::Training);
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
