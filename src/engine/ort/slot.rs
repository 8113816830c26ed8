//! Tensors at a fixed place, on the host or on a card.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::{PrimitiveTensorElementType, Tensor};

use crate::engine::Device;

/// A tensor where the session runs, with its twin on the host if that is elsewhere. Its address
/// never changes: it is bound once, and CUDA graphs may hold on to it.
pub(super) struct Slot<T: PrimitiveTensorElementType + Copy + std::fmt::Debug> {
    host: Tensor<T>,
    card: Option<Tensor<T>>,
}

impl<T: PrimitiveTensorElementType + Copy + std::fmt::Debug> Slot<T> {
    pub(super) fn new(session: &Session, device: Device, dims: &[usize]) -> ort::Result<Self> {
        let host = Tensor::new(&Allocator::default(), dims)?;
        let on_card = || {
            let memory = MemoryInfo::new(
                AllocationDevice::CUDA,
                0,
                AllocatorType::Device,
                MemoryType::Default,
            )?;
            Tensor::new(&Allocator::new(session, memory)?, dims)
        };
        let card = (device == Device::Cuda).then(on_card).transpose()?;
        Ok(Self { host, card })
    }

    pub(super) fn of(
        session: &Session,
        device: Device,
        dims: &[usize],
        data: &[T],
    ) -> ort::Result<Self> {
        let mut slot = Self::new(session, device, dims)?;
        slot.write(data)?;
        Ok(slot)
    }

    /// What to bind.
    pub(super) fn tensor(&self) -> &Tensor<T> {
        self.card.as_ref().unwrap_or(&self.host)
    }

    /// What to bind as an output.
    pub(super) fn tensor_mut(&mut self) -> &mut Tensor<T> {
        self.card.as_mut().unwrap_or(&mut self.host)
    }

    /// Copies `data`, which must have the tensor's size.
    pub(super) fn write(&mut self, data: &[T]) -> ort::Result<()> {
        let place = self.host.extract_tensor_mut().1;
        if place.len() != data.len() {
            let sizes = format!("expected {} elements, found {}", place.len(), data.len());
            return Err(ort::Error::new(sizes));
        }
        place.copy_from_slice(data);
        match &mut self.card {
            Some(card) => self.host.copy_into(card),
            None => Ok(()),
        }
    }

    /// Hands the elements to `take`.
    pub(super) fn read<R>(&self, take: impl FnOnce(&[T]) -> R) -> ort::Result<R> {
        match &self.card {
            Some(card) => Ok(take(card.to(AllocationDevice::CPU, 0)?.extract_tensor().1)),
            None => Ok(take(self.host.extract_tensor().1)),
        }
    }
}
