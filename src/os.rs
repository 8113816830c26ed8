//! What only the operating system can give, behind safe functions. The one file with `unsafe` but
//! for MuJoCo's functions (`env/mujoco/library.rs`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::FdFlags;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::{Advice, MapFlags, MlockAllFlags, ProtFlags, madvise};
use rustix::process::{Resource, Signal, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
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

/// Whether the control thread got real-time scheduling: 0 not asked for, 1 granted, 2 refused.
static REALTIME: AtomicU8 = AtomicU8::new(0);

/// Asks for `SCHED_FIFO` and exact timers for the calling thread; without the right to it the thread
/// stays as it is. Whether it was granted; [`realtime`] tells it of the control thread.
pub fn become_realtime(priority: Priority) -> bool {
    let level = match priority {
        Priority::Hardware => 60u8,
        Priority::Control => 50,
        Priority::Policy => 40,
    };
    let level = level.try_into().map_or(ThreadPriority::Min, ThreadPriority::Crossplatform);
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let granted = set_thread_priority_and_policy(thread_native_id(), level, policy).is_ok();
    if priority == Priority::Control {
        REALTIME.store(if granted { 1 } else { 2 }, Ordering::Relaxed);
    }
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    granted
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
/// granted. What is allocated later is kept too where there is no limit that it could run into.
pub fn lock_memory() -> bool {
    let later = match getrlimit(Resource::Memlock).current {
        None => MlockAllFlags::FUTURE,
        Some(_) => MlockAllFlags::empty(),
    };
    rustix::mm::mlockall(MlockAllFlags::CURRENT | later).is_ok()
}

/// What a thread that must not wait for a page of its stack touches of it beforehand (bytes).
const STACK: usize = 256 * 1024;

/// Puts the pages of the calling thread's stack in place that it may come to use.
#[inline(never)]
pub fn prefault_stack() {
    let mut stack = [0u8; STACK];
    std::hint::black_box(&mut stack);
}

/// Ends this process as SIGTERM does when the one that started it ends; `false` when that one, by
/// its id, has ended already.
///
/// # Errors
/// The system refuses.
pub fn end_with_parent(parent: i32) -> io::Result<bool> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have ended before the system was told.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    Ok(now == Some(parent))
}

/// Lets processes that this one starts inherit a descriptor.
///
/// # Errors
/// The system refuses.
pub fn hand_on(descriptor: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// Takes over a descriptor that this process inherited; those that it starts do not get it. To be
/// called once for each number, before anything else was opened.
///
/// # Errors
/// There is no such descriptor, or it is one of the standard ones.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: not -1, and not kept; where it is none, the call fails.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and whoever started this process left it to the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Words that each [`SharedMemory`] has.
const HEAD: usize = 8;

/// Words of 64 bits that two processes share without a system call; all are 0 at first. Another process
/// gets them by inheriting the descriptor.
pub struct SharedMemory {
    head: NonNull<[AtomicU64; HEAD]>,
    rest: usize,
    descriptor: OwnedFd,
}

// SAFETY: it owns its mapping, and all that is in there is atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes one: the head, and `rest` words more.
    ///
    /// # Errors
    /// The system gives no memory.
    pub fn new(rest: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Self::of(memfd_create("regoal", flags)?, rest)
    }

    /// The one behind a descriptor, which grows where it has fewer words.
    ///
    /// # Errors
    /// It is none, or has more words; the system gives no memory.
    pub fn of(descriptor: OwnedFd, rest: usize) -> io::Result<Self> {
        let size = Self::size(rest).ok_or(io::ErrorKind::InvalidInput)?;
        // Nobody who has the descriptor can take away what somebody else has mapped. Nothing but such
        // memory can be sealed.
        fcntl_add_seals(&descriptor, SealFlags::SHRINK)?;
        ftruncate(&descriptor, size as u64)?;
        // SAFETY: a new mapping at a place that the system chooses, of a file that is and stays as large.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &descriptor,
                0,
            )?
        };
        let head = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { head, rest, descriptor })
    }

    /// The same with more words, for those who have its descriptor too.
    ///
    /// # Errors
    /// It has more than that; the system gives no memory.
    pub fn grown(&self, rest: usize) -> io::Result<Self> {
        Self::of(self.descriptor.try_clone()?, rest)
    }

    /// Bytes of the whole.
    fn size(rest: usize) -> Option<usize> {
        rest.checked_add(HEAD)?.checked_mul(size_of::<AtomicU64>())
    }

    /// The words that each has.
    pub fn head(&self) -> &[AtomicU64; HEAD] {
        // SAFETY: mapped until dropped, page-aligned, and any bytes are such words.
        unsafe { self.head.as_ref() }
    }

    /// The words after them.
    pub fn rest(&self) -> &[AtomicU64] {
        // SAFETY: as above; the mapping has so many after the head.
        unsafe { std::slice::from_raw_parts(self.head.add(1).cast().as_ptr(), self.rest) }
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let size = Self::size(self.rest).unwrap_or_default();
        // SAFETY: mapped by `of` with this size; nothing borrows it any more.
        let _ = unsafe { rustix::mm::munmap(self.head.as_ptr().cast(), size) };
    }
}

/// Limits the memory of this process: what goes beyond ends it.
///
/// # Errors
/// A limit above what the system grants, or below what the process has.
pub fn limit_memory(bytes: u64) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let has = kib.unwrap_or(0).saturating_mul(1 << 10);
    if bytes <= has {
        let (limit, has) = (bytes >> 20, has.div_ceil(1 << 20));
        return Err(io::Error::other(format!(
            "expected more than the {has} MiB that the process has by now, found {limit} MiB"
        )));
    }
    // The backtrace of a panic waits for itself when it runs out of memory.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Data, limit)?)
}

/// Lets everything else come first: for training beside a control loop.
pub fn become_nice() {
    let _ = rustix::process::setpriority_process(None, 19);
}

/// Puts the calling thread, and those that it starts from now on, behind everything else and out of the
/// way: they run when nothing else wants to (`SCHED_IDLE`), on `cores`, or where none is named on all
/// that they may use but the first, which is left to a control loop.
///
/// # Errors
/// The system refuses: none of the cores may be used.
pub fn step_back(cores: &[usize]) -> io::Result<()> {
    become_nice();
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    let allowed = sched_getaffinity(None)?;
    let mut chosen = CpuSet::new();
    let named = cores.iter().copied().filter(|core| *core < CpuSet::MAX_CPU);
    named.for_each(|core| chosen.set(core));
    if cores.is_empty() {
        let allowed = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        allowed.skip(1).for_each(|core| chosen.set(core));
        if chosen.count() == 0 {
            return Ok(());
        }
    }
    Ok(sched_setaffinity(None, &chosen)?)
}

/// Asks a process to end (`SIGTERM`).
///
/// # Errors
/// There is none of this number, or it is somebody else's.
pub fn ask_to_end(pid: u32) -> io::Result<()> {
    let none = || io::Error::from(io::ErrorKind::NotFound);
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(none)?;
    Ok(rustix::process::kill_process(pid, Signal::TERM)?)
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

/// `EVIOCGABS(axis)` (`linux/input.h`): value, minimum, maximum, fuzz, flat and resolution of an axis.
#[cfg(feature = "gamepad")]
struct AxisInfo {
    axis: u8,
    info: [i32; 6],
}

// SAFETY: the call writes one `input_absinfo`, six numbers, which `info` holds.
#[cfg(feature = "gamepad")]
unsafe impl rustix::ioctl::Ioctl for AxisInfo {
    type Output = [i32; 6];
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        rustix::ioctl::opcode::read::<[i32; 6]>(b'E', 0x40 + self.axis)
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        (&raw mut self.info).cast()
    }

    unsafe fn output_from_ptr(
        _: rustix::ioctl::IoctlOutput,
        info: *mut core::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        // SAFETY: it is what `as_ptr` gave, written by the call.
        Ok(unsafe { info.cast::<[i32; 6]>().read() })
    }
}

/// The lowest and the highest value of an input device's axis.
///
/// # Errors
/// It is no input device, or has no such axis.
#[cfg(feature = "gamepad")]
pub fn axis_range(device: impl AsFd, axis: u16) -> io::Result<(i32, i32)> {
    // There are 64 axes.
    let axis = u8::try_from(axis & 0x3f).unwrap_or_default();
    // SAFETY: see `AxisInfo`.
    let [_, low, high, ..] = unsafe { ioctl(device, AxisInfo { axis, info: [0; 6] })? };
    Ok((low, high))
}

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

/// Has the processor fetch these numbers into its caches while it goes on: who reads places of a large
/// array in no order asks for the next ones first.
#[inline]
pub fn prefetch(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for number in numbers.iter().step_by(16).chain(numbers.last()) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint about an address inside a slice; nothing is read or written by it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(number).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}

/// Asks for large pages under a large array that is read in no order, so that the processor finds more
/// of them by itself. Where the system has none, nothing changes.
pub fn read_anywhere(numbers: &mut Vec<f32>) {
    const LARGE: usize = 2 << 20;
    let begin = numbers.as_mut_ptr().cast::<u8>();
    let skip = begin.align_offset(LARGE);
    let len = (numbers.capacity() * size_of::<f32>()).saturating_sub(skip) / LARGE * LARGE;
    if len > 0 {
        // SAFETY: the range lies inside the vector's own allocation, and this advice changes no byte.
        let _ = unsafe { madvise(begin.add(skip).cast(), len, Advice::LinuxHugepage) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_of_shared_memory_writes_the_other_reads() {
        let ours = SharedMemory::new(0).unwrap();
        let theirs = ours.grown(1000).unwrap();
        let words = || theirs.head().iter().chain(theirs.rest());
        assert!(words().count() == 1008 && words().all(|word| word.load(Ordering::Relaxed) == 0));
        ours.head()[3].store(7, Ordering::Release);
        let again = SharedMemory::of(ours.as_fd().try_clone_to_owned().unwrap(), 1000).unwrap();
        again.rest()[999].store(8, Ordering::Release);
        drop((ours, again));
        assert_eq!(theirs.head()[3].load(Ordering::Acquire), 7);
        assert_eq!(theirs.rest()[999].load(Ordering::Acquire), 8);
    }

    #[test]
    fn shared_memory_never_shrinks() {
        let memory = SharedMemory::new(1).unwrap();
        assert!(ftruncate(memory.as_fd(), 8).is_err());
        assert!(memory.grown(0).is_err());
        assert!(SharedMemory::new(usize::MAX / 8).is_err());
    }

    #[test]
    fn a_descriptor_that_is_no_shared_memory_or_none_at_all_is_refused() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(SharedMemory::of(a.into(), 0).is_err());
        assert!(SharedMemory::of(tempfile::tempfile().unwrap().into(), 0).is_err());
        assert!(inherited(1).is_err());
        assert!(inherited(1_000_000).is_err());
    }
}
