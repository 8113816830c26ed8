use rand::RngExt as _;

use super::*;
use crate::rng::{Stream, stream};

fn random_pose(chain: &Chain, rng: &mut crate::rng::Rng) -> JointVec<f64> {
    chain.links.iter().map(|l| rng.random_range(l.min..l.max)).collect()
}

/// Every built-in chain and one with bends of its own, from a URDF.
fn chains() -> Vec<Chain> {
    let mut chains: Vec<Chain> = MODELS.iter().map(|model| Chain::named(model).unwrap()).collect();
    chains.push(Chain::from_urdf(BENT, "world", "nail").unwrap());
    chains
}

const REST: [f64; 5] = [0.0, -0.6, 0.6, 0.6, 0.0];

/// Worked out by multiplying the URDF's frames in another language, term by term.
#[test]
fn positions_agree_with_an_independent_product_of_the_urdf_frames() {
    for (q, tip) in [
        ([0.0; 5], [0.020_395, -0.375_601, 0.258_952]),
        ([0.0, -0.6, 0.6, 0.6, 0.0], [0.020_395, -0.274_877, 0.166_573]),
        ([0.3, -1.0, 0.8, 0.5, 1.0], [-0.054_666, -0.243_511, 0.214_404]),
    ] {
        let found = Chain::so101().position(&q);
        assert!((found - Vector3::from(tip)).norm() < 1e-5, "{q:?}: {found:?}");
    }
}

/// The two arms are built alike, so one set of angles poses both nearly alike about their bases.
#[test]
fn the_so100_takes_the_same_angles_as_the_so101() {
    let (a, b) = (Chain::so100(), Chain::so101());
    let pan = |chain: &Chain| chain.axes(&[])[0].0;
    for (i, q) in [[0.0; 5], REST, [0.7, 0.5, -0.4, 0.3, 0.0], [-0.9, -0.5, 0.9, -0.7, 1.5]]
        .iter()
        .enumerate()
    {
        let mut apart = (a.position(q) - pan(&a)) - (b.position(q) - pan(&b));
        apart.z = 0.0;
        assert!(apart.norm() < 0.03, "pose {i}: {apart:?}");
        for (x, y) in a.axes(q).iter().zip(&b.axes(q)) {
            assert!(x.1.dot(&y.1) > 0.99, "pose {i}: {x:?} {y:?}");
        }
    }
}

#[test]
fn the_jacobian_is_the_derivative_of_the_pose() {
    let mut rng = stream(3, Stream::Training);
    for chain in chains() {
        for _ in 0..50 {
            let q = random_pose(&chain, &mut rng);
            for (i, column) in chain.jacobian(&q).iter().enumerate() {
                let (mut a, mut b) = (q.clone(), q.clone());
                a[i] -= 1e-6;
                b[i] += 1e-6;
                let (a, b) = (chain.pose(&a), chain.pose(&b));
                let slope = (b.translation.vector - a.translation.vector) / 2e-6;
                let spin = (b.rotation * a.rotation.inverse()).scaled_axis() / 2e-6;
                assert!((slope - column.linear).norm() < 1e-7, "joint {i}: {slope:?} {column:?}");
                assert!((spin - column.angular).norm() < 1e-7, "joint {i}: {spin:?} {column:?}");
            }
        }
    }
}

fn assert_inside(chain: &Chain, q: &[f64]) {
    assert_eq!(q.len(), chain.joints());
    assert!(q.iter().zip(&chain.links).all(|(x, l)| (l.min..=l.max).contains(x)), "{q:?}");
}

#[test]
fn inverse_of_forward_returns_the_point_to_a_micrometre_inside_the_limits() {
    let mut rng = stream(4, Stream::Training);
    for (which, chain) in chains().iter().enumerate() {
        for n in 0..200 {
            let from = random_pose(chain, &mut rng);
            let goal = chain.position(&from);
            let q = chain
                .inverse(&goal, &REST, 1e-6)
                .unwrap_or_else(|e| panic!("chain {which}, goal {n} (seed 4), {from:?}: {e}"));
            assert!((chain.position(&q) - goal).norm() <= 1e-6);
            assert_inside(chain, &q);
        }
    }
}

#[test]
fn inverse_of_forward_returns_the_pose_to_a_micrometre_inside_the_limits() {
    let mut rng = stream(5, Stream::Training);
    for (which, chain) in chains().iter().enumerate() {
        for n in 0..100 {
            let from = random_pose(chain, &mut rng);
            let goal = chain.pose(&from);
            let q = chain
                .inverse_pose(&goal, &REST, (1e-6, 1e-5))
                .unwrap_or_else(|e| panic!("chain {which}, goal {n} (seed 5), {from:?}: {e}"));
            let found = chain.pose(&q);
            assert!((found.translation.vector - goal.translation.vector).norm() <= 1e-6);
            assert!(found.rotation.angle_to(&goal.rotation) <= 1.1e-5);
            assert_inside(chain, &q);
        }
    }
}

#[test]
fn a_point_out_of_reach_says_how_close_the_arm_gets() {
    let error = Chain::so101().inverse(&Vector3::new(1.0, 0.0, 0.0), &[0.0; 5], 1e-3);
    let Err(KinematicsError::Unreachable { closest, .. }) = error else { panic!("{error:?}") };
    assert!((0.4..0.8).contains(&closest), "{closest}");
}

#[test]
fn a_pose_that_five_joints_cannot_turn_to_is_refused_though_its_point_is_in_reach() {
    let chain = Chain::so101();
    let here = chain.pose(&REST);
    let mut goal = here;
    goal.rotation = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), 0.5) * here.rotation;
    assert!(chain.inverse(&goal.translation.vector, &REST, 1e-6).is_ok());
    let error = chain.inverse_pose(&goal, &REST, (1e-6, 1e-3)).unwrap_err();
    assert!(
        matches!(error, KinematicsError::PoseUnreachable { turn, .. } if turn > 0.01),
        "{error}"
    );
}

#[test]
fn goals_that_are_not_finite_are_out_of_reach() {
    for bad in [f64::NAN, f64::INFINITY, 1e300] {
        assert!(Chain::so101().inverse(&Vector3::new(0.1, bad, 0.1), &REST, 1e-3).is_err());
    }
}

const SHIPPED: &str = include_str!("../../firmware-config/emulated.toml");

fn robot(change: impl Fn(&str) -> String) -> RobotConfig {
    RobotConfig::parse(&change(SHIPPED), std::path::Path::new("robot.toml")).unwrap()
}

#[test]
fn a_robots_own_limits_narrow_its_models() {
    let tight = robot(|t| t.replacen("max_rad = 1.69", "max_rad = 1.0", 1));
    let chain = Chain::of(&tight).unwrap();
    assert_eq!(chain.limits(2), Some((-1.69, 1.0)));
    let mut rng = stream(6, Stream::Training);
    for _ in 0..100 {
        let goal = chain.position(&random_pose(&Chain::so101(), &mut rng));
        if let Ok(q) = chain.inverse(&goal, &REST, 1e-4) {
            assert_inside(&chain, &q);
        }
    }
}

#[test]
fn an_arm_without_geometry_says_what_it_lacks() {
    let bare = |t: &str| t.replacen("model = \"so101\"", "model = \"none\"", 1);
    let none = robot(bare);
    let error = Chain::of(&none).unwrap_err().to_string();
    assert!(error.contains("no Cartesian goals") && error.contains("tip_link"), "{error}");
    let other = robot(|t| t.replacen("model = \"so101\"", "model = \"so1O1\"", 1));
    let error = Chain::of(&other).unwrap_err().to_string();
    assert!(error.contains("so101, so100") && error.contains("so1O1"), "{error}");
}

#[test]
fn the_distance_of_poses_grows_with_way_and_turn() {
    let pose = |turn: f64, way: f64| {
        pose_goal(&Isometry3::new(Vector3::new(way, 0.2, 0.1), Vector3::y() * turn))
    };
    let distance = |a: [f64; 9], b: [f64; 9]| {
        a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
    };
    assert!((distance(pose(0.3, 0.1), pose(0.3, 0.15)) - 0.05).abs() < 1e-12);
    let turned = distance(pose(0.3, 0.1), pose(0.31, 0.1));
    // About y both axes turn.
    assert!((turned - 2f64.sqrt() * LEVER * 0.01).abs() < 1e-6, "{turned}");
    // Almost half a turn and almost half a turn the other way are near each other.
    assert!(distance(pose(3.13, 0.0), pose(-3.13, 0.0)) < 4e-3);
}

/// A two-joint arm whose axes are along no frame's z, with fixed joints before, between and after.
const BENT: &str = r#"<robot name="bent">
  <link name="world"/> <link name="table"/> <link name="a"/> <link name="b"/> <link name="c"/>
  <link name="d"/> <link name="nail"/> <link name="elsewhere"/>
  <joint name="stand" type="fixed">
    <origin xyz="0 0 0.5" rpy="0 0 1.5707963267948966"/> <parent link="world"/> <child link="table"/>
  </joint>
  <joint name="pan" type="revolute">
    <origin xyz="0.1 0 0" rpy="0 0 0"/> <parent link="table"/> <child link="a"/>
    <axis xyz="0 0 -2"/> <limit lower="-1" upper="2" effort="1" velocity="1"/>
  </joint>
  <joint name="lift" type="continuous">
    <origin xyz="0 0 0.2" rpy="0 0 0"/> <parent link="a"/> <child link="b"/> <axis xyz="0 1 0"/>
  </joint>
  <joint name="bend" type="fixed">
    <origin xyz="0.3 0 0" rpy="0 0.2 0.1"/> <parent link="b"/> <child link="c"/>
  </joint>
  <joint name="roll" type="revolute">
    <origin xyz="0.05 0 0" rpy="0 0 0"/> <parent link="c"/> <child link="d"/>
    <axis xyz="0 -0.6 0.8"/> <limit lower="-2" upper="2" effort="1" velocity="1"/>
  </joint>
  <joint name="end" type="fixed">
    <origin xyz="0.1 0.02 0" rpy="0 0 0"/> <parent link="d"/> <child link="nail"/>
  </joint>
  <joint name="slide" type="prismatic">
    <origin xyz="0 0 0" rpy="0 0 0"/> <parent link="nail"/> <child link="elsewhere"/>
    <axis xyz="1 0 0"/> <limit lower="0" upper="1" effort="1" velocity="1"/>
  </joint>
</robot>"#;

#[test]
fn a_urdf_of_the_so101_is_the_built_in_chain() {
    let joint = |name: &str, parent: &str, child: &str, xyz: &str, rpy: &str, limit: f64| {
        format!(
            r#"<joint name="{name}" type="revolute"><origin xyz="{xyz}" rpy="{rpy}"/>
            <parent link="{parent}"/><child link="{child}"/><axis xyz="0 0 1"/>
            <limit lower="-{limit}" upper="{limit}" effort="10" velocity="10"/></joint>"#
        )
    };
    let (pi, half) = (std::f64::consts::PI, std::f64::consts::FRAC_PI_2);
    let text = [
        r#"<robot name="so101"><link name="base"/><link name="1"/><link name="2"/><link name="3"/>
        <link name="4"/><link name="5"/><link name="tip"/>"#
            .to_owned(),
        joint(
            "1",
            "base",
            "1",
            "0.0207909 -0.0230745 0.0948817",
            &format!("-{pi} 0 {half}"),
            1.91986,
        ),
        joint(
            "2",
            "1",
            "2",
            "-0.0303992 -0.0182778 -0.0542",
            &format!("-{half} -{half} 0"),
            1.74533,
        ),
        joint("3", "2", "3", "-0.11257 -0.028 0", &format!("0 0 {half}"), 1.69),
        joint("4", "3", "4", "-0.1349 0.0052 0", &format!("0 0 -{half}"), 1.65806),
        joint("5", "4", "5", "0 -0.0611 0.0181", &format!("{half} 0 {pi}"), 2.79253),
        format!(
            r#"<joint name="tip" type="fixed"><parent link="5"/><child link="tip"/>
            <origin xyz="-0.0079 -0.000218121 -0.0981274" rpy="{half} 0 {half}"/></joint></robot>"#
        ),
    ]
    .concat();
    let (found, built_in) = (Chain::from_urdf(&text, "base", "tip").unwrap(), Chain::so101());
    let mut rng = stream(7, Stream::Training);
    for _ in 0..50 {
        let q = random_pose(&built_in, &mut rng);
        let apart = found.pose(&q).inverse() * built_in.pose(&q);
        assert!(apart.translation.vector.norm() < 1e-12 && apart.rotation.angle() < 1e-7);
    }
}

#[test]
fn axes_and_fixed_joints_of_a_urdf_stand_where_it_says() {
    let chain = Chain::from_urdf(BENT, "world", "b").unwrap();
    assert_eq!(chain.joints(), 2);
    assert_eq!(chain.limits(0), Some((-1.0, 2.0)));
    assert_eq!(chain.limits(1), Some((-std::f64::consts::PI, std::f64::consts::PI)));
    // The stand turns x to y; the pan's axis points down, so +90° turns y back to x.
    let [pan, lift] = [0.0, 0.0].map(|_| 0.0);
    assert!((chain.position(&[pan, lift]) - Vector3::new(0.0, 0.1, 0.7)).norm() < 1e-12);
    let axes = chain.axes(&[std::f64::consts::FRAC_PI_2]);
    assert!((axes[0].1 - Vector3::new(0.0, 0.0, -1.0)).norm() < 1e-12, "{:?}", axes[0].1);
    assert!((axes[1].1 - Vector3::new(0.0, 1.0, 0.0)).norm() < 1e-12, "{:?}", axes[1].1);
}

#[test]
fn a_urdf_that_is_no_serial_arm_says_why() {
    for (text, base, tip, says) in [
        ("<robot", "a", "b", "expected a URDF"),
        (BENT, "world", "thumb", "expected a link named `thumb`, found world, table"),
        (BENT, "c", "world", "hangs on nothing"),
        (
            BENT,
            "world",
            "elsewhere",
            "joint `slide`: expected fixed, revolute or continuous, found prismatic",
        ),
        (BENT, "world", "table", "expected 1 to 8 moving joints from base to tip, found 0"),
    ] {
        let error = Chain::from_urdf(text, base, tip).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for (from, to, says) in [
        ("0 0 -2", "0 0 0", "joint `pan`: expected an axis with a direction"),
        ("lower=\"-1\" upper=\"2\"", "lower=\"2\" upper=\"-1\"", "joint `pan`: expected limits"),
        ("xyz=\"0.1 0 0\"", "xyz=\"nan 0 0\"", "joint `pan`: expected a finite origin"),
    ] {
        let error = Chain::from_urdf(&BENT.replacen(from, to, 1), "world", "nail").unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_robot_reads_its_urdf_beside_its_configuration() {
    use crate::storage::{Memory, Storage as _};
    let storage = Memory::default();
    let folder = std::path::Path::new("/robots");
    storage.create_folder(folder).unwrap();
    storage.replace(&folder.join("bent.urdf"), BENT.as_bytes()).unwrap();
    let links = "model = \"bent.urdf\"\nbase_link = \"world\"\ntip_link = \"nail\"";
    let text = SHIPPED.replacen("model = \"so101\"", links, 1);
    storage.replace(&folder.join("robot.toml"), text.as_bytes()).unwrap();
    let robot = RobotConfig::load(&storage, &folder.join("robot.toml")).unwrap();
    assert_eq!(Chain::of(&robot).unwrap().joints(), 3);
    storage.remove(&folder.join("bent.urdf")).unwrap();
    let error = RobotConfig::load(&storage, &folder.join("robot.toml")).unwrap_err();
    assert!(error.to_string().contains("/robots/bent.urdf"), "{error}");
}

#[test]
fn parked_and_at_home_the_shipped_arms_are_above_their_table() {
    for file in ["so101-follower", "so101-leader", "so100-follower", "so100-leader", "emulated"] {
        let path = format!("{}/firmware-config/{file}.toml", env!("CARGO_MANIFEST_DIR"));
        let robot = RobotConfig::load(&crate::storage::Disk, std::path::Path::new(&path)).unwrap();
        let chain = Chain::of(&robot).unwrap();
        let home: Vec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
        let park: Vec<f64> = robot.joint.iter().map(|joint| joint.park_rad()).collect();
        for pose in [home, park] {
            for point in chain.polyline(&pose).iter().skip(2) {
                assert!(point.z > 0.02, "{file}, {pose:?}: {point:?}");
            }
        }
    }
}
