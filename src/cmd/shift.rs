//! The picture of distribution shift: `regoal train bc --report`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::picture;
use crate::env::Env;
use crate::learn::evaluate;
use crate::learn::rollout::Actor;
use crate::learn::shift::{self, OverTime, Profile, Shift};
use crate::storage::Storage;
use crate::svg::{self, Pixels};

/// Measures policies against the environment's expert on `goals` goals and writes `shift.svg`,
/// `shift.png` and `shift.csv` to a folder. Returns what was measured.
///
/// # Errors
/// The environment has no expert, a policy fails, or the files cannot be written.
pub fn report(
    storage: &dyn Storage,
    env: &mut dyn Env,
    policies: &mut [(&str, Actor)],
    (goals, seed): (usize, u64),
    folder: &Path,
) -> Result<Shift> {
    let all = evaluate::goals(env, goals, seed);
    // Fixed goals stand in an order: take them from everywhere.
    let every = all.len().div_ceil(goals.max(1)).max(1);
    let chosen: Vec<Vec<f32>> = all.into_iter().step_by(every).collect();
    let shift = shift::measure(env, policies, &chosen, seed)?;
    let svg = svg(env.spec().name, &shift);
    let files = [
        ("shift.svg", svg.clone().into_bytes()),
        ("shift.png", picture::png(&svg)?),
        ("shift.csv", csv(&shift).into_bytes()),
    ];
    storage.create_folder(folder)?;
    for (name, content) in files {
        let path = folder.join(name);
        storage.replace(&path, &content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(shift)
}

/// One row for each policy and time.
pub fn csv(shift: &Shift) -> String {
    let mut out: String =
        "policy,t,episodes,error_on_own_states,drift,expert_episodes,error_on_expert_states\n"
            .into();
    for policy in &shift.policies {
        let (own, drift, expert) = (&policy.error_on_own, &policy.drift, &policy.error_on_expert);
        let cells = |series: &OverTime| -> Vec<String> {
            series.means().map(|x| format!("{x:.6}")).collect()
        };
        let (errors, drifts, there) = (cells(own), cells(drift), cells(expert));
        let cell = |column: &[String], t: usize| column.get(t).cloned().unwrap_or_default();
        let n = |series: &OverTime, t: usize| series.counts().get(t).copied().unwrap_or(0);
        for t in 0..errors.len().max(there.len()) {
            let _: std::fmt::Result = writeln!(
                out,
                "{},{t},{},{},{},{},{}",
                policy.name,
                n(own, t),
                cell(&errors, t),
                cell(&drifts, t),
                n(expert, t),
                cell(&there, t)
            );
        }
    }
    out
}

const WIDTH: f64 = 1200.0;
const TOP: f64 = 130.0;
const PLOT: Pixels = (500.0, 300.0);
const LEFTS: [f64; 2] = [70.0, 660.0];
/// Upper edge and size of the maps of states.
const MAPS: f64 = 530.0;
const GAP: f64 = 24.0;

const INK: &str = "#1f2328";
const FAINT: &str = "#656d76";
const GRID: &str = "#e4e7eb";
const COLOURS: [&str; 4] = ["#c4320a", "#0969da", "#8250df", "#1a7f37"];

/// The picture: errors and drift over time, and where the expert and each policy were.
pub fn svg(env: &str, shift: &Shift) -> String {
    let maps = shift.policies.len() + 1;
    let side = ((WIDTH - 2.0 * 40.0 + GAP) / maps as f64 - GAP).min(340.0);
    let height = MAPS + 30.0 + side + 50.0;
    let mut out = String::new();
    svg::open(&mut out, (0.0, 0.0), (WIDTH, height));
    out.push_str("<g font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n");
    svg::rect(&mut out, (0.0, 0.0), (WIDTH, height), "#ffffff");
    svg::text(&mut out, (40.0, 44.0), 26, "start", INK, &format!("Distribution shift: {env}"));
    let says = format!(
        "{} episodes each; the expert is asked at every state visited; means over the episodes that \
         still go on",
        shift.episodes
    );
    svg::text(&mut out, (40.0, 70.0), 15, "start", FAINT, &says);
    let error = |p: &Profile| smooth(p.error_on_own.means());
    let there = |p: &Profile| smooth(p.error_on_expert.means());
    let drift = |p: &Profile| smooth(p.drift.means());
    let lines = |of: &dyn Fn(&Profile) -> Vec<f64>, dim: bool| -> Vec<Line> {
        let each = shift.policies.iter().zip(COLOURS.iter().cycle());
        each.map(|(p, colour)| Line { values: of(p), colour, dim }).collect()
    };
    let errors = [lines(&there, true), lines(&error, false)].concat();
    plot(
        &mut out,
        LEFTS[0],
        "Error of the action (strong: own states, pale: the expert's)",
        &errors,
    );
    plot(
        &mut out,
        LEFTS[1],
        "Distance to the expert's states (their deviations)",
        &lines(&drift, false),
    );
    legend(&mut out, shift);
    let window = Window::around(shift);
    for (i, (name, states, colour)) in groups(shift).enumerate() {
        let left = 40.0 + i as f64 * (side + GAP);
        svg::text(&mut out, (left, MAPS + 18.0), 15, "start", INK, &format!("States of {name}"));
        map(&mut out, ((left, MAPS + 30.0), side), &window, states, colour);
    }
    let axes = "first and second number of the observation; a darker cell was visited more often";
    svg::text(&mut out, (40.0, height - 18.0), 13, "start", FAINT, axes);
    out.push_str("</g>\n");
    svg::close(&mut out);
    out
}

/// The expert and the policies: name, states, colour.
fn groups(shift: &Shift) -> impl Iterator<Item = (&str, &[[f32; 2]], &'static str)> {
    let policies = shift.policies.iter().zip(COLOURS.iter().cycle());
    std::iter::once(("the expert", &shift.expert[..], "#57606a"))
        .chain(policies.map(|(p, colour)| (p.name.as_str(), &p.states[..], *colour)))
}

#[derive(Clone)]
struct Line {
    values: Vec<f64>,
    colour: &'static str,
    dim: bool,
}

/// Means over a few steps around each, so that lines can be told apart.
fn smooth(values: impl Iterator<Item = f64>) -> Vec<f64> {
    const REACH: usize = 3;
    let values: Vec<f64> = values.collect();
    let around = |t: usize| &values[t.saturating_sub(REACH)..(t + REACH + 1).min(values.len())];
    (0..values.len()).map(|t| around(t).iter().sum::<f64>() / around(t).len() as f64).collect()
}

fn plot(out: &mut String, left: f64, title: &str, lines: &[Line]) {
    let all = || lines.iter().flat_map(|l| l.values.iter().copied()).filter(|x| x.is_finite());
    let (high, last) = (
        all().fold(1e-6, f64::max) * 1.05,
        lines.iter().map(|l| l.values.len()).max().unwrap_or(0).max(2) - 1,
    );
    let place = |t: f64, x: f64| (left + PLOT.0 * t / last as f64, TOP + PLOT.1 * (1.0 - x / high));
    svg::text(out, (left, TOP - 14.0), 16, "start", INK, title);
    for i in 0..=4 {
        let share = f64::from(i) / 4.0;
        let (x, y) = (place(share * last as f64, 0.0), place(0.0, share * high));
        svg::line(out, y, (y.0 + PLOT.0, y.1), GRID);
        svg::text(out, (y.0 - 8.0, y.1 + 4.0), 12, "end", FAINT, &format!("{:.2}", share * high));
        let time = format!("{:.0}", share * last as f64);
        svg::text(out, (x.0, x.1 + 18.0), 12, "middle", FAINT, &time);
    }
    let below = (left + PLOT.0 / 2.0, TOP + PLOT.1 + 38.0);
    svg::text(out, below, 13, "middle", FAINT, "time step");
    for line in lines {
        let points = line.values.iter().enumerate().filter(|(_, x)| x.is_finite());
        let points = points.map(|(t, x)| place(t as f64, *x));
        let _ = writeln!(out, "<g opacity=\"{}\">", if line.dim { 0.35 } else { 1.0 });
        svg::polyline(out, points, if line.dim { 3.0 } else { 2.0 }, line.colour);
        out.push_str("</g>\n");
    }
}

fn legend(out: &mut String, shift: &Shift) {
    let y = TOP + PLOT.1 + 70.0;
    for (i, (policy, colour)) in shift.policies.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let left = LEFTS[0] + 560.0 * (i % 2) as f64;
        let y = y + 22.0 * (i / 2) as f64;
        svg::rect(out, (left, y - 10.0), (18.0, 10.0), colour);
        let (own, there) = (policy.error_on_own.mean(), policy.error_on_expert.mean());
        let mut says = format!(
            "{}: mean error {there:.3} on the expert's states, {own:.3} on its own",
            policy.name
        );
        if policy.reached > 0 {
            let _ = write!(says, "; reached {} of {}", policy.reached, shift.episodes);
        }
        svg::text(out, (left + 26.0, y), 14, "start", INK, &says);
    }
}

/// The part of the states that is shown.
struct Window {
    min: [f32; 2],
    size: [f32; 2],
}

/// Cells of a map along each side.
const CELLS: usize = 40;

impl Window {
    fn around(shift: &Shift) -> Self {
        let mut corners = [[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]];
        let finite = |state: &&[f32; 2]| state.iter().all(|x| x.is_finite());
        for state in groups(shift).flat_map(|(_, states, _)| states).filter(finite) {
            for axis in 0..2 {
                corners[0][axis] = corners[0][axis].min(state[axis]);
                corners[1][axis] = corners[1][axis].max(state[axis]);
            }
        }
        let size = [0, 1].map(|axis| (corners[1][axis] - corners[0][axis]).max(1e-6));
        Self { min: corners[0], size }
    }

    /// The share of the visits in each cell, row by row from below.
    fn histogram(&self, states: &[[f32; 2]]) -> Vec<f64> {
        let mut cells = vec![0.0; CELLS * CELLS];
        for state in states {
            let cell = |axis: usize| {
                let share = (state[axis] - self.min[axis]) / self.size[axis];
                ((share * CELLS as f32) as usize).min(CELLS - 1)
            };
            cells[cell(1) * CELLS + cell(0)] += 1.0 / states.len() as f64;
        }
        cells
    }
}

fn map(
    out: &mut String,
    ((left, top), side): (Pixels, f64),
    window: &Window,
    states: &[[f32; 2]],
    colour: &str,
) {
    svg::rect(out, (left, top), (side, side), "#f6f8fa");
    let cells = window.histogram(states);
    let most = cells.iter().copied().fold(0.0, f64::max);
    let cell = side / CELLS as f64;
    for (i, share) in cells.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (column, row) = ((i % CELLS) as f64, (i / CELLS) as f64);
        // Roots: few visits are visits, too.
        let opacity = 0.15 + 0.85 * (share / most).powf(0.33);
        let _ = writeln!(out, "<g opacity=\"{opacity:.2}\">");
        let at = (left + column * cell, top + side - (row + 1.0) * cell);
        svg::rect(out, at, (cell, cell), colour);
        out.push_str("</g>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::env::FourRooms;
    use crate::learn::bc::{Bc, BcSettings};
    use crate::learn::demonstrations;
    use crate::learn::learner::Learner as _;
    use crate::learn::rollout::Noise;
    use crate::rng::{Stream, stream};
    use crate::storage::Memory;

    /// A cloned policy after few steps, on two goals.
    #[test]
    fn the_report_is_a_picture_and_a_row_for_every_time_step() {
        let (mut env, engine) = (FourRooms::new(), Engine::tract());
        let mut rng = stream(1, Stream::Demonstrations);
        let shown = demonstrations::collect(&mut env, 3, Noise::default(), &mut rng).unwrap();
        let settings = BcSettings { hidden: vec![16], steps: 20, ..BcSettings::default() };
        let mut bc = Bc::new(&engine, &settings, env.spec(), &shown, 1).unwrap();
        bc.iterate().unwrap();
        let actor = || Actor::new(&engine, &bc.policy().unwrap(), env.spec().actions).unwrap();
        let mut policies = [("BC <raw>", actor()), ("the same", actor())];
        let storage = Memory::default();
        let folder = Path::new("report");
        let shift = report(&storage, &mut env, &mut policies, (2, 0), folder).unwrap();
        assert_eq!(shift.policies[0].error_on_own, shift.policies[1].error_on_own);
        let file = |name: &str| storage.read(&folder.join(name)).unwrap();
        let svg = String::from_utf8(file("shift.svg")).unwrap();
        assert!(svg.contains("States of BC &lt;raw&gt;") && !svg.contains("NaN"), "{svg}");
        assert_eq!(file("shift.png"), picture::png(&svg).unwrap());
        let longest =
            |p: &Profile| p.error_on_own.counts().len().max(p.error_on_expert.counts().len());
        let rows = 1 + shift.policies.iter().map(longest).sum::<usize>();
        let csv = String::from_utf8(file("shift.csv")).unwrap();
        assert_eq!(csv.lines().count(), rows);
        assert!(csv.lines().all(|line| line.split(',').count() == 7), "{csv}");
    }

    #[test]
    fn policies_that_never_acted_are_drawn_as_nothing() {
        let policies = vec![Profile { name: "none".into(), ..Profile::default() }];
        let svg = svg("test", &Shift { policies, ..Shift::default() });
        picture::png(&svg).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
