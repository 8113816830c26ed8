//! Learning curves: the mean over seeds with its 95 % interval, as numbers and as a picture.

use std::fmt::Write as _;

use anyhow::Result;

use super::folder::{CURVE, Folder};
use super::row::{Along, Metric, Row};
use crate::cmd::picture::{self, FAINT, GRID, INK};
use crate::svg::{line, rect, text};

/// The runs of one plan, one for each seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What the legend calls it.
    pub label: String,
    /// How many seeds.
    pub seeds: usize,
    /// What it runs along.
    pub along: Along,
    /// Along it.
    pub points: Vec<Point>,
}

/// The seeds at some place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The place.
    pub x: f64,
    /// Mean over the seeds.
    pub mean: f64,
    /// The 95 % interval of the mean (Student, 1908), which one seed does not have.
    pub interval: Option<(f64, f64)>,
}

/// Quantiles 0.975 of Student's distribution with 1, 2, ... degrees of freedom.
const STUDENT: [f64; 19] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
];

/// Mean of `values`, with its interval where there is more than one.
pub fn mean(values: &[f64]) -> (f64, Option<(f64, f64)>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let Some(freedom) = values.len().checked_sub(2) else { return (mean, None) };
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = STUDENT.get(freedom).unwrap_or(&1.96) * (variance / n).sqrt();
    (mean, Some((mean - half, mean + half)))
}

impl Curve {
    /// The curve of several seeds, at the places of the shortest of them; between evaluations values
    /// lie on a line. Nothing where a run has no such metric.
    pub fn of(label: String, runs: &[Vec<Row>], metric: Metric, along: Along) -> Option<Self> {
        let run = |rows: &Vec<Row>| -> Option<Vec<(f64, f64)>> {
            rows.iter().map(|row| Some((along.of(row), metric.of(row)?))).collect()
        };
        let runs: Vec<_> = runs.iter().map(run).collect::<Option<_>>()?;
        let end = |run: &Vec<(f64, f64)>| run.last().map_or(0.0, |(x, _)| *x);
        let shortest = runs.iter().min_by(|a, b| end(a).total_cmp(&end(b)))?;
        let points = shortest.iter().map(|(x, _)| {
            let values: Vec<f64> = runs.iter().filter_map(|run| at(run, *x)).collect();
            let (mean, interval) = mean(&values);
            let within = |x: f64| if metric.is_rate() { x.clamp(0.0, 1.0) } else { x };
            Point { x: *x, mean, interval: interval.map(|(a, b)| (within(a), within(b))) }
        });
        Some(Self { label, seeds: runs.len(), along, points: points.collect() })
    }
}

/// The value at a place; before the first evaluation the first.
fn at(run: &[(f64, f64)], at: f64) -> Option<f64> {
    let after = run.iter().position(|(x, _)| *x >= at)?;
    let (x1, y1) = *run.get(after)?;
    let (x0, y0) = *run.get(after.saturating_sub(1))?;
    Some(if x1 > x0 { y0 + (y1 - y0) * (at - x0) / (x1 - x0) } else { y1 })
}

/// Writes `NAME.svg` and `NAME.png` into a folder.
///
/// # Errors
/// They cannot be written.
pub fn save(
    folder: &Folder,
    name: &str,
    curves: &[Curve],
    title: &str,
    metric: Metric,
) -> Result<()> {
    let svg = svg(curves, title, metric);
    folder.write(&format!("{name}.svg"), svg.as_bytes())?;
    folder.write(&format!("{name}.png"), &picture::png(&svg)?)
}

/// The curve of a run's seeds: success at any time, or the return where there are no goals.
pub fn of_runs(label: String, runs: &[Vec<Row>]) -> Option<Curve> {
    Curve::of(label, runs, metric_of(runs), Along::Steps)
}

fn metric_of(runs: &[Vec<Row>]) -> Metric {
    let has_goals = runs.iter().flatten().all(|row| row.any.is_some());
    if has_goals { Metric::Any } else { Metric::Return }
}

/// Writes a run's own picture.
///
/// # Errors
/// It cannot be written.
pub fn save_run(folder: &Folder, label: &str, env: &str, runs: &[Vec<Row>]) -> Result<()> {
    let curves: Vec<Curve> = of_runs(label.to_owned(), runs).into_iter().collect();
    save(folder, CURVE, &curves, &format!("{label} on {env}"), metric_of(runs))
}

const SIZE: (f64, f64) = (900.0, 560.0);
/// Left, top, right, bottom of the axes.
const BOX: (f64, f64, f64, f64) = (84.0, 84.0, 872.0, 470.0);
/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Places and values to pixels.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn around(curves: &[Curve], metric: Metric) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let last = points().map(|p| p.x).fold(1.0, f64::max);
        if metric.is_rate() {
            return Self { x: (0.0, last), y: (0.0, 1.0) };
        }
        let ends = |p: &Point| p.interval.unwrap_or((p.mean, p.mean));
        let low =
            points().map(|p| ends(p).0).filter(|y| y.is_finite()).fold(f64::INFINITY, f64::min);
        let high =
            points().map(|p| ends(p).1).filter(|y| y.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let margin = 0.05 * (high - low).max(1e-6);
        Self { x: (0.0, last), y: (low - margin, high + margin) }
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, top, right, bottom) = BOX;
        let share = |v: f64, (a, b): (f64, f64)| ((v - a) / (b - a)).clamp(0.0, 1.0);
        (left + share(x, self.x) * (right - left), bottom - share(y, self.y) * (bottom - top))
    }
}

/// The picture.
pub fn svg(curves: &[Curve], title: &str, metric: Metric) -> String {
    let (width, height) = SIZE;
    let rows = curves.len().div_ceil(2) as f64;
    let height = height + 22.0 * (rows - 1.0).max(0.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width} {height:.0}\" font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n"
    );
    rect(&mut out, (0.0, 0.0), (width, height), "#ffffff");
    text(&mut out, (BOX.0, 38.0), 22, "start", INK, title);
    let several = curves.iter().any(|curve| curve.seeds > 1);
    let band = if several { ", mean over seeds with its 95 % interval" } else { "" };
    let subtitle = format!("{} on fixed held-out episodes{band}", metric.title());
    text(&mut out, (BOX.0, 62.0), 14, "start", FAINT, &subtitle);
    let axes = Axes::around(curves, metric);
    grid(&mut out, &axes, metric);
    let along = curves.first().map_or(Along::Steps, |curve| curve.along).title();
    text(&mut out, ((BOX.0 + BOX.2) / 2.0, BOX.3 + 42.0), 13, "middle", FAINT, along);
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        draw(&mut out, &axes, curve, colour);
    }
    for (i, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let (x, y) = (BOX.0 + 400.0 * (i % 2) as f64, BOX.3 + 70.0 + 22.0 * (i / 2) as f64);
        rect(&mut out, (x, y - 7.0), (24.0, 4.0), colour);
        text(&mut out, (x + 32.0, y), 14, "start", INK, &legend(curve, metric));
    }
    out.push_str("</svg>\n");
    out
}

fn legend(curve: &Curve, metric: Metric) -> String {
    let seeds = if curve.seeds == 1 { "1 seed".into() } else { format!("{} seeds", curve.seeds) };
    let end = curve.points.last().map_or(String::new(), |point| {
        let end = if metric.is_rate() {
            format!("{:.1} %", 100.0 * point.mean)
        } else {
            format!("{:.1}", point.mean)
        };
        format!(": {end} in the end")
    });
    format!("{} ({seeds}){end}", curve.label)
}

fn grid(out: &mut String, axes: &Axes, metric: Metric) {
    let (left, top, right, bottom) = BOX;
    for y in ticks(axes.y) {
        let (_, at) = axes.place(0.0, y);
        line(out, (left, at), (right, at), GRID);
        let number = if metric.is_rate() { format!("{:.0} %", 100.0 * y) } else { number(y) };
        text(out, (left - 10.0, at + 4.0), 13, "end", FAINT, &number);
    }
    for x in ticks(axes.x) {
        let (at, _) = axes.place(x, 0.0);
        line(out, (at, top), (at, bottom), GRID);
        text(out, (at, bottom + 20.0), 13, "middle", FAINT, &number(x));
    }
    line(out, (left, bottom), (right, bottom), FAINT);
}

fn draw(out: &mut String, axes: &Axes, curve: &Curve, colour: &str) {
    let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        let mut path = String::new();
        for (x, y) in points.filter(|(_, y)| y.is_finite()) {
            let (x, y) = axes.place(x, y);
            let _ = write!(path, "{}{x:.1} {y:.1} ", if path.is_empty() { "M" } else { "L" });
        }
        path
    };
    let side = |upper: bool| {
        let of = move |p: &Point| p.interval.map(|(a, b)| (p.x, if upper { b } else { a }));
        curve.points.iter().filter_map(of)
    };
    let band = path(&mut side(true).chain(side(false).collect::<Vec<_>>().into_iter().rev()));
    if !band.is_empty() {
        let _ = writeln!(out, "<path d=\"{band}Z\" fill=\"{colour}\" fill-opacity=\"0.16\"/>");
    }
    let mean = path(&mut curve.points.iter().map(|p| (p.x, p.mean)));
    let _ = writeln!(
        out,
        "<path d=\"{mean}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\"/>"
    );
}

/// About five round numbers within a range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = ((high - low) / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(rough);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A tick's number: thousands as `k`.
fn number(x: f64) -> String {
    let (x, unit) = match x.abs() {
        a if a >= 1e6 => (x / 1e6, "M"),
        a if a >= 1e4 => (x / 1e3, "k"),
        _ => (x, ""),
    };
    let text = format!("{x:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use resvg::usvg;

    use super::*;
    use crate::learn::evaluate::{Rate, Trials};

    fn run(rates: &[(u64, usize)]) -> Vec<Row> {
        let row = |(steps, successes): &(u64, usize)| {
            let rate = Rate { successes: *successes, n: 10 };
            let trials = Trials { any: rate, last: rate, held: rate, mean_return: -3e4 };
            Row::new((*steps, *steps), 0.0, &trials, true)
        };
        rates.iter().map(row).collect()
    }

    #[test]
    fn seeds_are_joined_at_the_steps_of_the_shortest_with_students_interval() {
        let runs = [
            run(&[(0, 0), (100, 4)]),
            run(&[(0, 0), (50, 2), (150, 10)]),
            run(&[(0, 0), (200, 10)]),
        ];
        let curve = Curve::of("x".into(), &runs, Metric::Any, Along::Steps).unwrap();
        assert_eq!((curve.seeds, curve.points.len()), (3, 2));
        // At 100 steps: 0.4, 0.2 + 0.8 / 2 = 0.6 and 0.5; deviation 0.1.
        let (point, half) = (curve.points[1], 4.303 * 0.1 / 3f64.sqrt());
        let (low, high) = point.interval.unwrap();
        assert!((point.mean - 0.5).abs() < 1e-9 && (high - 0.5 - half).abs() < 1e-9, "{point:?}");
        assert!((low - 0.5 + half).abs() < 1e-9);
        let one = Curve::of("x".into(), &runs[..1], Metric::Return, Along::Steps).unwrap();
        assert_eq!(one.points[1], Point { x: 100.0, mean: -3e4, interval: None });
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks((0.0, 150_000.0)), [0.0, 50e3, 100e3, 150e3]);
        assert_eq!(ticks((0.0, 1.0)), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!([0.0, 1500.0, 37_500.0, -2.5e6].map(number), ["0", "1500", "37.5k", "-2.5M"]);
    }

    #[test]
    fn the_picture_is_valid_whatever_it_shows() {
        let mut odd = run(&[(0, 3), (10, 5)]);
        odd[1].mean_return = f64::NAN;
        let runs = [odd, run(&[(0, 1), (8, 9)])];
        for metric in [Metric::Any, Metric::Return] {
            let label = "<her> & co".to_owned();
            let curves: Vec<Curve> =
                Curve::of(label, &runs, metric, Along::Cpu).into_iter().collect();
            for curves in [&curves[..], &[]] {
                let svg = svg(curves, "a \"title\" <>", metric);
                assert!(usvg::Tree::from_str(&svg, &usvg::Options::default()).is_ok(), "{svg}");
                assert!(!svg.contains("NaN L") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
