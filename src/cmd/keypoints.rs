//! Keypoints drawn over the picture that they were found in.

use crate::env::Scene;
use crate::svg;

const COLOURS: [&str; 6] = ["#c4320a", "#8250df", "#bf8700", "#0550ae", "#bf3989", "#1a7f37"];

/// A scene, `width` pixels wide, with keypoints as numbered dots. They come as the network gives
/// them, x and y in `-1 ..= 1` of the square picture, to the right and upward.
pub fn svg(scene: &Scene, keypoints: &[f32], width: f64) -> String {
    let mut drawn = String::new();
    let height = scene.draw(&mut drawn, (0.0, 0.0), width);
    let mut out = String::new();
    svg::open(&mut out, (0.0, 0.0), (width, height));
    out.push_str("<g font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n");
    out.push_str(&drawn);
    // The square picture has the scene in its middle.
    let half = 0.5 * width.max(height);
    let finite = |point: &&[f32; 2]| point.iter().all(|x| x.is_finite());
    let points =
        keypoints.as_chunks::<2>().0.iter().filter(finite).map(|[x, y]| {
            (0.5 * width + half * f64::from(*x), 0.5 * height - half * f64::from(*y))
        });
    for (i, (point, colour)) in points.zip(COLOURS.iter().cycle()).enumerate() {
        svg::circle(&mut out, point, 0.012 * width, "#ffffff");
        svg::circle(&mut out, point, 0.009 * width, colour);
        let beside = (point.0 + 0.014 * width, point.1 + 4.0);
        svg::text(&mut out, beside, 11, "start", colour, &(i + 1).to_string());
    }
    out.push_str("</g>\n");
    svg::close(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::picture;

    #[test]
    fn a_keypoint_lies_where_the_network_says_also_in_a_wide_scene() {
        let scene = Scene::new([0.0, 0.0], [2.0, 1.0]);
        let svg = svg(&scene, &[0.5, 0.25, f32::NAN, 0.0], 400.0);
        assert!(svg.contains("cx=\"300.0\" cy=\"50.0\""), "{svg}");
        assert_eq!(svg.matches("<text").count(), 1);
        picture::png(&svg).unwrap();
    }
}
