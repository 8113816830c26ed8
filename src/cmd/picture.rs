//! The demo's picture: where the arm got before and after it learned from its own attempts.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use resvg::{tiny_skia, usvg};

use crate::learn::evaluate::Rate;
use crate::storage::Storage;
use crate::svg::{line, rect, text};

/// One goal and whether it was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoalOutcome {
    /// The goal (m, base frame).
    pub goal: [f32; 3],
    /// Reached by the policy before fine-tuning.
    pub before: bool,
    /// Reached after it.
    pub after: bool,
}

impl GoalOutcome {
    fn reached(&self, after: bool) -> bool {
        if after { self.after } else { self.before }
    }

    fn demonstrated(&self) -> bool {
        self.goal[0] > DEMONSTRATED_X
    }
}

/// The picture's words.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Above all.
    pub title: String,
    /// One line under the title.
    pub subtitle: String,
    /// Of the left panel, such as "before".
    pub before: String,
    /// Of the right panel, such as "after".
    pub after: String,
}

/// Demonstrations cover goals right of this (m).
const DEMONSTRATED_X: f32 = 0.02;

const WIDTH: f64 = 1200.0;
/// The plot areas: their top, width, highest height and left edges.
const TOP: f64 = 140.0;
const PANEL: f64 = 520.0;
const TALLEST: f64 = 460.0;
const LEFTS: [f64; 2] = [70.0, 650.0];

pub(super) const INK: &str = "#1f2328";
pub(super) const FAINT: &str = "#656d76";
pub(super) const GRID: &str = "#e4e7eb";
const REACHED: &str = "#1a7f37";
const MISSED: &str = "#c4320a";
const SHADE: &str = "#e6f0fb";
const SHADE_INK: &str = "#31629b";

/// Writes `stem.svg` and `stem.png`.
///
/// # Errors
/// The files cannot be written.
pub fn save(
    storage: &dyn Storage,
    stem: &Path,
    outcomes: &[GoalOutcome],
    labels: &Labels,
) -> anyhow::Result<()> {
    let svg = svg(outcomes, labels);
    let files = [("svg", svg.clone().into_bytes()), ("png", png(&svg)?)];
    for (extension, content) in files {
        let path = stem.with_extension(extension);
        storage.replace(&path, &content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The picture as SVG: two top views of the workspace, forward upward, and success by region.
pub fn svg(outcomes: &[GoalOutcome], labels: &Labels) -> String {
    let view = View::around(outcomes);
    let height = view.bottom() + 206.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (LEFTS[0] - 40.0, 46.0), 27, "start", INK, &labels.title);
    text(&mut out, (LEFTS[0] - 40.0, 72.0), 15, "start", FAINT, &labels.subtitle);
    for (left, after) in LEFTS.into_iter().zip([false, true]) {
        panel(&mut out, &view.at(left), outcomes, after, labels);
    }
    legend(&mut out, view.bottom() + 66.0);
    bars(&mut out, view.bottom() + 108.0, outcomes, labels);
    out.push_str("</svg>\n");
    out
}

/// An SVG as PNG, its text in the font that the program carries: the same on every machine.
///
/// # Errors
/// The text is not SVG.
pub fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    let mut options = usvg::Options { font_family: "Ubuntu".into(), ..usvg::Options::default() };
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let tree = usvg::Tree::from_str(svg, &options).context("the picture is not valid SVG")?;
    let size = tree.size().to_int_size();
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).context("the picture has no size")?;
    resvg::render(&tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());
    pixels.encode_png().context("encoding the picture")
}

/// Metres to pixels: x to the right, forward (-y) up, one scale for both.
#[derive(Debug, Clone, Copy)]
struct View {
    left: f64,
    /// Pixels per metre.
    scale: f64,
    /// Half the width and the lowest and highest forward distance shown (m).
    reach: f64,
    back: f64,
    front: f64,
}

impl View {
    /// Shows all goals and the base, with a margin.
    fn around(outcomes: &[GoalOutcome]) -> Self {
        let widest = |of: fn(&GoalOutcome) -> f32, least: f32| {
            let finite = outcomes.iter().map(of).filter(|x| x.is_finite());
            f64::from(finite.fold(least, f32::max).min(10.0))
        };
        let reach = widest(|o| o.goal[0].abs(), 0.3) + 0.03;
        let front = widest(|o| -o.goal[1], 0.3) + 0.05;
        let back = -widest(|o| o.goal[1], 0.02) - 0.03;
        let scale = (PANEL / (2.0 * reach)).min(TALLEST / (front - back));
        // A tall view leaves room at its sides: show more there.
        Self { left: 0.0, scale, reach: PANEL / scale / 2.0, back, front }
    }

    fn height(&self) -> f64 {
        (self.front - self.back) * self.scale
    }

    fn bottom(&self) -> f64 {
        TOP + self.height()
    }

    fn at(self, left: f64) -> Self {
        Self { left, ..self }
    }

    fn x(&self, x: f64) -> f64 {
        self.left + (x + self.reach) * self.scale
    }

    fn y(&self, forward: f64) -> f64 {
        TOP + (self.front - forward) * self.scale
    }
}

fn panel(out: &mut String, view: &View, outcomes: &[GoalOutcome], after: bool, labels: &Labels) {
    let name = if after { &labels.after } else { &labels.before };
    let rate = rate(outcomes.iter(), after);
    let (low, high) = rate.wilson();
    let title = format!("{name}: {:.1} % of {} goals reached", 100.0 * rate.value(), rate.n);
    let interval = format!("95 % interval {:.1} to {:.1} %", 100.0 * low, 100.0 * high);
    text(out, (view.left, TOP - 30.0), 19, "start", INK, &title);
    text(out, (view.left, TOP - 10.0), 13, "start", FAINT, &interval);
    let shade = view.x(f64::from(DEMONSTRATED_X));
    rect(out, (shade, TOP), (view.left + PANEL - shade, view.height()), SHADE);
    text(out, (view.left + PANEL - 10.0, TOP + 20.0), 13, "end", SHADE_INK, "demonstrated half");
    axes(out, view);
    base(out, view);
    // Misses on top: they are what to look for.
    let (hits, misses): (Vec<_>, Vec<&GoalOutcome>) =
        outcomes.iter().partition(|o| o.reached(after));
    for goal in hits.into_iter().chain(misses) {
        let (x, y) = (f64::from(goal.goal[0]), -f64::from(goal.goal[1]));
        if x.is_finite() && y.is_finite() {
            mark(out, view.x(x), view.y(y), goal.reached(after));
        }
    }
}

fn axes(out: &mut String, view: &View) {
    let bottom = view.bottom();
    let tenths = |from: f64, to: f64| (from * 10.0).ceil() as i32..=(to * 10.0).floor() as i32;
    for tenth in tenths(-view.reach, view.reach) {
        let x = view.x(f64::from(tenth) / 10.0);
        line(out, (x, TOP), (x, bottom), GRID);
        text(
            out,
            (x, bottom + 18.0),
            12,
            "middle",
            FAINT,
            &format!("{:.1}", f64::from(tenth) / 10.0),
        );
    }
    for tenth in tenths(view.back, view.front) {
        let y = view.y(f64::from(tenth) / 10.0);
        line(out, (view.left, y), (view.left + PANEL, y), GRID);
        let number = format!("{:.1}", f64::from(tenth) / 10.0);
        text(out, (view.left - 8.0, y + 4.0), 12, "end", FAINT, &number);
    }
    let _ = writeln!(
        out,
        "<rect x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#afb8c1\"/>",
        view.left,
        PANEL,
        view.height()
    );
    text(out, (view.left + PANEL / 2.0, bottom + 37.0), 13, "middle", FAINT, "x (m)");
    let (x, y) = (view.left - 40.0, TOP + view.height() / 2.0);
    let _ = writeln!(out, "<g transform=\"rotate(-90 {x:.1} {y:.1})\">");
    text(out, (x, y), 13, "middle", FAINT, "forward, -y (m)");
    out.push_str("</g>\n");
}

/// The arm's base with an arrow to the front.
fn base(out: &mut String, view: &View) {
    let (x, y) = (view.x(0.0), view.y(0.0));
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"36\" height=\"24\" rx=\"5\" fill=\"#57606a\"/>\
         <path d=\"M{x:.1} {:.1} v-26 m-6 8 l6 -9 l6 9\" fill=\"none\" stroke=\"#57606a\" stroke-width=\"2\"/>",
        x - 18.0,
        y - 12.0,
        y - 12.0
    );
    text(out, (x, y + 4.5), 12, "middle", "#ffffff", "base");
}

fn mark(out: &mut String, x: f64, y: f64, reached: bool) {
    let _ = if reached {
        writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.4\" fill=\"{REACHED}\" stroke=\"#ffffff\" stroke-width=\"0.8\"/>"
        )
    } else {
        writeln!(
            out,
            "<path d=\"M{x:.1} {:.1} l5 5 l-5 5 l-5 -5 z\" fill=\"none\" stroke=\"{MISSED}\" stroke-width=\"1.6\"/>",
            y - 5.0
        )
    };
}

fn legend(out: &mut String, y: f64) {
    for (x, reached, says) in
        [(LEFTS[0] + 6.0, true, "reached"), (LEFTS[0] + 100.0, false, "missed")]
    {
        mark(out, x, y - 4.5, reached);
        text(out, (x + 12.0, y), 14, "start", INK, says);
    }
    rect(out, (LEFTS[0] + 190.0, y - 12.0), (22.0, 15.0), SHADE);
    let says = "half of the workspace that the demonstrations cover; top view, one mark a goal";
    text(out, (LEFTS[0] + 220.0, y), 14, "start", INK, says);
}

/// Success by region, before and after, with 95 % intervals.
fn bars(out: &mut String, top: f64, outcomes: &[GoalOutcome], labels: &Labels) {
    for (left, inside) in LEFTS.into_iter().zip([false, true]) {
        let goals = || outcomes.iter().filter(move |o| o.demonstrated() == inside);
        let region = if inside { "Demonstrated half" } else { "Half never demonstrated" };
        let heading = format!("{region}: {} goals", goals().count());
        text(out, (left, top), 15, "start", INK, &heading);
        for (row, after) in [false, true].into_iter().enumerate() {
            let name = if after { &labels.after } else { &labels.before };
            bar(out, (left, top + 16.0 + 30.0 * row as f64), name, rate(goals(), after), after);
        }
    }
}

fn bar(out: &mut String, (left, top): (f64, f64), name: &str, rate: Rate, after: bool) {
    const HEIGHT: f64 = 20.0;
    let (from, full) = (left + 120.0, 340.0);
    text(out, (from - 10.0, top + 15.0), 14, "end", INK, name);
    rect(out, (from, top), (full, HEIGHT), "#f1f3f5");
    if rate.n == 0 {
        return text(out, (from + 8.0, top + 15.0), 13, "start", FAINT, "no goals");
    }
    let colour = if after { REACHED } else { "#8c959f" };
    rect(out, (from, top), (full * rate.value(), HEIGHT), colour);
    let (low, high) = rate.wilson();
    let (a, b, y) = (from + full * low, from + full * high, top + HEIGHT / 2.0);
    let _ = writeln!(
        out,
        "<path d=\"M{a:.1} {y:.1} H{b:.1} M{a:.1} {:.1} v8 M{b:.1} {:.1} v8\" stroke=\"{INK}\" stroke-width=\"1.4\"/>",
        y - 4.0,
        y - 4.0
    );
    let value = format!("{:.1} %", 100.0 * rate.value());
    text(out, (from + full + 10.0, top + 15.0), 14, "start", INK, &value);
}

fn rate<'a>(goals: impl Iterator<Item = &'a GoalOutcome>, after: bool) -> Rate {
    goals.fold(Rate::default(), |rate, goal| Rate {
        successes: rate.successes + usize::from(goal.reached(after)),
        n: rate.n + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    fn labels() -> Labels {
        let title = "Goals <reached> & \"missed\"\0".into();
        let (before, after) = ("before".into(), "after".into());
        Labels { title, subtitle: "of the emulated arm".into(), before, after }
    }

    /// A fan of goals in front of the base: the right half reached before, all but a few after.
    fn outcomes() -> Vec<GoalOutcome> {
        (0..200)
            .map(|i| {
                let (angle, r) = (f64::from(i) * 2.399_963, 0.13 + 0.26 * f64::from(i) / 200.0);
                let angle = (angle.rem_euclid(2.8)) - 1.4;
                let goal = [(r * angle.sin()) as f32, (-r * angle.cos()) as f32, 0.1];
                GoalOutcome { goal, before: goal[0] > 0.0 && i % 4 > 0, after: i % 9 > 0 }
            })
            .collect()
    }

    #[test]
    fn the_picture_is_valid_xml_whatever_the_words_and_goals_are() {
        let odd = [f32::NAN, f32::INFINITY, 1e30, -1e30, 0.0];
        let odd = odd.map(|x| GoalOutcome { goal: [x, x, x], before: true, after: false });
        for goals in [&outcomes()[..], &odd, &[]] {
            let svg = svg(goals, &labels());
            assert!(usvg::Tree::from_str(&svg, &usvg::Options::default()).is_ok(), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn every_goal_has_one_mark_of_its_outcome_in_each_panel() {
        let goals = outcomes();
        let svg = svg(&goals, &labels());
        let reached =
            goals.iter().map(|o| usize::from(o.before) + usize::from(o.after)).sum::<usize>();
        // One more of each stands in the legend.
        assert_eq!(svg.matches("<circle").count(), reached + 1);
        assert_eq!(svg.matches(MISSED).count(), 2 * goals.len() - reached + 1);
    }

    #[test]
    fn text_is_drawn_without_any_font_on_the_machine() {
        let with = svg(&outcomes(), &labels());
        let mut without = String::new();
        with.lines().filter(|l| !l.starts_with("<text")).for_each(|l| without.push_str(l));
        let ink = |svg: &str| {
            let pixels = tiny_skia::Pixmap::decode_png(&png(svg).unwrap()).unwrap();
            let white = |p: &&tiny_skia::PremultipliedColorU8| p.red() == 255 && p.blue() == 255;
            pixels.pixels().iter().filter(|p| !white(p)).count()
        };
        let (with, without) = (ink(&with), ink(&without));
        assert!(with > without + 5000, "{with} pixels with text, {without} without");
    }

    #[test]
    fn environments_show_what_happens_in_them() {
        for name in ["arm_pick_place", "bit_flip", "block_pusher", "four_rooms"] {
            let mut env = crate::env::named(name).unwrap();
            let mut rng = crate::rng::stream(5, crate::rng::Stream::HeldOut);
            let goal = env.sample_goal(&mut rng);
            env.reset(&goal, &mut rng).unwrap();
            let before = env.scene();
            let action = env.expert().unwrap();
            env.step(&action).unwrap();
            let scene = env.scene();
            assert_ne!(scene.raster(64), before.raster(64), "{name}");
            let [before, after] = [before, scene].map(|s| png(&s.to_svg(500.0)).unwrap());
            assert_ne!(before, after, "{name}");
            assert_eq!(tiny_skia::Pixmap::decode_png(&after).unwrap().width(), 500);
        }
    }

    #[test]
    fn both_files_are_written() {
        let storage = Memory::default();
        save(&storage, Path::new("demo"), &outcomes(), &labels()).unwrap();
        assert!(storage.read(Path::new("demo.svg")).unwrap().starts_with(b"<svg"));
        assert!(storage.read(Path::new("demo.png")).unwrap().starts_with(b"\x89PNG"));
    }
}
