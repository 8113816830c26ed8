//! What an arm's port, adapter and servos say. Nothing is written to them.

use std::time::Duration;

use anyhow::Result;

use super::timing::Spread;
use super::{Check, Verdict};
use crate::cmd::Context;
use crate::cmd::robot::monitor::row;
use crate::cmd::robot::{EMULATED, Line};
use crate::config::{JointConfig, Protocol, RobotConfig};
use crate::hal::bus::Ask;
use crate::hal::port::{latency_timer, usb_latency};
use crate::hal::servo::Model;
use crate::hal::{Bus, SerialPort};
use crate::storage::Storage;

const PATIENCE: Duration = Duration::from_millis(50);
const CYCLES: usize = 100;
/// A USB adapter may add two frames to what the bytes need.
const USB: Duration = Duration::from_millis(2);

pub(super) fn checks(robot: &RobotConfig, context: &Context) -> Result<Vec<Check>> {
    let line = Line::of(robot, context)?;
    let port = line.path();
    let opened = match SerialPort::open(port, robot.bus.baud) {
        Ok(opened) => opened,
        Err(error) => {
            let mend = "what stands above; `regoal robot find-port` finds an arm's port";
            return Ok(vec![Check::new("port", Verdict::Problem, error.to_string(), mend)]);
        }
    };
    let found = format!("{port}, {} bit/s", robot.bus.baud);
    let mut checks = vec![
        Check::ok("port", found),
        adapter(port, context.storage.as_ref()),
        low_latency(&opened),
    ];
    let mut bus =
        Bus::new(Box::new(opened), context.clock.clone(), robot.bus.protocol, robot.bus.baud);
    checks.push(calibration(robot));
    for joint in &robot.joint {
        checks.push(servo(&mut bus, joint, robot)?);
    }
    checks.push(cycle(&mut bus, robot)?);
    Ok(checks)
}

fn adapter(port: &str, storage: &dyn Storage) -> Check {
    let name = "USB latency timer";
    match usb_latency(storage, port) {
        None => Check::ok(name, "none: the adapter hands bytes on at once"),
        Some(time) => {
            let verdict =
                if time > Duration::from_millis(1) { Verdict::Problem } else { Verdict::Ok };
            let file = latency_timer(port).unwrap_or_default();
            let mend = format!(
                "`echo 1 | sudo tee {}`; firmware-config/linux/70-regoal.rules does it for good",
                file.display()
            );
            Check::new(name, verdict, format!("{time:?}"), &mend)
        }
    }
}

/// Opening a port asks for it; here it is seen whether the driver has it.
fn low_latency(port: &SerialPort) -> Check {
    let found = match crate::os::set_low_latency(port) {
        Ok(()) => "set".to_owned(),
        Err(error) => format!("the driver has no such flag ({error}), which most need not"),
    };
    Check::ok("low-latency flag", found)
}

fn calibration(robot: &RobotConfig) -> Check {
    let emulated = robot.bus.port == EMULATED;
    let verdict =
        if robot.calibration.is_empty() && !emulated { Verdict::Warning } else { Verdict::Ok };
    let found = match (robot.calibration.get(..12), emulated) {
        (Some(hash), _) => format!("applied, {hash}"),
        (None, true) => "the built-in emulator needs none".into(),
        (None, false) => "none: joints may be elsewhere than they seem".into(),
    };
    Check::new("calibration", verdict, found, "`regoal robot calibrate`")
}

fn servo(bus: &mut Bus, joint: &JointConfig, robot: &RobotConfig) -> Result<Check> {
    let name = format!("servo {} {}", joint.id, joint.name);
    let model = Model::of(joint.servo);
    let deadline = bus.clock().now() + PATIENCE;
    let Ok(ping) = bus.ping(joint.id, deadline) else {
        let found = format!("expected a {} to answer, nothing came", model.name);
        let mend = "check power, cables, the id and bus.baud; `regoal robot setup` sets an id";
        return Ok(Check::new(&name, Verdict::Problem, found, mend));
    };
    if ping.number != model.number {
        let other = ping.model.map_or("an unknown model", |model| model.name);
        let found = format!("expected a {}, found {other} (number {})", model.name, ping.number);
        return Ok(Check::new(&name, Verdict::Problem, found, "set the joint's `servo`"));
    }
    let row = row(bus, joint)?;
    let (voltage, heat) = (row.voltage.unwrap_or_default(), row.temperature.unwrap_or_default());
    let firmware = firmware(bus, joint.id, model);
    let found = format!("{}, firmware {firmware}, {voltage:.1} V, {heat:.0} °C", model.name);
    let safety = &robot.safety;
    let supply = model.supply_window(safety);
    let (verdict, mend) = if !row.faults.is_empty() {
        let mend =
            format!("it reports {}: cure the cause, power it off and on", row.faults.join(", "));
        (Verdict::Problem, mend)
    } else if !supply.contains(&voltage) {
        let window = format!("{:.1} to {:.1} V", supply.start(), supply.end());
        (Verdict::Problem, format!("expected {window}: check the supply"))
    } else if heat > safety.max_temperature {
        (
            Verdict::Problem,
            format!("expected at most {} °C: let it cool down", safety.max_temperature),
        )
    } else if heat > safety.warn_temperature {
        (Verdict::Warning, "let it cool down, relieve it".into())
    } else {
        (Verdict::Ok, String::new())
    };
    Ok(Check::new(&name, verdict, found, &mend).with(row))
}

/// As the maker counts it.
fn firmware(bus: &mut Bus, id: u8, model: &Model) -> String {
    let mut number = |name: &str| {
        let deadline = bus.clock().now() + PATIENCE;
        Some(bus.read(id, model.register(name)?, deadline).ok()?.0.to_string())
    };
    let parts = match model.protocol {
        Protocol::Feetech => [number("Firmware_Major"), number("Firmware_Minor")],
        Protocol::Dynamixel => [number("Firmware_Version"), None],
    };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "unknown".into() } else { parts.join(".") }
}

/// The time that a read of what each tick needs takes on the wire at least: 10 bits a byte. The
/// packets: Feetech's "communication protocol", Dynamixel's "Protocol 2.0", sync read.
fn floor(robot: &RobotConfig) -> Duration {
    let models = robot.joint.iter().map(|joint| Model::of(joint.servo));
    let (request, each, answer) = match robot.bus.protocol {
        Protocol::Feetech => (8, 1, 6),
        Protocol::Dynamixel => (14, 1, 11),
    };
    let apart = robot.joint.iter().filter(|joint| !Model::of(joint.servo).sync_read).count();
    let together = robot.joint.len() - apart;
    let asked = apart * request + if together > 0 { request + together * each } else { 0 };
    let answered: usize = models.map(|model| answer + usize::from(model.motion.size)).sum();
    Duration::from_secs_f64((asked + answered) as f64 * 10.0 / f64::from(robot.bus.baud))
}

fn cycle(bus: &mut Bus, robot: &RobotConfig) -> Result<Check> {
    let models = robot.joint.iter().map(|joint| (joint.id, Model::of(joint.servo)));
    let asks: Vec<Ask> = models
        .map(|(id, model)| Ask { id, block: model.motion, together: model.sync_read })
        .collect();
    let (mut times, mut missed) = (Vec::new(), 0);
    for _ in 0..CYCLES {
        let begun = bus.clock().now();
        let answers = bus.read_many(&asks, begun + PATIENCE)?;
        missed += answers.iter().filter(|answer| answer.is_err()).count();
        times.push(bus.clock().now().since(begun));
    }
    let (spread, floor) = (Spread::of(times), floor(robot));
    let median = Duration::from_secs_f64(spread.p50_us * 1e-6);
    let p99 = Duration::from_secs_f64(spread.p99_us * 1e-6);
    let found = format!(
        "{spread}; the wire needs {:.0} µs; {missed} of {} answers missed",
        floor.as_secs_f64() * 1e6,
        CYCLES * asks.len()
    );
    // Half of a tick is for reading.
    let (verdict, mend) = if missed * 100 > CYCLES * asks.len() {
        (Verdict::Problem, "answers get lost: check cables, supply and plugs")
    } else if p99 > robot.period() / 2 {
        (Verdict::Warning, "lower control.rate_hz, raise bus.baud, or mend the lines above")
    } else if median > floor * 2 + USB {
        (Verdict::Warning, "set the adapter's latency timer and the servos' return delay to least")
    } else {
        (Verdict::Ok, "")
    };
    Ok(Check::new("bus cycle", verdict, found, mend).with(spread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    #[test]
    fn an_adapter_that_gathers_bytes_is_a_problem_with_its_remedy() {
        let file = latency_timer("/dev/ttyUSB3").unwrap();
        for (ms, verdict) in [("16", Verdict::Problem), ("2", Verdict::Problem), ("1", Verdict::Ok)]
        {
            let storage = Memory::default();
            storage.create_folder(file.parent().unwrap()).unwrap();
            storage.replace(&file, format!("{ms}\n").as_bytes()).unwrap();
            let check = adapter("/dev/ttyUSB3", &storage);
            assert_eq!((check.verdict, check.found.as_str()), (verdict, &*format!("{ms}ms")));
            let told = check.mend.is_some_and(|mend| mend.contains(file.to_str().unwrap()));
            assert_eq!(told, verdict == Verdict::Problem);
        }
        assert_eq!(adapter("/dev/ttyACM0", &Memory::default()).verdict, Verdict::Ok);
    }

    #[test]
    fn the_floor_is_the_bytes_of_a_sync_read_at_10_bits_each() {
        let text = include_str!("../../../firmware-config/emulated.toml");
        let robot = RobotConfig::parse(text, std::path::Path::new("emulated.toml")).unwrap();
        let bytes = 8 + 6 + 6 * (6 + u64::from(Model::of(robot.joint[0].servo).motion.size));
        assert_eq!(floor(&robot), Duration::from_micros(10 * bytes));
    }
}
