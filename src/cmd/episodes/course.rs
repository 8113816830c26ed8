//! An episode as a picture: each joint's course, and the way of the achieved goal from above and from
//! the side.

use std::path::Path;

use anyhow::bail;

use crate::cmd::picture::{FAINT, GRID, INK, png};
use crate::daemon::EpisodeCurves;
use crate::svg::{Pixels, circle, line, polyline, rect, text};

const WIDTH: f64 = 1160.0;
/// Joint courses stand on the left, ways on the right.
const COURSE: Pixels = (640.0, 92.0);
const LEFT: f64 = 70.0;
const TOP: f64 = 96.0;
const GAP: f64 = 30.0;
const WAYS: f64 = 790.0;
const WAY: f64 = 320.0;
const MEASURED: &str = "#31629b";
const SENT: &str = "#d08a2e";
const GOAL: &str = "#b3403a";

/// The picture as the file's name asks for it.
///
/// # Errors
/// Another extension than `.svg` and `.png`.
pub fn draw(episode: &EpisodeCurves, title: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let svg = svg(episode, title);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(svg.into_bytes()),
        Some("png") => png(&svg),
        _ => bail!("--picture: expected a file .svg or .png, found {}", path.display()),
    }
}

fn svg(episode: &EpisodeCurves, title: &str) -> String {
    let joints = &episode.joints;
    let height = (TOP + joints.len() as f64 * (COURSE.1 + GAP) + 20.0).max(TOP + 2.0 * WAY + 90.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n"
    );
    rect(&mut out, (0.0, 0.0), (WIDTH, height), "#ffffff");
    text(&mut out, (LEFT, 36.0), 20, "start", INK, title);
    for (x, colour, words) in [(LEFT, MEASURED, "measured"), (LEFT + 110.0, SENT, "sent")] {
        rect(&mut out, (x, 52.0), (12.0, 12.0), colour);
        text(&mut out, (x + 18.0, 63.0), 13, "start", FAINT, words);
    }
    for (i, name) in joints.iter().enumerate() {
        course(&mut out, episode, i, name, TOP + i as f64 * (COURSE.1 + GAP));
    }
    way(&mut out, episode, (0, 1), "from above", TOP);
    way(&mut out, episode, (1, 2), "from the side", TOP + WAY + 60.0);
    out.push_str("</svg>\n");
    out
}

/// One joint's measured and sent positions over time.
fn course(out: &mut String, episode: &EpisodeCurves, joint: usize, name: &str, top: f64) {
    let end = episode.time_s.last().copied().unwrap_or(1.0).max(1e-3);
    let points = |of: &[Vec<Option<f32>>]| -> Vec<Pixels> {
        let course = of.get(joint).into_iter().flatten();
        let points = episode.time_s.iter().zip(course);
        points.filter_map(|(t, q)| Some((*t, f64::from((*q)?)))).filter(finite).collect()
    };
    let (measured, sent) = (points(&episode.positions_rad), points(&episode.sent_rad));
    let all = || measured.iter().chain(&sent).map(|(_, q)| *q);
    let (low, high) = padded(all(), 0.02);
    let at = |(t, q): (f64, f64)| {
        (LEFT + COURSE.0 * t / end, top + COURSE.1 * (1.0 - (q - low) / (high - low)))
    };
    text(out, (LEFT, top - 6.0), 13, "start", INK, name);
    for q in [low, 0.5 * (low + high), high] {
        let (_, y) = at((0.0, q));
        line(out, (LEFT, y), (LEFT + COURSE.0, y), GRID);
        text(out, (LEFT - 6.0, y + 4.0), 11, "end", FAINT, &format!("{q:+.2}"));
    }
    polyline(out, sent.iter().map(|p| at(*p)), 1.5, SENT);
    polyline(out, measured.iter().map(|p| at(*p)), 1.5, MEASURED);
    let words = format!("rad, over {end:.2} s");
    text(out, (LEFT + COURSE.0, top - 6.0), 11, "end", FAINT, &words);
}

/// The way of the achieved goal in two of its numbers, and the goals wished for.
fn way(out: &mut String, episode: &EpisodeCurves, (a, b): (usize, usize), title: &str, top: f64) {
    let point = |goal: &Vec<Option<f32>>| {
        let number = |i: usize| goal.get(i).copied().flatten().map(f64::from);
        Some((number(a)?, number(b)?)).filter(finite)
    };
    let achieved: Vec<Pixels> = episode.achieved_goal.iter().filter_map(point).collect();
    let mut goals: Vec<Pixels> = episode.desired_goal.iter().filter_map(point).collect();
    goals.dedup();
    if achieved.is_empty() {
        return;
    }
    let all = || achieved.iter().chain(&goals);
    let (left, right) = padded(all().map(|p| p.0), 0.01);
    let (low, high) = padded(all().map(|p| p.1), 0.01);
    // One scale for both, so that angles are true.
    let scale = WAY / (right - left).max(high - low);
    let at = |(x, y): Pixels| {
        let (cx, cy) = (0.5 * (left + right), 0.5 * (low + high));
        (WAYS + 0.5 * WAY + (x - cx) * scale, top + 0.5 * WAY - (y - cy) * scale)
    };
    let axis = |i: usize| ["x", "y", "z"].get(i).copied().unwrap_or("?");
    let words = format!("{title}: {} to the right, {} up", axis(a), axis(b));
    text(out, (WAYS, top - 6.0), 13, "start", INK, &words);
    rect(out, (WAYS, top), (WAY, WAY), "#f6f8fa");
    polyline(out, achieved.iter().map(|p| at(*p)), 1.5, MEASURED);
    if let (Some(first), Some(last)) = (achieved.first(), achieved.last()) {
        circle(out, at(*first), 4.0, FAINT);
        circle(out, at(*last), 5.0, MEASURED);
    }
    for goal in goals {
        circle(out, at(goal), 5.0, GOAL);
    }
    let span = 1000.0 * WAY / scale;
    let words = format!("{span:.0} mm across; grey: start, blue: end, red: goals");
    text(out, (WAYS, top + WAY + 18.0), 11, "start", FAINT, &words);
}

fn finite((x, y): &Pixels) -> bool {
    x.is_finite() && y.is_finite()
}

/// The least and the greatest, with some room around.
fn padded(values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low > high { (-1.0, 1.0) } else { (low - room, high + room) }
}
