//! Whether an episode is of this arm: what else it is of, and how to go on.

use anyhow::{Result, ensure};

use crate::config::RobotConfig;
use crate::episode::EpisodeHeader;
use crate::teleop::Course;

/// Beyond a limit by less than this is rounding (rad).
const ROUNDING: f64 = 1e-3;

/// # Errors
/// The joints are others; or, unless `anyway`, the robot or its calibration is another.
pub fn check_robot(header: &EpisodeHeader, robot: &RobotConfig, anyway: bool) -> Result<()> {
    let joints: Vec<&str> = robot.joint.iter().map(|joint| joint.name.as_str()).collect();
    ensure!(
        header.joints == joints,
        "expected an episode with the joints of `{}`: {}, found {}; name its own robot with --robot",
        robot.name,
        joints.join(", "),
        header.joints.join(", ")
    );
    ensure!(
        anyway || header.robot == robot.name,
        "expected an episode of `{}`, found one of `{}`: name its configuration with --robot, or play it \
         --anyway",
        robot.name,
        header.robot
    );
    let name = |hash: &str| match hash.get(..8) {
        Some(start) => format!("calibration {start}"),
        None => "no calibration".to_owned(),
    };
    ensure!(
        anyway || header.calibration == robot.calibration,
        "expected an episode recorded with {}, as `{}` has now, found {}: the same angles may be other \
         poses; put the calibration of then in place, or play it slowly --anyway",
        name(&robot.calibration),
        robot.name,
        name(&header.calibration)
    );
    Ok(())
}

/// # Errors
/// The course leaves the limits of a joint.
pub fn check_limits(course: &Course, robot: &RobotConfig) -> Result<()> {
    for (i, joint) in robot.joint.iter().enumerate() {
        let margin = robot.safety.limit_margin_rad;
        let (min, max) = (joint.min_rad + margin, joint.max_rad - margin);
        for (q, at) in course.extremes(i).into_iter().flatten() {
            ensure!(
                (min - ROUNDING..=max + ROUNDING).contains(&q),
                "joint `{}`: expected {min:.3} to {max:.3} rad, found {q:.3} rad at {at:.2} s: choose \
                 another part with --from and --to, or play it --anyway and it stops at the limit",
                joint.name
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::episode::Step;
    use crate::joints::stack;
    use crate::storage::Disk;
    use crate::teleop::Track;

    fn robot() -> RobotConfig {
        RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap()
    }

    fn header(robot: &RobotConfig) -> EpisodeHeader {
        crate::cmd::simulate::header_template(robot)
    }

    #[test]
    fn another_robot_or_calibration_is_named_and_played_only_anyway() {
        let robot = robot();
        assert!(check_robot(&header(&robot), &robot, false).is_ok());
        let other = EpisodeHeader { robot: "so999".into(), ..header(&robot) };
        let calibration = EpisodeHeader { calibration: "c0ffee11".into(), ..header(&robot) };
        for (header, named) in [(other, "so999"), (calibration, "calibration c0ffee11")] {
            let told = check_robot(&header, &robot, false).unwrap_err().to_string();
            assert!(told.contains(named) && told.contains("--anyway"), "{told}");
            assert!(check_robot(&header, &robot, true).is_ok());
        }
        let mut joints = header(&robot);
        joints.joints.swap(0, 1);
        assert!(check_robot(&joints, &robot, true).is_err());
    }

    #[test]
    fn a_course_beyond_a_limit_is_told_with_joint_and_time() {
        let robot = robot();
        let beyond = robot.joint[2].max_rad as f32 + 0.1;
        let step = |q: f32| Step { sent: stack([0.0, 0.0, q, 0.0, 0.0, 0.0]), ..Step::default() };
        let course = |q| Course::of(&[step(q)], 6, Track::Sent, (0.0, 1.0)).unwrap();
        assert!(check_limits(&course(0.0), &robot).is_ok());
        let told = check_limits(&course(beyond), &robot).unwrap_err().to_string();
        assert!(told.contains(&robot.joint[2].name), "{told}");
    }
}
