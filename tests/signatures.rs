//! Signed policies: what is refused and why (D3), and that no change passes (D2).

#[path = "common/bench.rs"]
mod bench;
#[path = "common/policies.rs"]
mod policies;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{ManualClock, WallTime};
use regoal::cmd::policy::install;
use regoal::cmd::{self, Context};
use regoal::onnx::OnnxError;
use regoal::policy::signature::{Keys, MAX_POLICY, MAX_SIGNATURES, Signer, read_at_most};
use regoal::policy::store::MAX_STEP;
use regoal::policy::{Claims, PolicyError, SignatureError, Store, StoreError, Trust};
use regoal::rng::{Rng, Stream, item};
use regoal::storage::{Memory, Storage};
use serde_json::json;

use bench::{number, report, robot};
use policies::{Person, claims, described, policy, spec, trusting};

fn trust(people: &[&Person], revoked: &[&Person], threshold: usize) -> Trust {
    Trust::of(&trusting(people, revoked, threshold)).unwrap()
}

fn store(storage: &Memory, clock: &ManualClock) -> Store {
    Store::open(Arc::new(storage.clone()), Arc::new(clock.clone()), Path::new("store")).unwrap()
}

/// A store in which version 7 is active.
fn store_at_7() -> Store {
    let store = store(&Memory::default(), &ManualClock::default());
    let file = policy(&robot(), 2, 0.07);
    store.install(&file, Some(&claims(&robot(), &file, 7)), false, "a test").unwrap();
    store.commit("a test").unwrap();
    store
}

fn install(store: &Store, version: u64) -> Result<(), StoreError> {
    let file = policy(&robot(), 2, version as f32 * 1e-6);
    store.install(&file, Some(&claims(&robot(), &file, version)), false, "a test").map(drop)
}

#[test]
fn a_signed_policy_says_what_it_is_for_and_passes() {
    let (person, file) = (Person::new(), policy(&robot(), 2, 0.01));
    let said = claims(&robot(), &file, 3);
    let text = person.sign(&file, &said);
    assert_eq!(trust(&[&person], &[], 1).verify(&file, &text).unwrap(), said);
    said.check(&robot(), ManualClock::EPOCH).unwrap();
    assert_eq!(Claims::parse(&said.to_string()).unwrap(), said);
}

#[test]
fn an_encrypted_key_signs_with_its_password_only() {
    let keys = Keys::generate(Some("open sesame".into())).unwrap();
    assert!(Signer::needs_password(&keys.secret).unwrap());
    assert!(Signer::read(&keys.secret, None).is_err());
    assert!(Signer::read(&keys.secret, Some("another".into())).is_err());
    let signer = Signer::read(&keys.secret, Some("open sesame".into())).unwrap();
    let file = policy(&robot(), 2, 0.01);
    let text = signer.sign(&file, &claims(&robot(), &file, 1)).unwrap();
    let person = Person { keys, signer };
    trust(&[&person], &[], 1).verify(&file, &text).unwrap();
}

#[test]
fn signatures_of_minisign_itself_pass_prehashed_and_in_the_older_format() {
    let folder = Path::new("tests/data/minisign");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let trusted_keys = vec![text("minisign.pub")];
    let config = regoal::config::PolicyConfig { trusted_keys, ..Default::default() };
    let (trust, file) =
        (Trust::of(&config).unwrap(), std::fs::read("tests/data/every_part.onnx").unwrap());
    for name in ["prehashed.minisig", "legacy.minisig"] {
        assert_eq!(trust.verify(&file, &text(name)).unwrap().version, 3, "{name}");
        let mut changed = file.clone();
        changed[100] ^= 1;
        let refused = trust.verify(&changed, &text(name));
        assert!(matches!(refused, Err(SignatureError::BadSignature { .. })), "{refused:?}");
    }
}

fn arbitrary_install_what_nobody_trusted_has_signed_is_refused() {
    let (person, stranger) = (Person::new(), Person::new());
    let (file, other) = (policy(&robot(), 2, 0.01), policy(&robot(), 2, 0.02));
    let trust = trust(&[&person], &[], 1);
    let said = claims(&robot(), &file, 3);
    assert!(matches!(trust.verify(&file, ""), Err(SignatureError::Unsigned)));
    let refused = trust.verify(&file, &stranger.sign(&file, &said));
    assert!(matches!(refused, Err(SignatureError::UnknownKey { .. })), "{refused:?}");
    let refused = trust.verify(&other, &person.sign(&file, &said));
    assert!(matches!(refused, Err(SignatureError::BadSignature { .. })), "{refused:?}");
}

/// A file without an end.
struct Endless(Memory);

impl Storage for Endless {
    fn read_at(&self, _: &Path, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        assert!(offset == 0 && len <= MAX_POLICY + 1, "{len} bytes are asked for");
        Ok(vec![0; len])
    }
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        panic!("{} is read to its end", path.display())
    }
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn regoal::storage::StorageFile>> {
        self.0.create(path)
    }
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn regoal::storage::StorageFile>> {
        self.0.open(path)
    }
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn Send>> {
        self.0.lock(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.0.remove(path)
    }
    fn list(&self, folder: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
        self.0.list(folder)
    }
    fn create_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.0.create_folder(folder)
    }
    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.0.sync_folder(folder)
    }
}

fn endless_data_no_more_is_read_than_a_policy_may_be_long() {
    let endless = Endless(Memory::default());
    let read = |limit| read_at_most(&endless, Path::new("policy.onnx"), limit).unwrap();
    for limit in [MAX_SIGNATURES, MAX_POLICY] {
        let refused = read(limit);
        assert!(matches!(refused, Err(SignatureError::TooLong { .. })));
    }
    let person = Person::new();
    let refused = trust(&[&person], &[], 1).verify(b"", &"x".repeat(MAX_SIGNATURES + 1));
    assert!(matches!(refused, Err(SignatureError::TooLong { limit: MAX_SIGNATURES })));
}

fn extraneous_files_nothing_comes_with_a_policy_but_signatures() {
    let (person, file) = (Person::new(), policy(&robot(), 2, 0.01));
    let text = person.sign(&file, &claims(&robot(), &file, 3));
    let refused = trust(&[&person], &[], 1).verify(&file, &(text + "and=another\n"));
    assert!(matches!(refused, Err(SignatureError::Extraneous { .. })), "{refused:?}");
    // Nor may a policy name a file that its parameters stand in, even one that is signed.
    let tensor = [
        &[0x10, 1, 0x42, 1, b'w', 0x70, 1, 0x6A, 20, 10, 8][..],
        b"location",
        &[18, 8],
        b"/etc/key",
    ];
    let tensor = tensor.concat();
    let graph = [&[0x2A, tensor.len() as u8][..], &tensor].concat();
    let external = [&file[..], &[0x3A, graph.len() as u8], &graph].concat();
    let (context, memory) = context();
    let refused = install_with(&context, &memory, &[&person], &external, &person);
    let external = refused.downcast_ref::<OnnxError>();
    assert!(matches!(external, Some(OnnxError::ExternalData { .. })), "{refused:?}");
}

fn fast_forward_nobody_uses_up_the_versions() {
    let store = store_at_7();
    let refused = install(&store, 7 + MAX_STEP + 1);
    assert!(matches!(refused, Err(StoreError::FastForward { newest: 7, .. })), "{refused:?}");
    install(&store, 7 + MAX_STEP).unwrap();
}

fn freeze_what_has_expired_is_not_installed() {
    let file = policy(&robot(), 2, 0.01);
    let said = claims(&robot(), &file, 3);
    let day = Duration::from_hours(24);
    let last = WallTime::from_date("2026-06-30").unwrap();
    said.check(&robot(), WallTime((last + day).0 - 1)).unwrap();
    let refused = said.check(&robot(), last + day);
    assert!(matches!(refused, Err(SignatureError::Expired { .. })), "{refused:?}");
}

fn mix_and_match_all_parts_are_of_one_policy() {
    let (one, two) = (Person::new(), Person::new());
    let file = policy(&robot(), 2, 0.01);
    let trust = trust(&[&one, &two], &[], 2);
    let said = |version| claims(&robot(), &file, version);
    let mixed = one.sign(&file, &said(3)) + &two.sign(&file, &said(4));
    let refused = trust.verify(&file, &mixed);
    assert!(matches!(refused, Err(SignatureError::Mixed { .. })), "{refused:?}");
    // Nor does anybody sign one policy as another.
    let other = policy(&robot(), 2, 0.02);
    let refused = one.signer.sign(&other, &said(3));
    assert!(matches!(refused, Err(SignatureError::Mixed { .. })), "{refused:?}");
}

fn rollback_the_counter_of_versions_never_goes_back() {
    let store = store_at_7();
    for version in [1, 6, 7] {
        let refused = install(&store, version);
        assert!(matches!(refused, Err(StoreError::Rollback { newest: 7, .. })), "{refused:?}");
    }
    install(&store, 8).unwrap();
    store.commit("a test").unwrap();
    // A person may go back; the counter does not.
    store.roll_back("a test").unwrap();
    assert!(matches!(install(&store, 8), Ok(())), "the same again");
    assert!(matches!(install(&store, 7), Err(StoreError::Rollback { newest: 8, .. })));
    assert_eq!(store.state().unwrap().version, 8);
}

fn wrong_software_neither_another_robots_policy_nor_another_description_passes() {
    let (mut robot, file) = (robot(), policy(&robot(), 2, 0.01));
    let said = claims(&robot, &file, 3);
    robot.model = "so100".into();
    let refused = said.check(&robot, ManualClock::EPOCH);
    assert!(matches!(refused, Err(SignatureError::WrongRobot { .. })), "{refused:?}");
    let mut spec = spec(&bench::robot());
    spec.rate_hz = 17.0;
    let (context, memory) = context();
    let person = Person::new();
    let refused = install_with(&context, &memory, &[&person], &described(&spec, 2, 0.01), &person);
    let policy = refused.downcast_ref::<PolicyError>();
    assert!(matches!(policy, Some(PolicyError::WrongRobot { .. })), "{refused:?}");
}

fn key_compromise_a_revoked_key_counts_no_more_and_one_stolen_key_is_not_enough() {
    let (one, two, stolen) = (Person::new(), Person::new(), Person::new());
    let file = policy(&robot(), 2, 0.01);
    let said = claims(&robot(), &file, 3);
    let by_stolen = stolen.sign(&file, &said);
    let refused = trust(&[&one, &stolen], &[&stolen], 1).verify(&file, &by_stolen);
    assert!(matches!(refused, Err(SignatureError::Revoked { .. })), "{refused:?}");
    let two_of_three = trust(&[&one, &two, &stolen], &[], 2);
    for text in [by_stolen.clone(), by_stolen.repeat(3)] {
        let refused = two_of_three.verify(&file, &text);
        let few = matches!(refused, Err(SignatureError::TooFew { needed: 2, found: 1 }));
        assert!(few, "{refused:?}");
    }
    let both = one.sign(&file, &said) + &two.sign(&file, &said);
    two_of_three.verify(&file, &both).unwrap();
    let by_id = regoal::config::PolicyConfig {
        revoked_keys: vec![one.keys.id.to_lowercase()],
        ..trusting(&[&one], &[], 1)
    };
    let refused = Trust::of(&by_id).unwrap().verify(&file, &one.sign(&file, &said));
    assert!(matches!(refused, Err(SignatureError::Revoked { .. })), "{refused:?}");
}

/// Each attack on what is installed, by its usual name, and what answers it.
const ATTACKS: [(&str, fn()); 9] = [
    ("arbitrary install", arbitrary_install_what_nobody_trusted_has_signed_is_refused),
    ("endless data", endless_data_no_more_is_read_than_a_policy_may_be_long),
    ("extraneous files", extraneous_files_nothing_comes_with_a_policy_but_signatures),
    ("fast-forward", fast_forward_nobody_uses_up_the_versions),
    ("freeze", freeze_what_has_expired_is_not_installed),
    ("mix and match", mix_and_match_all_parts_are_of_one_policy),
    ("rollback", rollback_the_counter_of_versions_never_goes_back),
    ("wrong software", wrong_software_neither_another_robots_policy_nor_another_description_passes),
    (
        "key compromise",
        key_compromise_a_revoked_key_counts_no_more_and_one_stolen_key_is_not_enough,
    ),
];

#[test]
fn d3_nine_attacks_have_nine_answers() {
    let refused = |attack: fn()| std::panic::catch_unwind(attack).is_ok();
    let passed: Vec<&str> =
        ATTACKS.iter().filter(|(_, attack)| !refused(*attack)).map(|(name, _)| *name).collect();
    let count = ATTACKS.len() as u64;
    report("D3", 0, count, passed.len() as u64, json!({ "not_refused": passed }));
    assert!(passed.is_empty(), "{passed:?}");
}

fn context() -> (Context, Memory) {
    let memory = Memory::default();
    let interrupted = Arc::new(AtomicBool::new(false));
    let clock = Arc::new(ManualClock::default());
    let program = env!("CARGO_BIN_EXE_regoal").into();
    (Context { storage: Arc::new(memory.clone()), clock, interrupted, program }, memory)
}

/// Why a robot that trusts `people` does not install a file signed by one.
fn install_with(
    context: &Context,
    memory: &Memory,
    people: &[&Person],
    file: &[u8],
    by: &Person,
) -> anyhow::Error {
    let keys: Vec<String> = people.iter().map(|person| format!("{:?}", person.line())).collect();
    let text = std::fs::read_to_string("firmware-config/emulated.toml").unwrap();
    let text = text + &format!("\n[policy]\ntrusted_keys = [{}]\n", keys.join(", "));
    memory.replace(Path::new("arm.toml"), text.as_bytes()).unwrap();
    memory.replace(Path::new("policy.onnx"), file).unwrap();
    let signature = by.sign(file, &claims(&robot(), file, 1));
    memory.replace(Path::new("policy.onnx.minisig"), signature.as_bytes()).unwrap();
    let args = install::Args {
        policy: "policy.onnx".into(),
        place: install::Place {
            robot: Some("arm.toml".into()),
            store: Some("store".into()),
            ..Default::default()
        },
        again: false,
        commit: false,
        json: true,
    };
    cmd::policy::install::run(&args, context).unwrap_err()
}

#[test]
fn nothing_of_a_policy_is_parsed_before_its_signature_is_checked() {
    let (person, stranger) = (Person::new(), Person::new());
    let (context, memory) = context();
    let rubbish = b"this is no policy at all";
    let refused = install_with(&context, &memory, &[&person], rubbish, &stranger);
    let early = refused.downcast_ref::<SignatureError>();
    assert!(matches!(early, Some(SignatureError::UnknownKey { .. })), "{refused:?}");
    let refused = install_with(&context, &memory, &[&person], rubbish, &person);
    assert!(refused.downcast_ref::<OnnxError>().is_some(), "{refused:?}");
}

/// What an attacker holds: files and what was signed of them.
struct Loot {
    file: Vec<u8>,
    text: String,
    /// Another policy with its signature, by the same key.
    other: (Vec<u8>, String),
    /// By somebody unknown, and by somebody revoked.
    strange: [String; 2],
    /// The ids of all trusted keys, as a signature holds them.
    trusted: Vec<[u8; 8]>,
}

/// Changes one line of a text by one character.
fn scratch(text: &str, line: usize, rng: &mut Rng) -> String {
    let mut lines: Vec<Vec<u8>> = text.lines().map(|line| line.into()).collect();
    let line = &mut lines[line];
    let at = rng.random_range(0..line.len());
    let new = rng.random_range(b' '..=b'~');
    match rng.random_range(0..4) {
        0 => drop(line.remove(at)),
        1 => line.insert(at, new),
        2 => line.truncate(at),
        _ => line[at] = new,
    }
    let lines: Vec<String> = lines.into_iter().map(|l| String::from_utf8(l).unwrap()).collect();
    lines.join("\n") + "\n"
}

/// The signature line with its algorithm and key id replaced.
fn relabelled(text: &str, algorithm: [u8; 2], id: [u8; 8]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut bytes = base64(lines[1]);
    bytes[..2].copy_from_slice(&algorithm);
    bytes[2..10].copy_from_slice(&id);
    let line = encoded(&bytes);
    format!("{}\n{line}\n{}\n{}\n", lines[0], lines[2], lines[3])
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(line: &str) -> Vec<u8> {
    let digits = line.bytes().filter(|b| *b != b'=');
    let bits: Vec<u8> =
        digits.map(|b| DIGITS.iter().position(|d| *d == b).unwrap() as u8).collect();
    let group = |c: &[u8]| {
        let n = c.iter().fold(0u32, |n, d| n << 6 | u32::from(*d)) << (6 * (4 - c.len()));
        n.to_be_bytes()[1..c.len()].to_vec()
    };
    bits.chunks(4).flat_map(group).collect()
}

fn encoded(bytes: &[u8]) -> String {
    let group = |c: &[u8]| {
        let n = c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - c.len()));
        let digit = |i: usize| match i <= c.len() {
            true => DIGITS[(n >> (18 - 6 * i)) as usize & 63] as char,
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

impl Loot {
    /// One file and signature that were never signed like this.
    fn mutate(&self, rng: &mut Rng) -> (Vec<u8>, String) {
        let (mut file, mut text) = (self.file.clone(), self.text.clone());
        let at = rng.random_range(0..file.len());
        match rng.random_range(0..14) {
            0 => file[at] ^= 1 << rng.random_range(0..8),
            1 => file.truncate(at),
            2 => file.extend((0..=at).map(|i| i as u8)),
            3 => file.extend_from_within(at..),
            4 => drop(file.drain(..=at)),
            5 => file = self.other.0.clone(),
            6 => text = self.other.1.clone(),
            7 => text = scratch(&text, 1, rng),
            8 => text = scratch(&text, 2, rng),
            9 => text = scratch(&text, 3, rng),
            10 => {
                let id = self.trusted[rng.random_range(0..self.trusted.len())];
                let algorithm = if rng.random() { *b"Ed" } else { *b"ED" };
                let mut id = if rng.random() { id } else { rng.random() };
                id[rng.random_range(0..8)] ^= u8::from(algorithm == *b"ED");
                text = relabelled(&text, algorithm, id);
            }
            11 => text = self.strange[usize::from(rng.random::<bool>())].clone(),
            12 => {
                // Each part is genuine, but of the two policies in turn.
                let (a, b): (Vec<&str>, Vec<&str>) =
                    (self.text.lines().collect(), self.other.1.lines().collect());
                let part = rng.random_range(1..4);
                let line = |i: usize| if i == part { b[i] } else { a[i] };
                text = (0..4).map(|i| format!("{}\n", line(i))).collect();
            }
            _ => text.truncate(rng.random_range(0..text.len())),
        }
        (file, text)
    }
}

#[test]
fn d2_no_change_of_a_policy_or_its_signature_passes() {
    let seed = number("REGOAL_SEED", 1);
    let cases = number("REGOAL_CASES", 20_000);
    let [one, two, strange, revoked] = [0; 4].map(|_| Person::new());
    let trust = trust(&[&one, &two, &revoked], &[&revoked], 1);
    let (file, other) = (policy(&robot(), 1, 0.01), policy(&robot(), 1, 0.02));
    let (said, of_other) = (claims(&robot(), &file, 3), claims(&robot(), &other, 4));
    let id = |person: &Person| <[u8; 8]>::try_from(&base64(&person.line())[2..10]).unwrap();
    let loot = Loot {
        text: one.sign(&file, &said),
        strange: [&strange, &revoked].map(|person| person.sign(&file, &said)),
        trusted: vec![id(&one), id(&two)],
        other: (other.clone(), one.sign(&other, &of_other)),
        file,
    };
    assert_eq!(trust.verify(&loot.file, &loot.text).unwrap(), said);
    // What is changed back is as it was: the tools of the attack work.
    assert_eq!(relabelled(&loot.text, *b"ED", id(&one)), loot.text);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let loot = &loot;
    let count = |worker: u64| {
        let (mut tried, mut accepted) = (0, 0);
        for case in (worker..cases).step_by(workers as usize) {
            let (file, text) = loot.mutate(&mut item(seed, Stream::Faults, case));
            if file == loot.file && text == loot.text {
                continue;
            }
            tried += 1;
            if trust.verify(&file, &text).is_ok() {
                eprintln!("case {case} passed:\n{text}");
                accepted += 1;
            }
        }
        (tried, accepted)
    };
    let (tried, accepted) = std::thread::scope(|scope| {
        let count = &count;
        let all: Vec<_> = (0..workers).map(|w| scope.spawn(move || count(w))).collect();
        all.into_iter().map(|w| w.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    let figures = json!({ "bundle_bytes": loot.file.len(), "accepted": accepted });
    report("D2", seed, tried, accepted, figures);
    assert!(tried > cases * 9 / 10 && accepted == 0, "{accepted} of {tried} accepted");
}
