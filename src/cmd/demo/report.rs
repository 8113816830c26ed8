//! What `regoal demo` found: a table for people, a summary for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::cmd::simulate::Evaluation;
use crate::control::Quantiles;

/// The summary, as `--json` writes it. Success is a share of `goals`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// The engine that ran the training steps.
    pub engine: String,
    /// Held-out goals per success rate.
    pub goals: usize,
    /// Success of the shipped policy.
    pub success_before: f64,
    /// Success after as many training steps on the demonstrations alone.
    pub success_demos_only: f64,
    /// Success after learning from the robot's own attempts.
    pub success_after: f64,
    /// Whether the candidate passed the validation goals.
    pub accepted: bool,
    /// Goals reached over the pty before.
    pub live_before: usize,
    /// Goals reached over the pty after.
    pub live_after: usize,
    /// Episodes logged.
    pub episodes: usize,
    /// Ticks over the pty.
    pub ticks: u64,
    /// Ticks missed over the pty.
    pub missed_ticks: u64,
    /// Faults that stopped the live arm and were cleared.
    pub faults_cleared: usize,
    /// Whether the control thread got real-time scheduling.
    pub realtime: Option<bool>,
    /// How late ticks over the pty began (µs).
    pub lateness_us: Quantiles,
    /// One episode file holds consecutive ticks of the old and the new policy.
    pub swapped_while_running: bool,
    /// Loss of the first epoch.
    pub loss_first_epoch: Option<f32>,
    /// Loss of the last epoch.
    pub loss_last_epoch: Option<f32>,
    /// Seconds per stage.
    pub stages: BTreeMap<String, f64>,
}

/// A summary and the evaluations behind it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The summary.
    pub summary: Summary,
    /// The shipped policy.
    pub before: Evaluation,
    /// The control.
    pub demos_only: Evaluation,
    /// The candidate.
    pub after: Evaluation,
}

impl Report {
    /// The table.
    pub fn table(&self) -> String {
        let s = &self.summary;
        let mut t = String::new();
        let mut line = |text: String| {
            let _ = writeln!(t, "{text}");
        };
        line(format!(
            "\nseed {}, {} held-out goals, tolerance 2 cm, training in {}",
            s.seed, s.goals, s.engine
        ));
        line(format!("{:<38}{:>24}{:>18}", "policy", "success [95 %]", "median distance"));
        for (name, evaluation) in [
            ("shipped", &self.before),
            ("trained on demonstrations only", &self.demos_only),
            ("learned from its own attempts", &self.after),
        ] {
            let rate = evaluation.rate().to_string();
            let distance = 100.0 * evaluation.median_distance();
            line(format!("{name:<38}{rate:>24}{:>18}", format!("{distance:.1} cm")));
        }
        let loss = |l: Option<f32>| l.map_or("-".into(), |l| format!("{l:.4}"));
        line(format!(
            "loss, first and last epoch            {} -> {}",
            loss(s.loss_first_epoch),
            loss(s.loss_last_epoch)
        ));
        line(format!(
            "over the pty                          {} -> {} goals reached, {} ticks, {} missed, {} faults",
            s.live_before, s.live_after, s.ticks, s.missed_ticks, s.faults_cleared
        ));
        line(format!(
            "tick lateness p50 / p99 / max         {:.0} / {:.0} / {:.0} us{}",
            s.lateness_us.p50,
            s.lateness_us.p99,
            s.lateness_us.max,
            if s.realtime == Some(true) { "" } else { " (no real-time scheduling)" }
        ));
        line(format!(
            "swapped while the arm was moving      {}",
            match (s.swapped_while_running, s.accepted) {
                (true, _) => "yes",
                (false, true) => "no",
                (false, false) => "no, the candidate was refused",
            }
        ));
        line(format!("episodes logged                       {}", s.episodes));
        let seconds: Vec<String> =
            s.stages.iter().map(|(name, secs)| format!("{name} {secs:.1}")).collect();
        line(format!("seconds                               {}", seconds.join(", ")));
        t
    }
}

/// How long each stage takes; stages of one name add up.
pub struct Stages {
    clock: Arc<dyn Clock>,
    seconds: Mutex<BTreeMap<String, f64>>,
}

impl Stages {
    /// Nothing timed yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seconds: Mutex::default() }
    }

    /// Times a stage.
    pub fn time<T>(&self, name: &str, stage: impl FnOnce() -> T) -> T {
        let start = self.clock.now();
        let result = stage();
        let took = self.clock.now().since(start).as_secs_f64();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        *seconds.entry(name.into()).or_default() += took;
        result
    }

    /// Seconds per stage.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
