//! rustypot's cycle: rustypot-cycle PORT feetech|dynamixel. For each line `round SECONDS` it opens the
//! port, reads positions and writes goals of six servos for so long, and prints the median time (us).

use std::error::Error;
use std::time::{Duration, Instant};

use rustypot::DynamixelProtocolHandler;

const IDS: [u8; 6] = [1, 2, 3, 4, 5, 6];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, protocol] = arguments.as_slice() else {
        return Err("expected PORT PROTOCOL".into());
    };
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        let seconds = line.strip_prefix("round ").ok_or("expected `round SECONDS`")?.parse()?;
        println!("{}", round(port, protocol, Duration::from_secs_f64(seconds))?);
    }
    Ok(())
}

fn round(port: &str, protocol: &str, time: Duration) -> Result<f64, Box<dyn Error>> {
    let timeout = Duration::from_millis(50);
    let mut port = serialport::new(port, 1_000_000).timeout(timeout).open()?;
    // Position and goal: address and size.
    let (handler, (position, size), goal) = match protocol {
        "feetech" => (DynamixelProtocolHandler::v1(), (56, 2), 42),
        _ => (DynamixelProtocolHandler::v2().with_fast_sync_read(), (132, 4), 116),
    };
    let goals = vec![2048u32.to_le_bytes()[..usize::from(size)].to_vec(); IDS.len()];
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let start = Instant::now();
        handler.sync_read(port.as_mut(), &IDS, position, size)?;
        handler.sync_write(port.as_mut(), &IDS, goal, &goals)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
