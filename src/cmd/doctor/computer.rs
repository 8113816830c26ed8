//! What the system says of this computer.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Check, Verdict};
use crate::cmd::Context;
use crate::engine::{Device, Engine};
use crate::storage::Storage;

/// What a control process keeps in memory, with a policy and its engine (bytes).
const LOCKED: u64 = 512 << 20;
/// Below that, episodes of an afternoon may not fit; below this, not even one (bytes).
const DISK: [u64; 2] = [2 << 30, 100 << 20];
/// The highest priority that is asked for.
const PRIORITY: u64 = 60;

const LIMITS: &str = "put `@dialout - rtprio 80` and `@dialout - memlock unlimited` into \
     /etc/security/limits.d/regoal.conf and log in again; the systemd unit does it by itself";

pub(super) fn checks(context: &Context) -> Vec<Check> {
    let storage = context.storage.as_ref();
    let mut checks = vec![kernel(storage), clock_source(storage), governor(storage)];
    let groups = rustix::process::getgroups().unwrap_or_default();
    let mine: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
    let root = rustix::process::geteuid().is_root();
    checks.extend([priority(), locked_memory(), real_time_limit()]);
    checks.push(serial_group(storage, &mine, root));
    checks.extend([onnx_runtime(), disk()]);
    checks
}

/// What the system says in a file of one line.
fn said(storage: &dyn Storage, path: &str) -> Option<String> {
    let text = storage.read(Path::new(path)).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

fn kernel(storage: &dyn Storage) -> Check {
    let release = said(storage, "/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = said(storage, "/proc/sys/kernel/version").unwrap_or_default();
    let kind = version.split_whitespace().find(|word| word.starts_with("PREEMPT"));
    let verdict = if kind.is_some() { Verdict::Ok } else { Verdict::Warning };
    let found = format!("Linux {release}, {}", kind.unwrap_or("not preemptible"));
    Check::new("kernel", verdict, found, "install a kernel with PREEMPT or PREEMPT_RT")
}

fn clock_source(storage: &dyn Storage) -> Check {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let name = said(storage, path).unwrap_or_else(|| "unknown".into());
    // These take microseconds and a lock to read; the others are a register.
    let slow = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"].contains(&name.as_str());
    let verdict = if slow { Verdict::Warning } else { Verdict::Ok };
    Check::new("clock source", verdict, name, "boot with `clocksource=tsc tsc=reliable`")
}

fn governor(storage: &dyn Storage) -> Check {
    let path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let Some(name) = said(storage, path) else {
        return Check::ok("processor governor", "none: the speed is fixed, or the host's");
    };
    let verdict = if name == "performance" { Verdict::Ok } else { Verdict::Warning };
    let mend =
        "`echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor`";
    Check::new("processor governor", verdict, name, mend)
}

fn priority() -> Check {
    // Asked for, since a capability grants it without a limit.
    let granted = std::thread::spawn(|| crate::os::become_realtime(crate::os::Priority::Hardware));
    let granted = granted.join().unwrap_or(false);
    let limit = getrlimit(Resource::Rtprio).current.unwrap_or(u64::MAX);
    let found = match granted {
        true => format!("SCHED_FIFO up to {PRIORITY} is granted"),
        false => {
            format!("SCHED_FIFO is refused (rtprio is {limit}): ticks will be late under load")
        }
    };
    let verdict = if granted { Verdict::Ok } else { Verdict::Warning };
    Check::new("real-time priority", verdict, found, LIMITS)
}

fn locked_memory() -> Check {
    let found = match getrlimit(Resource::Memlock).current {
        None => return Check::ok("locked memory", "unlimited"),
        Some(bytes) => bytes,
    };
    let verdict = if found < LOCKED { Verdict::Warning } else { Verdict::Ok };
    Check::new("locked memory", verdict, format!("memlock is {} MiB", found >> 20), LIMITS)
}

/// A limit that ends a process with a real-time thread that never sleeps.
fn real_time_limit() -> Check {
    match getrlimit(Resource::Rttime).current {
        None => Check::ok("real-time budget", "unlimited"),
        Some(us) => {
            let found = format!("rttime is {us} µs: a busy real-time thread is ended after that");
            Check::new("real-time budget", Verdict::Warning, found, "`ulimit -R unlimited`")
        }
    }
}

/// Whether a user of these groups, or root, may open serial ports.
fn serial_group(storage: &dyn Storage, mine: &[u32], root: bool) -> Check {
    let name = "serial permissions";
    let groups = said(storage, "/etc/group").unwrap_or_default();
    let dialout = groups.lines().find_map(|line| line.strip_prefix("dialout:")?.split(':').nth(1));
    let Some(id) = dialout.and_then(|id| id.parse::<u32>().ok()) else {
        return Check::ok(name, "there is no group dialout; look at the arm's port");
    };
    if root {
        return Check::ok(name, "root");
    }
    let (verdict, found) = match mine.contains(&id) {
        true => (Verdict::Ok, "in group dialout"),
        false => (Verdict::Warning, "not in group dialout: most serial ports cannot be opened"),
    };
    Check::new(name, verdict, found, "`sudo usermod -aG dialout $USER`, then log in again")
}

fn onnx_runtime() -> Check {
    let name = "ONNX Runtime";
    match Engine::best(None, Device::Cuda) {
        Ok(engine) if engine.name() != "tract" => Check::ok(name, engine.to_string()),
        Ok(engine) => {
            let found = format!("none, {engine} runs and trains instead: training takes longer");
            Check::new(name, Verdict::Warning, found, "`regoal runtime install`")
        }
        Err(error) => {
            Check::new(name, Verdict::Warning, error.to_string(), "`regoal runtime install`")
        }
    }
}

fn disk() -> Check {
    let Ok(here) = rustix::fs::statvfs(".") else {
        return Check::ok("disk space", "not known");
    };
    let free = here.f_bavail.saturating_mul(here.f_frsize);
    let verdict = match free {
        free if free < DISK[1] => Verdict::Problem,
        free if free < DISK[0] => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let found = format!("{:.1} GiB free in this folder", free as f64 / f64::from(1 << 30));
    Check::new("disk space", verdict, found, "make room, or log to another disk (`--episodes`)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    fn with(path: &str, text: &str) -> Memory {
        let storage = Memory::default();
        storage.create_folder(Path::new(path).parent().unwrap()).unwrap();
        storage.replace(Path::new(path), text.as_bytes()).unwrap();
        storage
    }

    #[test]
    fn serial_ports_are_for_members_of_dialout_and_root() {
        let groups = with("/etc/group", "root:x:0:\ndialout:x:20:ann\naudio:x:29:\n");
        for (mine, root, verdict) in [
            (&[1000, 20][..], false, Verdict::Ok),
            (&[1000, 29], false, Verdict::Warning),
            (&[], false, Verdict::Warning),
            (&[], true, Verdict::Ok),
        ] {
            let check = serial_group(&groups, mine, root);
            assert_eq!(check.verdict, verdict, "{check:?}");
            let told = check.mend.as_ref().is_some_and(|mend| mend.contains("usermod -aG dialout"));
            assert_eq!(told, verdict == Verdict::Warning, "{check:?}");
        }
        let none = serial_group(&with("/etc/group", "root:x:0:\n"), &[1000], false);
        assert!(none.found.contains("no group dialout"), "{none:?}");
    }

    #[test]
    fn what_costs_punctuality_is_a_warning_with_its_remedy() {
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let governor_file = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
        let version = "/proc/sys/kernel/version";
        for (check, good) in [
            (clock_source(&with(source, "tsc\n")), true),
            (clock_source(&with(source, "hpet\n")), false),
            (governor(&with(governor_file, "performance\n")), true),
            (governor(&with(governor_file, "powersave\n")), false),
            (governor(&Memory::default()), true),
            (kernel(&with(version, "#1 SMP PREEMPT_DYNAMIC today")), true),
            (kernel(&with(version, "#1 SMP today")), false),
        ] {
            let expected = if good { Verdict::Ok } else { Verdict::Warning };
            assert_eq!((check.verdict, check.mend.is_none()), (expected, good), "{check:?}");
        }
    }
}
