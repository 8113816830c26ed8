//! Prometheus' text format (exposition format 0.0.4).

use std::fmt::{Display, Write as _};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::api::Status;
use super::operation::Answers;
use crate::control::{Histogram, Jitter};

/// Text for Prometheus.
pub(super) struct Metrics(pub(super) String);

impl Answers for Metrics {
    fn answer(self) -> Response {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], self.0).into_response()
    }

    fn describe(_: &mut SchemaGenerator) -> Value {
        let content = json!({ "text/plain": { "schema": { "type": "string" } } });
        json!({ "200": { "description": "Prometheus' text format.", "content": content } })
    }
}

/// Upper bounds of the histograms' buckets (s): ticks are 2 ms to 50 ms long.
const BOUNDS: [f64; 11] = [5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 3e-2, 4e-2];
const MODES: [&str; 5] = ["disarmed", "holding", "reaching", "teleop", "faulted"];

/// All that is counted.
pub(super) fn metrics(status: &Status, jitter: &Jitter) -> Metrics {
    let mut text = Text(String::new());
    text.robot(status);
    text.ticks(status, jitter);
    text.bus(status);
    text.goals(status);
    text.log(status);
    Metrics(text.0)
}

struct Text(String);

impl Text {
    /// One metric with its values by labels; those that are not known are left out.
    fn metric<'a, V: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        values: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], Option<V>)>,
    ) {
        let _ = write!(self.0, "# HELP regoal_{name} {help}\n# TYPE regoal_{name} {kind}\n");
        for (labels, value) in values {
            let Some(value) = value else { continue };
            let _ = write!(self.0, "regoal_{name}");
            for (i, (label, value)) in labels.iter().enumerate() {
                let open = if i == 0 { '{' } else { ',' };
                let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(value));
            }
            let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }

    fn one(&mut self, about: (&str, &str, &str), value: impl Display) {
        self.metric(about, [(&[][..], Some(value))]);
    }

    fn robot(&mut self, s: &Status) {
        let version = env!("CARGO_PKG_VERSION");
        let policy = s.policy.as_deref().unwrap_or_default();
        let info = [("robot", s.robot.as_str()), ("version", version), ("policy", policy)];
        let about =
            ("info", "gauge", "The robot, its software, and the id of the policy that steers.");
        self.metric(about, [(&info[..], Some(1))]);
        self.one(("up", "gauge", "The control loop runs."), u8::from(s.alive));
        let json = serde_json::to_value(s.mode).unwrap_or_default();
        let found = |key| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let modes = MODES.map(|mode| [("mode", mode)]);
        let is = |[(_, mode)]: &[(&str, &str); 1]| Some(u8::from(*mode == found("mode")));
        let about = ("mode", "gauge", "What the loop is doing.");
        self.metric(about, modes.iter().map(|labels| (&labels[..], is(labels))));
        let fault = [("fault", found("fault"))];
        let about = ("fault", "gauge", "The fault that stopped the arm.");
        self.metric(about, [(&fault[..], (!found("fault").is_empty()).then_some(1))]);
        let joints: Vec<_> = s.joints.iter().map(|j| ([("joint", j.name.as_str())], j)).collect();
        let about = ("temperature_celsius", "gauge", "Each servo's temperature.");
        self.metric(about, joints.iter().map(|(labels, j)| (&labels[..], j.temperature_c)));
    }

    fn ticks(&mut self, s: &Status, jitter: &Jitter) {
        let about = "From a tick's scheduled to its real begin.";
        self.histogram("tick_lateness_seconds", about, &jitter.lateness);
        let about = "From a tick's begin to its end.";
        self.histogram("tick_duration_seconds", about, &jitter.duration);
        let c = s.counters;
        for (name, help, count) in [
            ("ticks_total", "Ticks run.", c.ticks),
            (
                "missed_ticks_total",
                "Ticks skipped because the one before ended too late.",
                c.missed,
            ),
            ("late_actions_total", "Ticks without a fresh action in time.", c.late_actions),
            (
                "refused_actions_total",
                "Actions of the policy that were refused.",
                c.refused_actions,
            ),
            ("stale_ticks_total", "Ticks with a joint that was not measured.", c.stale_ticks),
            ("failed_writes_total", "Writes to the servos that failed.", c.failed_writes),
        ] {
            self.one((name, "counter", help), count);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let _ = write!(self.0, "# HELP regoal_{name} {help}\n# TYPE regoal_{name} histogram\n");
        for bound in BOUNDS {
            let count = histogram.at_most((bound * 1e9).round() as u64);
            let _ = writeln!(self.0, "regoal_{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (count, sum) = (histogram.count(), histogram.sum().as_secs_f64());
        let _ = writeln!(self.0, "regoal_{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = write!(self.0, "regoal_{name}_sum {sum}\nregoal_{name}_count {count}\n");
    }

    fn bus(&mut self, s: &Status) {
        // The kinds are those of the counters themselves, so that none is forgotten.
        let mut kinds = serde_json::to_value(s.faults.bus).unwrap_or_default();
        if let Some(kinds) = kinds.as_object_mut() {
            kinds.insert("implausible".into(), s.faults.implausible.into());
        }
        let kinds = kinds.as_object().cloned().unwrap_or_default();
        let rows: Vec<_> =
            kinds.iter().map(|(k, n)| ([("kind", k.as_str())], n.as_u64())).collect();
        let about = ("bus_faults_total", "counter", "Faults of the servo bus by kind.");
        self.metric(about, rows.iter().map(|(labels, n)| (&labels[..], *n)));
    }

    fn goals(&mut self, s: &Status) {
        let goals = serde_json::to_value(s.counters.goals).unwrap_or_default();
        let goals = goals.as_object().cloned().unwrap_or_default();
        let endings = goals.iter().filter(|(ending, _)| *ending != "succeeded");
        let rows: Vec<_> = endings.map(|(e, n)| ([("ending", e.as_str())], n.as_u64())).collect();
        let about = ("goals_total", "counter", "Goals that ended, by how.");
        self.metric(about, rows.iter().map(|(labels, n)| (&labels[..], *n)));
        let (succeeded, ended) = (s.counters.goals.succeeded, s.counters.goals.ended());
        let about =
            ("goals_succeeded_total", "counter", "Goals within their tolerance at the end.");
        self.one(about, succeeded);
        let rate = (ended > 0).then(|| succeeded as f64 / ended as f64);
        let about = ("goal_success_ratio", "gauge", "Share of goals that succeeded.");
        self.metric(about, [(&[][..], rate)]);
    }

    fn log(&mut self, s: &Status) {
        let Some(log) = &s.log else { return };
        for (name, help, count) in [
            ("episodes_total", "Episodes finished on the disk.", log.episodes),
            ("logged_steps_total", "Steps handed to a file.", log.steps),
            ("unlogged_steps_total", "Steps that could not be logged.", log.unlogged),
            ("log_bytes_total", "Bytes of finished episodes.", log.bytes),
            ("log_failures_total", "Failures of the disk.", log.failures),
        ] {
            self.one((name, "counter", help), count);
        }
        let about = ("disk_full", "gauge", "The disk is full; nothing is logged.");
        self.one(about, u8::from(log.disk_full));
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Joint;
    use crate::episode::{Fault, Mode};

    #[test]
    fn every_line_is_a_comment_or_a_name_with_a_number_and_histograms_grow() {
        let mut jitter = Jitter::default();
        (1..=1000).for_each(|i| jitter.record(i * 50_000, i * 10_000 - 1));
        let joint =
            Joint { name: "a\"b\\\nc".into(), temperature_c: Some(31.5), ..Joint::default() };
        let status = Status {
            robot: "so101".into(),
            mode: Mode::Faulted(Fault::Overheat),
            joints: vec![joint],
            log: Some(crate::daemon::Log::default()),
            ..Status::default()
        };
        let Metrics(text) = metrics(&status, &jitter);
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("regoal_") && value.parse::<f64>().is_ok(), "{line}");
        }
        for line in [
            "regoal_mode{mode=\"faulted\"} 1",
            "regoal_fault{fault=\"overheat\"} 1",
            "regoal_temperature_celsius{joint=\"a\\\"b\\\\\\nc\"} 31.5",
            "regoal_tick_duration_seconds_bucket{le=\"0.001\"} 100",
            "regoal_tick_duration_seconds_bucket{le=\"+Inf\"} 1000",
            "regoal_tick_lateness_seconds_count 1000",
            "regoal_bus_faults_total{kind=\"timeouts\"} 0",
            "regoal_goals_total{ending=\"reached\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(
            !text.contains("\nregoal_goal_success_ratio "),
            "nothing is known before the first goal"
        );
    }
}
