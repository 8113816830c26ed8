//! S7: the cycle at 200 Hz on a wire that takes its time.

use std::time::Duration;

use regoal::clock::Clock as _;

use crate::bench::number;
use crate::rig::{PROTOCOLS, Rig, robot};
use crate::{Failures, seed};

const RATE_HZ: f64 = 200.0;
const READ_WITHIN: Duration = Duration::from_millis(3);

#[test]
fn s7_a_cycle_of_six_servos_keeps_200_hz_for_ten_minutes() {
    let ticks = number("REGOAL_SECONDS", 600) * RATE_HZ as u64;
    let (mut failures, mut figures) = (Failures::default(), serde_json::Map::new());
    for protocol in PROTOCOLS {
        let mut robot = robot(protocol);
        robot.control.rate_hz = RATE_HZ;
        let period = robot.period();
        let mut rig = Rig::swinging(robot, seed());
        let mut reads: Vec<Duration> = Vec::with_capacity(ticks as usize);
        for _ in 0..ticks {
            let start = rig.site.clock.now();
            let look = rig.tick();
            reads.push(rig.site.wire().read.since(start));
            let tick = rig.tick;
            failures
                .unless(rig.site.clock.now() == start + period, || format!("tick {tick} overran"));
            failures.unless(look.age == 0 && !rig.faulted(), || {
                format!("{protocol:?} tick {tick}: {look:?} {:?}", rig.control.mode())
            });
        }
        reads.sort_unstable();
        let [p99, max] = [reads.len() * 99 / 100, reads.len() - 1].map(|i| reads[i]);
        failures.unless(p99 <= READ_WITHIN, || format!("{protocol:?}: reads take {p99:?}"));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let figure = serde_json::json!({ "read_p99_ms": ms(p99), "read_max_ms": ms(max) });
        figures.insert(format!("{protocol:?}").to_lowercase(), figure);
    }
    failures.report("S7", 2 * ticks, figures.into());
}
