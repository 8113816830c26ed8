//! What only the operating system can give, behind safe functions. The one file with `unsafe`.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::ioctl::{Opcode, Updater, ioctl};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Who comes first when two threads are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Emulated hardware.
    Hardware,
    /// The control thread.
    Control,
    /// The policy thread, which the control thread waits for.
    Policy,
}

/// Whether real-time scheduling was granted: 0 not asked for, 1 granted, 2 refused.
static REALTIME: AtomicU8 = AtomicU8::new(0);

/// Asks for `SCHED_FIFO` and exact timers for the calling thread; without the right to it the thread
/// stays as it is. [`realtime`] tells which it was.
pub fn become_realtime(priority: Priority) {
    let level = match priority {
        Priority::Hardware => 60u8,
        Priority::Control => 50,
        Priority::Policy => 40,
    };
    let level = level.try_into().map_or(ThreadPriority::Min, ThreadPriority::Crossplatform);
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let granted = set_thread_priority_and_policy(thread_native_id(), level, policy).is_ok();
    REALTIME.store(if granted { 1 } else { 2 }, Ordering::Relaxed);
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Whether the control thread got real-time scheduling; nothing before it has asked.
pub fn realtime() -> Option<bool> {
    match REALTIME.load(Ordering::Relaxed) {
        1 => Some(true),
        2 => Some(false),
        _ => None,
    }
}

/// Keeps all of the program's memory in RAM, so that no tick waits for the disk; whether it was
/// granted.
pub fn lock_memory() -> bool {
    rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT).is_ok()
}

/// Limits the memory of this process: what goes beyond ends it.
///
/// # Errors
/// A limit above what the system grants.
pub fn limit_memory(bytes: u64) -> std::io::Result<()> {
    let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Data, limit)?)
}

/// Lets everything else come first: for training beside a control loop.
pub fn become_nice() {
    let _ = rustix::process::setpriority_process(None, 19);
}

/// The descriptor of a configured serial port, which keeps its settings and its exclusive lock.
pub fn descriptor(port: serialport::TTYPort) -> OwnedFd {
    // SAFETY: `TTYPort::into_raw_fd` hands over an open descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(port.into_raw_fd()) }
}

/// Linux's `struct serial_struct` (`linux/serial.h`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct SerialSettings {
    kind: i32,
    line: i32,
    port: u32,
    irq: i32,
    flags: i32,
    fifo_size: i32,
    custom_divisor: i32,
    baud_base: i32,
    close_delay: u16,
    io_type: i8,
    reserved: i8,
    hub6: i32,
    closing_waits: [u16; 2],
    memory_base: usize,
    register_shift: u16,
    port_high: u32,
    map_base: usize,
}

const TIOCGSERIAL: Opcode = 0x541E;
const TIOCSSERIAL: Opcode = 0x541F;
const ASYNC_LOW_LATENCY: i32 = 1 << 13;

/// Asks the driver of a serial port to hand on what comes without gathering it first.
///
/// # Errors
/// The driver has no such setting (`ENOTTY` on a pseudo terminal and most USB adapters), or refuses.
pub fn set_low_latency(port: impl AsFd) -> std::io::Result<()> {
    // SAFETY: all fields are integers, for which zero bytes are a value.
    let mut settings: SerialSettings = unsafe { std::mem::zeroed() };
    // SAFETY: `TIOCGSERIAL` writes one `serial_struct`, which `SerialSettings` is field by field.
    unsafe { ioctl(&port, Updater::<TIOCGSERIAL, _>::new(&mut settings))? };
    if settings.flags & ASYNC_LOW_LATENCY == 0 {
        settings.flags |= ASYNC_LOW_LATENCY;
        // SAFETY: `TIOCSSERIAL` reads one `serial_struct`, which the driver itself filled in above.
        unsafe { ioctl(&port, Updater::<TIOCSSERIAL, _>::new(&mut settings))? };
    }
    Ok(())
}
