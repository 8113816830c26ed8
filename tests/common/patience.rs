//! Robots for computers that are busy with tests.

/// A robot for a computer that is so busy with tests that ticks take longer than they should; counted
/// as hung after so long without one (s).
pub fn patient(robot: &str, heartbeat_s: f64) -> String {
    let mut robot: toml::Table = robot.parse().unwrap();
    let patience = format!(
        "[safety]\nheartbeat_s = {heartbeat_s:?}\nmax_tracking_error = 0.5\ntracking_time_s = 60.0\n\
         stall_time_s = 60.0\n[control]\nhold_after_ticks = 100\nfault_after_ticks = 1000\n\
         teleop_timeout_s = 5.0\n"
    );
    for (name, more) in patience.parse::<toml::Table>().unwrap() {
        let section = robot.entry(name).or_insert(toml::Table::new().into());
        section.as_table_mut().unwrap().extend(more.as_table().unwrap().clone());
    }
    robot.to_string()
}

/// So long without a tick is no sign of having hung, however busy the computer is (s).
pub const NEVER_HUNG: f64 = 60.0;
