//! Shapes to pixels, each pixel by the share of it that a shape covers.

use super::{Colour, Scene, Shape};

/// The scene, `[size, size, 3]`.
pub(super) fn draw(scene: &Scene, size: usize) -> Vec<f32> {
    let extent = scene.extent();
    let scale = size as f32 / extent[0].max(extent[1]);
    let margin = extent.map(|x| 0.5 * (size as f32 - x * scale));
    let place = |point: [f32; 2]| {
        let (right, down) = (point[0] - scene.min[0], scene.max[1] - point[1]);
        [right * scale + margin[0], down * scale + margin[1]]
    };
    let mut canvas = Canvas { size, pixels: vec![[1.0; 3]; size * size] };
    for shape in &scene.shapes {
        match shape {
            Shape::Rectangle { min, max, fill } => {
                let (min, max) = (place(*min), place(*max));
                canvas.rectangle([min[0], max[1]], [max[0], min[1]], *fill);
            }
            Shape::Circle { centre, radius, fill } => {
                let centre = place(*centre);
                canvas.capsule([centre; 2], radius * scale, *fill);
            }
            Shape::Path { points, width, colour } => {
                // No thinner than a pixel, or it would vanish.
                let radius = (0.5 * width * scale).max(0.5);
                for ends in points.array_windows::<2>() {
                    canvas.capsule(ends.map(place), radius, *colour);
                }
            }
        }
    }
    canvas.pixels.into_flattened()
}

/// Coordinates are pixels from the upper left corner.
struct Canvas {
    size: usize,
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    fn rectangle(&mut self, min: [f32; 2], max: [f32; 2], colour: Colour) {
        let covered = |pixel: f32, axis: usize| {
            ((pixel + 1.0).min(max[axis]) - pixel.max(min[axis])).clamp(0.0, 1.0)
        };
        self.blend(min, max, colour, |x, y| covered(x, 0) * covered(y, 1));
    }

    /// All points within a radius of a line; with both ends in one place, a circle. The share of a
    /// pixel that is covered is told from its centre's distance to the edge.
    fn capsule(&mut self, [from, to]: [[f32; 2]; 2], radius: f32, colour: Colour) {
        let low = [0, 1].map(|i| from[i].min(to[i]) - radius - 1.0);
        let high = [0, 1].map(|i| from[i].max(to[i]) + radius + 1.0);
        let way = [to[0] - from[0], to[1] - from[1]];
        let squared = (way[0] * way[0] + way[1] * way[1]).max(f32::MIN_POSITIVE);
        self.blend(low, high, colour, |x, y| {
            let off = [x + 0.5 - from[0], y + 0.5 - from[1]];
            let along = ((off[0] * way[0] + off[1] * way[1]) / squared).clamp(0.0, 1.0);
            let away = [off[0] - along * way[0], off[1] - along * way[1]];
            let distance = (away[0] * away[0] + away[1] * away[1]).sqrt();
            (radius - distance + 0.5).clamp(0.0, 1.0)
        });
    }

    /// Lays a colour over the pixels between two corners, each by its share in `0 ..= 1`.
    fn blend(
        &mut self,
        low: [f32; 2],
        high: [f32; 2],
        colour: Colour,
        share: impl Fn(f32, f32) -> f32,
    ) {
        // Conversions to integers saturate, and take what is not a number for 0.
        let from = low.map(|x| x.floor() as usize);
        let to = high.map(|x| (x.ceil() as usize).min(self.size));
        let colour = [colour.0, colour.1, colour.2].map(|c| f32::from(c) / 255.0);
        for row in from[1]..to[1] {
            for column in from[0]..to[0] {
                let share = share(column as f32, row as f32);
                if share > 0.0 {
                    let pixel = &mut self.pixels[row * self.size + column];
                    *pixel = [0, 1, 2].map(|i| pixel[i] + share * (colour[i] - pixel[i]));
                }
            }
        }
    }
}
