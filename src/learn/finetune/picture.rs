//! The report of a fine-tuning as a picture.

use super::FinetuneReport;
use crate::learn::evaluate::Rate;
use crate::svg::{self, Pixels};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const INK: &str = "#1f2933";
const FAINT: &str = "#9aa5b1";
const TRAINING: &str = "#2563eb";
const VALIDATION: &str = "#d97706";
const GOOD: &str = "#15803d";
const BAD: &str = "#b91c1c";

/// The curves of training and of the episodes kept aside, what was learned from, both policies' success
/// with its 95 % interval, and the verdict.
pub fn picture(report: &FinetuneReport) -> String {
    let mut out = String::new();
    svg::open(&mut out, (0.0, 0.0), (WIDTH, HEIGHT));
    svg::rect(&mut out, (0.0, 0.0), (WIDTH, HEIGHT), "#ffffff");
    let (passed, verdict) = match &report.gate {
        Some(gate) => (gate.passed(), gate.to_string()),
        None => (false, "not judged".to_owned()),
    };
    let mut y = 28.0;
    for line in wrapped(&verdict, 100) {
        svg::text(&mut out, (20.0, y), 14, "start", if passed { GOOD } else { BAD }, &line);
        y += 18.0;
    }
    curves(&mut out, report, ((60.0, y + 20.0), (420.0, HEIGHT - 50.0 - y)));
    facts(&mut out, report, (510.0, y + 30.0));
    svg::close(&mut out);
    out
}

/// Both losses over the epochs, from 0 up.
fn curves(out: &mut String, report: &FinetuneReport, ((x, y), (width, height)): (Pixels, Pixels)) {
    let all = report.losses.iter().chain(&report.validation_losses);
    let most = all.copied().filter(|loss| loss.is_finite()).fold(f32::MIN_POSITIVE, f32::max);
    let last = report.losses.len().saturating_sub(1).max(1) as f64;
    svg::line(out, (x, y), (x, y + height), FAINT);
    svg::line(out, (x, y + height), (x + width, y + height), FAINT);
    svg::text(out, (x - 6.0, y + 10.0), 11, "end", INK, &format!("{most:.3}"));
    svg::text(out, (x - 6.0, y + height), 11, "end", INK, "0");
    let steps = format!("{} steps, loss: {}", report.steps, report.loss);
    svg::text(out, (x + width / 2.0, y + height + 20.0), 11, "middle", INK, &steps);
    let lines = [
        (&report.losses, TRAINING, "training"),
        (&report.validation_losses, VALIDATION, "kept aside"),
    ];
    for (place, (losses, colour, name)) in lines.into_iter().enumerate() {
        let point = |(i, loss): (usize, &f32)| {
            (x + width * i as f64 / last, y + height * (1.0 - f64::from(loss / most)))
        };
        let finite = losses.iter().enumerate().filter(|(_, loss)| loss.is_finite());
        svg::polyline(out, finite.map(point), 2.0, colour);
        svg::text(out, (x + width, y + 14.0 * (place + 1) as f64), 12, "end", colour, name);
    }
}

fn facts(out: &mut String, report: &FinetuneReport, (x, mut y): Pixels) {
    let rows = report.drawn.total().max(1);
    let share = |count: u64| 100.0 * count as f64 / rows as f64;
    let drawn = &report.drawn;
    for line in [
        format!("{} demonstrations, {} attempts", report.demonstrations, report.attempts),
        format!("{} corrected, {} kept aside", report.corrections, report.validation),
        format!("{} copies left out", report.copies),
        format!("hindsight: {}", report.strategy),
        format!("{:.1} % of rows: demonstrated, as wished", share(drawn.demonstrated)),
        format!("{:.1} %: demonstrated, relabelled", share(drawn.demonstrated_in_hindsight)),
        format!("{:.1} %: attempted, relabelled", share(drawn.attempted)),
    ] {
        svg::text(out, (x, y), 12, "start", INK, &line);
        y += 18.0;
    }
    let Some(success) = report.gate.as_ref().and_then(|gate| gate.success) else { return };
    svg::text(out, (x, y + 16.0), 12, "start", INK, "success in the emulator, 95 % intervals");
    for (place, (name, rate)) in
        [("before", success.before), ("after", success.after)].into_iter().enumerate()
    {
        bar(out, (x, y + 30.0 + 34.0 * place as f64), name, rate);
    }
}

/// A rate as a bar with its interval.
fn bar(out: &mut String, (x, y): Pixels, name: &str, rate: Rate) {
    const FULL: f64 = 220.0;
    let (low, high) = rate.wilson();
    svg::rect(out, (x, y), (FULL, 10.0), "#e4e7eb");
    svg::rect(out, (x, y), (FULL * rate.value(), 10.0), TRAINING);
    svg::line(out, (x + FULL * low, y + 5.0), (x + FULL * high, y + 5.0), INK);
    svg::text(out, (x, y + 22.0), 11, "start", INK, &format!("{name}: {rate}"));
}

/// Words in lines of at most about so many characters.
fn wrapped(words: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + word.chars().count() < most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
