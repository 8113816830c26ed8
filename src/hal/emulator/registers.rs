//! The register memory of an emulated servo, laid out by its model's table.

use crate::hal::servo::{Memory, Register};

/// Addresses from here on hold nothing.
const END: usize = 256;

/// The bytes of a servo's registers.
#[derive(Debug, Clone)]
pub(super) struct Registers {
    table: &'static [Register],
    bytes: [u8; END],
}

impl Registers {
    pub(super) fn new(table: &'static [Register]) -> Self {
        Self { table, bytes: [0; END] }
    }

    /// What a register holds.
    pub(super) fn get(&self, register: &Register) -> i32 {
        register.decode(self.read(register.address.into(), register.size.into())).unwrap_or(0)
    }

    /// Puts a value into a register; one that does not fit clears it.
    pub(super) fn set(&mut self, register: &Register, value: i32) {
        let bytes = register.encode(value).unwrap_or_default();
        let size = usize::from(register.size);
        let place = self.bytes.iter_mut().skip(register.address.into()).take(size);
        place.zip(bytes.iter().chain(std::iter::repeat(&0))).for_each(|(to, byte)| *to = *byte);
    }

    /// The bytes from `address` on, as far as there are any.
    pub(super) fn read(&self, address: usize, size: usize) -> &[u8] {
        let rest = self.bytes.get(address..).unwrap_or_default();
        rest.get(..size).unwrap_or(rest)
    }

    /// Puts those bytes of `data`, which begins at `address`, into a register that belong there.
    pub(super) fn store(&mut self, register: &Register, address: usize, data: &[u8]) {
        for at in usize::from(register.address)..usize::from(register.end()) {
            let byte = at.checked_sub(address).and_then(|index| data.get(index));
            if let (Some(place), Some(byte)) = (self.bytes.get_mut(at), byte) {
                *place = *byte;
            }
        }
    }

    /// The registers that `size` bytes from `address` on touch, by address.
    pub(super) fn touched(
        &self,
        address: usize,
        size: usize,
    ) -> impl Iterator<Item = &'static Register> + use<> {
        let end = address + size;
        self.table.iter().filter(move |register| {
            usize::from(register.address) < end && address < usize::from(register.end())
        })
    }

    /// Sets all registers kept in `memory` to what a new servo has in them.
    pub(super) fn reset(&mut self, memory: Memory) {
        for register in self.table.iter().filter(|register| register.memory == memory) {
            self.set(register, register.default.unwrap_or(0));
        }
    }

    /// What a new servo has in the register at this one's address.
    pub(super) fn default(&self, register: &Register) -> Option<i32> {
        self.table.iter().find(|other| other.address == register.address)?.default
    }
}
