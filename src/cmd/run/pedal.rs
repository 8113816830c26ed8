//! A pedal or button that stops the arm.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;

/// From now on any key of an input device sets `emergency`, and so does the loss of the device.
///
/// # Errors
/// It cannot be opened, or the program was built without input devices.
#[cfg(feature = "gamepad")]
pub(super) fn watch(path: &Path, emergency: Arc<AtomicBool>) -> Result<()> {
    use std::sync::atomic::Ordering;

    use anyhow::Context as _;
    use rustix::fs::{Mode, OFlags, open};

    use crate::teleop::wait_for_key;

    let device =
        open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).with_context(|| {
            format!("opening {} (who may: group `input`, or a udev rule)", path.display())
        })?;
    let mut device = std::fs::File::from(device);
    // It ends with the program: nothing interrupts a read.
    std::thread::Builder::new().name("pedal".into()).spawn(move || {
        loop {
            let pressed = wait_for_key(&mut device);
            emergency.store(true, Ordering::Release);
            if let Err(error) = pressed {
                log::error!("THE E-STOP DEVICE IS GONE ({error}): the arm was stopped");
                return;
            }
        }
    })?;
    Ok(())
}

/// As above.
///
/// # Errors
/// Always: it was built without.
#[cfg(not(feature = "gamepad"))]
pub(super) fn watch(_: &Path, _: Arc<AtomicBool>) -> Result<()> {
    anyhow::bail!(
        "this program was built without input devices: build it with `cargo build --release --features gamepad`"
    )
}
