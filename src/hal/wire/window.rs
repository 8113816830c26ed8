//! The end of a stream in which the next packet is looked for.

/// Bytes of a stream from where the next packet may begin, never more than that packet has.
#[derive(Debug, Clone, Default)]
pub(super) struct Window<const N: usize> {
    bytes: heapless::Vec<u8, N>,
    /// Bytes at the front that were handed out.
    taken: usize,
}

/// What stands at the front of a window. It must follow from the stream alone, not from how much of
/// it is in the window already: then the packets found do not depend on the cuts.
pub(super) enum Scan<D> {
    /// A packet may begin here, and has at least so many bytes more.
    Partial { missing: usize },
    /// A packet of so many bytes.
    Whole { size: usize },
    /// No packet begins in the first `skip` bytes.
    Damaged { damage: D, skip: usize },
}

impl<const N: usize> Window<N> {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }

    /// The bytes of the next packet or what is wrong with the stream there; `input` is shortened by
    /// what was used. `None`: all was used and more is needed.
    pub(super) fn next<D>(
        &mut self,
        input: &mut &[u8],
        scan: impl Fn(&[u8]) -> Scan<D>,
    ) -> Option<Result<&mut [u8], D>> {
        let taken = core::mem::take(&mut self.taken);
        self.skip(taken);
        loop {
            match scan(&self.bytes) {
                Scan::Whole { size } => {
                    self.taken = size;
                    return self.bytes.get_mut(..size).map(Ok);
                }
                Scan::Damaged { damage, skip } => {
                    self.skip(skip);
                    return Some(Err(damage));
                }
                Scan::Partial { missing } => {
                    let (used, rest) = input.split_at(missing.min(input.len()));
                    if used.is_empty() || self.bytes.extend_from_slice(used).is_err() {
                        return None;
                    }
                    *input = rest;
                }
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        let len = self.bytes.len();
        let rest = len.saturating_sub(bytes);
        self.bytes.copy_within(len - rest.., 0);
        self.bytes.truncate(rest);
    }
}

/// The bytes up to the next one that is `first`, at least one: no packet begins in them.
pub(super) fn up_to(first: u8, bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    1 + rest.iter().position(|byte| *byte == first).unwrap_or(rest.len())
}
