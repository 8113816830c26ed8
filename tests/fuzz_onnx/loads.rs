//! Processes that load what still verifies, one engine each, and run it once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regoal::engine::{Engine, EngineError};
use regoal::onnx::Verified;

use crate::seeds::Seed;
use crate::workers::{Job, Worker, say};
use crate::{case, common, outcome, workers};

/// The longest a file may take to load and run.
const PATIENCE: Duration = Duration::from_secs(20);

/// How loading ended, over all engines.
#[derive(Debug, Default)]
pub struct Loads {
    /// Files by engine and outcome.
    counts: BTreeMap<String, u64>,
    /// The process died.
    pub crashed: u64,
    /// No answer within the time limit.
    pub hung: u64,
    /// A panic came through the engine's interface.
    pub escaped: u64,
    /// The cases of these.
    pub cases: Vec<String>,
}

impl Loads {
    pub fn json(&self) -> serde_json::Value {
        let mut all = serde_json::json!(self.counts);
        all["crashed"] = self.crashed.into();
        all["hung"] = self.hung.into();
        all["escaped"] = self.escaped.into();
        all
    }
}

/// Loads the first `wanted` of the cases that verify, in every engine.
pub fn load_all(seed: u64, cases: &Range<u64>, wanted: u64) -> Loads {
    let names: Vec<&str> = common::engines().iter().map(Engine::name).collect();
    let run = |name: &str| {
        let (cases, name) = (cases.clone(), name.to_owned());
        std::thread::spawn(move || load_in(seed, cases, wanted, &name))
    };
    let threads: Vec<_> = names.into_iter().map(run).collect();
    let mut all = Loads::default();
    for one in threads.into_iter().map(|thread| thread.join().unwrap()) {
        all.counts.extend(one.counts);
        all.crashed += one.crashed;
        all.hung += one.hung;
        all.escaped += one.escaped;
        all.cases.extend(one.cases);
    }
    all
}

fn load_in(seed: u64, cases: Range<u64>, wanted: u64, engine: &str) -> Loads {
    let (mut all, mut next, mut loaded) = (Loads::default(), cases.start, 0);
    while next < cases.end && loaded < wanted {
        let worker =
            Worker::start(&Job::Load { seed, cases: next..cases.end, engine: engine.to_owned() });
        let mut trying = None;
        let mut hung = false;
        while loaded < wanted {
            let Ok(line) = worker.line(PATIENCE) else {
                hung = true;
                break;
            };
            let Some(line) = line else { break };
            match line.split_once(' ') {
                Some(("try", index)) => trying = Some(index.parse::<u64>().unwrap()),
                Some((outcome, index)) => {
                    (trying, loaded) = (None, loaded + 1);
                    next = index.parse::<u64>().unwrap() + 1;
                    *all.counts.entry(format!("{engine} {outcome}")).or_default() += 1;
                    if outcome == "escaped" {
                        all.escaped += 1;
                        all.cases.push(format!("{engine} case {index} escaped"));
                    }
                }
                None => {}
            }
        }
        let enough = loaded >= wanted;
        let well = worker.end(hung || enough);
        if enough || (well && trying.is_none()) {
            break;
        }
        let index = trying.unwrap_or(next);
        let how = if hung { "hung" } else { "crashed" };
        all.hung += u64::from(hung);
        all.crashed += u64::from(!hung);
        all.cases.push(format!("{engine} case {index} {how}"));
        (next, loaded) = (index + 1, loaded + 1);
    }
    all
}

/// A worker's part: says which case it tries and how that ended.
pub fn load(seed: u64, cases: Range<u64>, engine: &str, seeds: &[Seed]) {
    regoal::os::limit_memory(4 << 30).unwrap();
    let engine = common::engines().into_iter().find(|e| e.name() == engine).unwrap();
    for index in cases {
        let file = case(seed, index, seeds);
        if outcome(&file) != workers::Outcome::Verified {
            continue;
        }
        say(format_args!("try {index}"));
        let result = catch_unwind(AssertUnwindSafe(|| run(&file, &engine)));
        if let Ok(Err(error)) = &result {
            eprintln!("case {index}: {error}");
        }
        let how = match result {
            Ok(Ok(())) => "ran",
            Ok(Err(error)) if error.to_string().contains("panicked") => "panicked",
            Ok(Err(EngineError::Shape { .. })) => "unfit",
            Ok(Err(_)) => "refused",
            Err(_) => "escaped",
        };
        say(format_args!("{how} {index}"));
    }
}

fn run(file: &[u8], engine: &Engine) -> Result<(), EngineError> {
    let mut session = engine.load(&Verified::from_bytes(file)?)?;
    let inputs = session.inputs().to_vec();
    let zeros: Vec<Vec<f32>> =
        inputs.iter().map(|i| vec![0.0; i.dims_at(1).iter().product()]).collect();
    let dims: Vec<Vec<usize>> = inputs.iter().map(|i| i.dims_at(1)).collect();
    let given: Vec<_> = (0..inputs.len())
        .map(|i| (inputs[i].name.as_str(), dims[i].as_slice(), zeros[i].as_slice()))
        .collect();
    session.run(&given).map(drop)
}
