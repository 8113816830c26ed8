//! `regoal robot find-port`: which serial port an arm hangs on.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::operator::{Operator, Terminal};
use crate::cmd::{Context, printable, say, say_json};

/// Finds the serial port of an arm by unplugging it
///
/// Lists the ports, lets you unplug the arm, and tells which one went. The name under
/// /dev/serial/by-id stays the same wherever the arm is plugged in; the one under by-path is of the
/// socket. Put one of them into `bus.port`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal robot find-port                  unplug the arm when you are asked to
  regoal robot find-port --list           all ports, nothing to unplug
  regoal robot find-port --list --by-id   the names that stay")]
pub struct Args {
    /// List all ports and end.
    #[arg(long)]
    list: bool,
    /// Print the name that goes with the adapter's serial number.
    #[arg(long, conflicts_with = "by_path")]
    by_id: bool,
    /// Print the name that goes with the USB socket.
    #[arg(long)]
    by_path: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A serial port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Found {
    /// The device.
    pub port: String,
    /// Its name by the adapter's serial number.
    pub by_id: Option<PathBuf>,
    /// Its name by the USB socket.
    pub by_path: Option<PathBuf>,
    /// What the adapter says it is; nothing of a port that is not on USB.
    pub adapter: String,
}

impl Found {
    fn is_usb(&self) -> bool {
        !self.adapter.is_empty()
    }
}

/// Runs the verb.
///
/// # Errors
/// No port went, or several.
pub fn run(args: &Args, _context: &Context) -> Result<()> {
    let names = Path::new("/dev/serial");
    if args.list {
        let ports = ports(names);
        if args.json {
            return say_json(&ports);
        }
        if !ports.iter().any(Found::is_usb) {
            say("no USB adapter with a serial port; plug the arm in and switch it on")?;
        }
        return ports.iter().try_for_each(|port| Ok(say(line(port, args))?));
    }
    // Others cannot be unplugged.
    let here = || ports(names).into_iter().filter(Found::is_usb).collect();
    let found = by_unplugging(&mut Terminal::new(args.json), here)?;
    if args.json { say_json(&found) } else { Ok(say(line(&found, args))?) }
}

fn line(port: &Found, args: &Args) -> String {
    let chosen = match (args.by_id, args.by_path) {
        (true, _) => port.by_id.as_deref(),
        (_, true) => port.by_path.as_deref(),
        _ => None,
    };
    match chosen {
        Some(path) => path.display().to_string(),
        None if port.is_usb() => format!("{:<14} {}", port.port, printable(&port.adapter)),
        None => format!("{:<14} not on USB", port.port),
    }
}

/// The port that goes when a person unplugs the arm.
///
/// # Errors
/// None went, or several; nobody answers.
pub fn by_unplugging(operator: &mut dyn Operator, here: impl Fn() -> Vec<Found>) -> Result<Found> {
    let before = here();
    if before.is_empty() {
        bail!("expected a serial port, found none; plug the arm in and try again");
    }
    operator.ask("unplug the arm's USB cable, then press Enter")?;
    let after = here();
    let gone: Vec<_> = before.into_iter().filter(|port| !after.contains(port)).collect();
    match gone.as_slice() {
        [] => {
            bail!("expected a port to go, found all of them still there; was it the right cable?")
        }
        [one] => {
            operator.ask("plug it in again, then press Enter")?;
            Ok(one.clone())
        }
        several => {
            bail!("expected one port to go, found {} gone; unplug one at a time", several.len())
        }
    }
}

/// The serial ports of this computer with their names under `names` (`/dev/serial`).
pub fn ports(names: &Path) -> Vec<Found> {
    let listed = serialport::available_ports().unwrap_or_default();
    let mut ports: Vec<Found> = listed
        .into_iter()
        .map(|port| {
            let device = Path::new(&port.port_name);
            Found {
                by_id: link_to(device, &names.join("by-id")),
                by_path: link_to(device, &names.join("by-path")),
                adapter: adapter(port.port_type),
                port: port.port_name,
            }
        })
        .collect();
    ports.sort();
    ports
}

fn adapter(kind: serialport::SerialPortType) -> String {
    let serialport::SerialPortType::UsbPort(usb) = kind else { return String::new() };
    let text = [usb.manufacturer, usb.product, usb.serial_number];
    let text: Vec<String> = text.into_iter().flatten().collect();
    format!("{:04x}:{:04x} {}", usb.vid, usb.pid, text.join(" "))
}

/// The link in `folder` that leads to a device.
pub fn link_to(device: &Path, folder: &Path) -> Option<PathBuf> {
    let device = device.canonicalize().ok()?;
    let mut links: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    links.sort();
    links.into_iter().find(|link| link.canonicalize().is_ok_and(|to| to == device))
}
