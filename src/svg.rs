//! SVG as text: the few elements that our pictures are made of. Numbers are pixels, to a tenth.

use std::fmt::Write as _;

/// A place or a size (pixels); y points down.
pub type Pixels = (f64, f64);

/// Opens a picture, or a picture within one, whose own coordinates begin at `(x, y)` and end after
/// `(width, height)`: what lies beyond is not seen. To be closed by [`close`].
pub fn open(out: &mut String, (x, y): Pixels, (width, height): Pixels) {
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\" viewBox=\"0 0 {width:.1} {height:.1}\">"
    );
}

/// Closes what [`open`] opened.
pub fn close(out: &mut String) {
    out.push_str("</svg>\n");
}

/// Words; `anchor` is `start`, `middle` or `end`.
pub fn text(out: &mut String, (x, y): Pixels, size: u32, anchor: &str, fill: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{}</text>",
        escape(words)
    );
}

/// A filled rectangle.
pub fn rect(out: &mut String, (x, y): Pixels, (width, height): Pixels, fill: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
    );
}

/// A filled circle.
pub fn circle(out: &mut String, (x, y): Pixels, radius: f64, fill: &str) {
    let _ =
        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{fill}\"/>");
}

/// A line, one pixel wide.
pub fn line(out: &mut String, from: Pixels, to: Pixels, stroke: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A line through many points, its ends and corners round.
pub fn polyline(
    out: &mut String,
    points: impl IntoIterator<Item = Pixels>,
    width: f64,
    stroke: &str,
) {
    out.push_str("<polyline points=\"");
    for (x, y) in points {
        let _ = write!(out, "{x:.1},{y:.1} ");
    }
    let _ = writeln!(
        out,
        "\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width:.1}\" \
         stroke-linecap=\"round\" stroke-linejoin=\"round\"/>"
    );
}

/// Words as XML text; characters that XML does not have are left out.
pub fn escape(words: &str) -> String {
    let mut escaped = String::new();
    for c in words.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
