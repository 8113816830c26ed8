//! How the gripper is turned. MuJoCo's functions tell it as a matrix only, and the quaternion of that
//! matrix differs from MuJoCo's own in the last bit, which a contact makes 1e-10 of in a few seconds.
//! So it is worked out here as MuJoCo does it, operation by operation.

/// The joints that turn the gripper, the shoulder first, and their axes: those of `robot.xml`, where
/// no body between them is turned.
pub(super) const JOINTS: [(&str, [f64; 3]); 7] = [
    ("shoulder_pan", [0.0, 0.0, 1.0]),
    ("shoulder_lift", [0.0, 1.0, 0.0]),
    ("upperarm_roll", [1.0, 0.0, 0.0]),
    ("elbow_flex", [0.0, 1.0, 0.0]),
    ("forearm_roll", [1.0, 0.0, 0.0]),
    ("wrist_flex", [0.0, 1.0, 0.0]),
    ("wrist_roll", [1.0, 0.0, 0.0]),
];

/// The gripper's rotation (a quaternion) at the angles of [`JOINTS`] (rad).
pub(super) fn rotation(angles: [f64; JOINTS.len()]) -> [f64; 4] {
    let turn = |before, (angle, (_, axis)): (f64, (&str, [f64; 3]))| {
        normal(product(before, about(axis, angle)))
    };
    angles.into_iter().zip(JOINTS).fold([1.0, 0.0, 0.0, 0.0], turn)
}

fn about([x, y, z]: [f64; 3], angle: f64) -> [f64; 4] {
    let (s, c) = (0.5 * angle).sin_cos();
    [c, x * s, y * s, z * s]
}

fn product(a: [f64; 4], b: [f64; 4]) -> [f64; 4] {
    [
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    ]
}

/// Of length 1; what is so within 1e-15 stays as it is.
fn normal(q: [f64; 4]) -> [f64; 4] {
    let length = (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]).sqrt();
    if (length - 1.0).abs() > 1e-15 { q.map(|x| x * (1.0 / length)) } else { q }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_about_one_axis_add_up() {
        let half = std::f64::consts::FRAC_PI_4;
        let [w, x, y, z] = rotation([0.0, 0.5 * half, 0.0, half, 0.0, 0.5 * half, 0.0]);
        assert!((w - half.cos()).abs() < 1e-15 && (y - half.sin()).abs() < 1e-15);
        assert_eq!([x, z], [0.0, 0.0]);
    }

    #[test]
    fn a_turn_about_the_vertical_comes_first() {
        let quarter = std::f64::consts::FRAC_PI_2;
        let root = std::f64::consts::FRAC_1_SQRT_2;
        let [w, x, y, z] = rotation([quarter, 0.0, quarter, 0.0, 0.0, 0.0, 0.0]);
        for (found, expected) in [w, x, y, z].into_iter().zip([root * root; 4]) {
            assert!((found - expected).abs() < 1e-15, "{found}");
        }
    }
}
