//! What is drawn of an environment: shapes in the world's own coordinates, as SVG for people and as
//! a raster for networks that see.

mod raster;

use crate::svg::{self, Pixels};

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// Paper.
    pub const WHITE: Self = Self(255, 255, 255);
    /// Walls, and bits that are set.
    pub const WALL: Self = Self(87, 96, 106);
    /// Frames, and bits that are not set.
    pub const FAINT: Self = Self(208, 215, 222);
    /// What acts.
    pub const AGENT: Self = Self(9, 105, 218);
    /// Where it is wished.
    pub const GOAL: Self = Self(26, 127, 55);
    /// What counts as there.
    pub const NEAR_GOAL: Self = Self(172, 224, 184);
    /// What is moved.
    pub const OBJECT: Self = Self(188, 76, 0);
    /// Where that is wished.
    pub const OBJECT_GOAL: Self = Self(255, 216, 181);

    fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// One shape (the world's unit); what is drawn later covers what was drawn before.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A filled rectangle, its sides along the axes.
    Rectangle {
        /// The lower left corner.
        min: [f32; 2],
        /// The upper right corner.
        max: [f32; 2],
        /// Its colour.
        fill: Colour,
    },
    /// A filled circle.
    Circle {
        /// The centre.
        centre: [f32; 2],
        /// The radius.
        radius: f32,
        /// Its colour.
        fill: Colour,
    },
    /// A line through points, its ends round.
    Path {
        /// The points.
        points: Vec<[f32; 2]>,
        /// The line's width.
        width: f32,
        /// Its colour.
        colour: Colour,
    },
}

/// A picture of a part of the world, y up.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    min: [f32; 2],
    max: [f32; 2],
    shapes: Vec<Shape>,
}

impl Default for Scene {
    /// An empty unit square.
    fn default() -> Self {
        Self::new([0.0; 2], [1.0; 2])
    }
}

impl Scene {
    /// Nothing yet, of the part between two corners.
    pub fn new(min: [f32; 2], max: [f32; 2]) -> Self {
        Self { min, max, shapes: Vec::new() }
    }

    /// What is drawn.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Draws a rectangle between two corners.
    pub fn rectangle(&mut self, min: [f32; 2], max: [f32; 2], fill: Colour) {
        self.shapes.push(Shape::Rectangle { min, max, fill });
    }

    /// Draws a square round a centre.
    pub fn square(&mut self, centre: [f32; 2], edge: f32, fill: Colour) {
        let half = 0.5 * edge;
        self.rectangle(centre.map(|x| x - half), centre.map(|x| x + half), fill);
    }

    /// Draws a circle.
    pub fn circle(&mut self, centre: [f32; 2], radius: f32, fill: Colour) {
        self.shapes.push(Shape::Circle { centre, radius, fill });
    }

    /// Draws a line of a width through points; those that are not finite are left out.
    pub fn line(&mut self, points: impl IntoIterator<Item = [f32; 2]>, width: f32, colour: Colour) {
        let finite = |point: &[f32; 2]| point.iter().all(|x| x.is_finite());
        let points = points.into_iter().filter(finite).collect();
        self.shapes.push(Shape::Path { points, width, colour });
    }

    /// Draws where something went, as a thin line.
    pub fn path(&mut self, points: impl IntoIterator<Item = [f32; 2]>, colour: Colour) {
        self.line(points, self.extent().into_iter().fold(0.0, f32::max) / 200.0, colour);
    }

    /// A picture of its own, `width` pixels wide.
    pub fn to_svg(&self, width: f64) -> String {
        let mut out = String::new();
        self.draw(&mut out, (0.0, 0.0), width);
        out
    }

    /// The same within another picture, its upper left corner at a place; what lies beyond the
    /// scene's corners is not seen. Returns its height (pixels).
    pub fn draw(&self, out: &mut String, at: Pixels, width: f64) -> f64 {
        let extent = self.extent();
        let scale = width / f64::from(extent[0]);
        let height = f64::from(extent[1]) * scale;
        svg::open(out, at, (width, height));
        svg::rect(out, (0.0, 0.0), (width, height), &Colour::WHITE.hex());
        let place = |point: [f32; 2]| {
            let right = f64::from(point[0] - self.min[0]);
            (right * scale, f64::from(self.max[1] - point[1]) * scale)
        };
        for shape in &self.shapes {
            match shape {
                Shape::Rectangle { min, max, fill } => {
                    let (left, bottom) = place(*min);
                    let (right, top) = place(*max);
                    svg::rect(out, (left, top), (right - left, bottom - top), &fill.hex());
                }
                Shape::Circle { centre, radius, fill } => {
                    svg::circle(out, place(*centre), f64::from(*radius) * scale, &fill.hex());
                }
                Shape::Path { points, width, colour } => {
                    let width = (f64::from(*width) * scale).max(1.0);
                    svg::polyline(out, points.iter().map(|p| place(*p)), width, &colour.hex());
                }
            }
        }
        svg::close(out);
        height
    }

    /// The picture for a network: `[size, size, 3]`, from the upper left, red, green and blue in
    /// `0 ..= 1`, white beside a scene that is no square. Edges are smooth, so that a shape's place
    /// is known to less than a pixel.
    pub fn raster(&self, size: usize) -> Vec<f32> {
        raster::draw(self, size)
    }

    /// Width and height.
    fn extent(&self) -> [f32; 2] {
        [0, 1].map(|axis| (self.max[axis] - self.min[axis]).max(f32::MIN_POSITIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(picture: &[f32], size: usize, column: usize, row: usize) -> [f32; 3] {
        let at = 3 * (row * size + column);
        [picture[at], picture[at + 1], picture[at + 2]]
    }

    /// The sum of what is missing to white over the picture, in the red channel.
    fn ink(scene: &Scene, size: usize) -> f32 {
        scene.raster(size).chunks(3).map(|rgb| 1.0 - rgb[0]).sum()
    }

    const BLACK: Colour = Colour(0, 0, 0);

    #[test]
    fn up_is_up_and_later_shapes_cover_earlier_ones() {
        let mut scene = Scene::new([-2.0, -2.0], [2.0, 2.0]);
        scene.rectangle([-2.0, -2.0], [0.0, 0.0], Colour(255, 0, 0));
        scene.rectangle([-2.0, 0.0], [2.0, 2.0], BLACK);
        scene.circle([1.0, 1.0], 0.5, Colour(0, 0, 255));
        let picture = scene.raster(16);
        assert_eq!(picture.len(), 16 * 16 * 3);
        assert_eq!(pixel(&picture, 16, 0, 15), [1.0, 0.0, 0.0]);
        assert_eq!(pixel(&picture, 16, 15, 15), [1.0, 1.0, 1.0]);
        assert_eq!(pixel(&picture, 16, 0, 0), [0.0, 0.0, 0.0]);
        assert_eq!(pixel(&picture, 16, 12, 4), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn shapes_have_their_area_wherever_they_lie_between_pixels() {
        for shift in [0.0, 0.013, 0.31, 0.499] {
            let at = |x: f32, y: f32| [x + shift, y + 0.7 * shift];
            let mut square = Scene::new([0.0, 0.0], [16.0, 16.0]);
            square.square(at(8.0, 8.0), 5.0, BLACK);
            assert!((ink(&square, 16) - 25.0).abs() < 1e-3, "{}", ink(&square, 16));
            let mut circle = Scene::new([0.0, 0.0], [16.0, 16.0]);
            circle.circle(at(8.0, 8.0), 3.0, BLACK);
            let area = std::f32::consts::PI * 9.0;
            assert!((ink(&circle, 16) - area).abs() < 0.5, "{} {area}", ink(&circle, 16));
            let mut line = Scene::new([0.0, 0.0], [16.0, 16.0]);
            line.line([at(3.0, 8.0), at(13.0, 8.0)], 2.0, BLACK);
            let area = 20.0 + std::f32::consts::PI;
            assert!((ink(&line, 16) - area).abs() < 0.6, "{} {area}", ink(&line, 16));
        }
    }

    #[test]
    fn a_wide_scene_stands_in_the_middle_of_its_raster() {
        let mut scene = Scene::new([0.0, 0.0], [4.0, 1.0]);
        scene.rectangle([0.0, 0.0], [4.0, 1.0], BLACK);
        let picture = scene.raster(8);
        let dark = |row| pixel(&picture, 8, 4, row) == [0.0; 3];
        assert_eq!((0..8).filter(|row| dark(*row)).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn anything_can_be_drawn() {
        let odd = [f32::NAN, f32::INFINITY, -1e30, 1e30, 0.5];
        let mut scene = Scene::new([0.0, 0.0], [1.0, 1.0]);
        for x in odd {
            scene.circle([x, 0.5], 0.1, BLACK);
            scene.circle([0.5, 0.5], x, BLACK);
            scene.rectangle([0.2, 0.2], [x, 0.7], BLACK);
            scene.path([[0.1, 0.1], [x, 0.5]], BLACK);
        }
        for scene in [scene, Scene::default(), Scene::new([1.0; 2], [0.0; 2])] {
            assert!(scene.raster(8).iter().all(|x| (0.0..=1.0).contains(x)));
            assert!(scene.raster(0).is_empty());
        }
    }

    #[test]
    fn a_path_that_was_walked_is_in_the_svg_with_every_finite_point() {
        let mut scene = Scene::new([0.0, 0.0], [2.0, 1.0]);
        scene.path([[0.0, 0.0], [f32::NAN, 0.0], [2.0, 1.0]], Colour::AGENT);
        let svg = scene.to_svg(200.0);
        assert!(svg.contains("viewBox=\"0 0 200.0 100.0\""), "{svg}");
        assert!(svg.contains("points=\"0.0,100.0 200.0,0.0 \""), "{svg}");
        assert!(svg.contains("stroke=\"#0969da\""), "{svg}");
    }
}
