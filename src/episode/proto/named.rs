//! Numbers whose names stand in the schema.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, float, skip_field};
use prost::{DecodeError, Message};

/// A message with a field for each number, from 1 on: one per joint, or per part of a goal. Zero is
/// written too, so that how many there are, the sign of zero and the bits of a NaN survive.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Named<const N: usize>(heapless::Vec<f32, N>);

impl<const N: usize> Named<N> {
    /// Nothing is written of nothing.
    pub(super) fn from_values(values: &heapless::Vec<f32, N>) -> Option<Self> {
        (!values.is_empty()).then(|| Self(values.clone()))
    }

    pub(super) fn values(message: &Option<Self>) -> heapless::Vec<f32, N> {
        message.as_ref().map_or_else(heapless::Vec::new, |named| named.0.clone())
    }
}

impl<const N: usize> Message for Named<N> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        (1..).zip(&self.0).for_each(|(tag, value)| float::encode(tag, value, buf));
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag as usize != self.0.len() + 1 || self.0.is_full() {
            return skip_field(wire_type, tag, buf, context);
        }
        let mut value = 0.0;
        float::merge(wire_type, &mut value, buf, context)?;
        // There is room, as was just seen.
        let _ = self.0.push(value);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        (1..).zip(&self.0).map(|(tag, value)| float::encoded_len(tag, value)).sum()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
