//! The preview's picture: distances of goals and times until they are achieved.

use std::path::Path;

use anyhow::bail;

use super::{BINS, Histogram, Preview};
use crate::cmd::picture::{FAINT, GRID, INK, png};
use crate::svg::{Pixels, line, rect, text};

const SIZE: Pixels = (980.0, 400.0);
/// The plot areas: their top, their size and left edges.
const TOP: f64 = 110.0;
const PANEL: Pixels = (400.0, 220.0);
const LEFTS: [f64; 2] = [60.0, 540.0];
const WISHED: &str = "#9aa4af";
const DRAWN: &str = "#31629b";

/// The picture as the file's name asks for it.
///
/// # Errors
/// Another extension than `.svg` and `.png`.
pub(super) fn draw(preview: &Preview, title: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let svg = svg(preview, title);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(svg.into_bytes()),
        Some("png") => png(&svg),
        _ => bail!("--picture: expected a file .svg or .png, found {}", path.display()),
    }
}

fn svg(preview: &Preview, title: &str) -> String {
    let (width, height) = SIZE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n"
    );
    rect(&mut out, (0.0, 0.0), SIZE, "#ffffff");
    text(&mut out, (LEFTS[0], 40.0), 22, "start", INK, &format!("Hindsight goals: {title}"));
    let summary = format!(
        "{} episodes, {} transitions; {:.1} % get another goal, {:.1} % reach it in their step \
         ({:.1} % with the goals wished for)",
        preview.episodes,
        preview.transitions,
        100.0 * preview.relabelled,
        100.0 * preview.success,
        100.0 * preview.success_desired
    );
    text(&mut out, (LEFTS[0], 64.0), 14, "start", FAINT, &summary);
    let distances = [(&preview.distance_desired, WISHED), (&preview.distance, DRAWN)];
    panel(&mut out, LEFTS[0], "distance to the goal", &distances, 0.0);
    panel(&mut out, LEFTS[1], "steps until it is achieved", &[(&preview.horizon, DRAWN)], 1.0);
    for (x, colour, words) in [(60.0, WISHED, "wished for"), (180.0, DRAWN, "drawn")] {
        rect(&mut out, (x, SIZE.1 - 24.0), (12.0, 12.0), colour);
        text(&mut out, (x + 18.0, SIZE.1 - 14.0), 13, "start", FAINT, words);
    }
    out.push_str("</svg>\n");
    out
}

/// Bars of histograms side by side, their bins named by the value that they begin with.
fn panel(out: &mut String, left: f64, title: &str, bars: &[(&Histogram, &str)], first: f64) {
    let highest =
        bars.iter().flat_map(|(histogram, _)| &histogram.shares).copied().fold(0.01, f64::max);
    let (bottom, bin) = (TOP + PANEL.1, PANEL.0 / BINS as f64);
    text(out, (left, TOP - 16.0), 15, "start", INK, title);
    for part in 0..=4 {
        let y = bottom - PANEL.1 * f64::from(part) / 4.0;
        line(out, (left, y), (left + PANEL.0, y), GRID);
        let percent = format!("{:.0} %", 25.0 * f64::from(part) * highest);
        text(out, (left - 6.0, y + 4.0), 11, "end", FAINT, &percent);
    }
    let width = (bin - 6.0) / bars.len() as f64;
    for i in 0..BINS {
        let x = left + bin * i as f64;
        for (place, (histogram, colour)) in bars.iter().enumerate() {
            let height = PANEL.1 * histogram.shares[i] / highest;
            let at = (x + 3.0 + width * place as f64, bottom - height);
            rect(out, at, (width, height), colour);
        }
        let from = bars[0].0.bin * i as f64 + first;
        let name = if first > 0.0 { format!("{from:.0}") } else { format!("{from:.2}") };
        text(out, (x + 3.0, bottom + 16.0), 11, "start", FAINT, &name);
    }
}
