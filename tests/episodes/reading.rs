//! What is written is read back, however the file was torn.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, proptest};
use rand::RngExt as _;
use regoal::episode::*;
use regoal::rng::{Stream, stream};
use regoal::storage::{Memory, Storage};

use crate::fixtures::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_step_is_read_back_bit_for_bit(seed in any::<u64>()) {
        let mut rng = stream(seed, Stream::Training);
        let mut tick = 0;
        let steps: Vec<Step> = (0..rng.random_range(0..30)).map(|_| {
            tick += rng.random_range(1..4);
            any_step(&mut rng, tick)
        }).collect();
        let storage: Arc<dyn Storage> = Arc::new(Memory::default());
        let mut writer = create(&storage).unwrap();
        steps.iter().for_each(|step| writer.push(step).unwrap());
        let path = writer.finish(&outcome()).unwrap();
        let read = Episode::read(storage.as_ref(), &path).unwrap();
        assert_eq!((&read.header, &read.outcome, read.damage), (&header(), &Some(outcome()), None));
        assert_eq!(read.steps.len(), steps.len());
        for (read, step) in read.steps.iter().zip(&steps) {
            assert!(same(read, step), "{read:?} is not {step:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_listed_without_a_panic(seed in any::<u64>(), records in any::<bool>()) {
        let mut rng = stream(seed, Stream::Training);
        let (mut bytes, _) = written(4, true);
        if !records {
            bytes = (0..rng.random_range(0..2000)).map(|_| rng.random()).collect();
        }
        for _ in 0..rng.random_range(0..20) {
            let at = rng.random_range(0..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.random();
            }
        }
        let (memory, path) = memory_with(&bytes);
        let read = Episode::read(&memory, &path).ok();
        assert_eq!(list(&memory, Path::new(FOLDER)).unwrap().len(), 1);
        assert_eq!(repair(&memory, &path).is_ok(), read.is_some());
    }
}

#[test]
fn a_file_cut_anywhere_gives_every_whole_chunk_and_is_mended() {
    for end in [false, true] {
        let (whole, written) = written(12, end);
        let all = steps(0..12);
        for cut in 0..whole.len() {
            // Chunks of two steps: the second one's write brings both.
            let at_least =
                written.iter().step_by(2).skip(1).filter(|end| **end <= cut as u64).count() * 2;
            let Some(episode) = Episode::decode(&whole[..cut]) else {
                assert!((cut as u64) < written[0], "the header is lost at {cut}");
                continue;
            };
            let steps = episode.steps.len();
            assert_eq!(episode.steps, all[..steps], "cut at {cut}");
            assert!(
                (at_least..=at_least + 2).contains(&steps),
                "{steps} steps of {at_least} at {cut}"
            );
            assert_eq!(episode.damage.unwrap().seal, Seal::Missing, "cut at {cut}");
            if cut % 7 == 0 {
                let (torn, path) = memory_with(&whole[..cut]);
                assert_eq!(repair(&torn, &path).unwrap(), episode.damage);
                let mended = Episode::read(&torn, &path).unwrap();
                assert_eq!(mended, Episode { damage: None, ..episode }, "cut at {cut}");
                assert_eq!(repair(&torn, &path).unwrap(), None);
                let kept = torn.read(Path::new("data/episode-000000.mcap.damaged"));
                let (kept, mended) = (kept.unwrap_or_default(), torn.read(&path).unwrap());
                assert!(whole[..cut].ends_with(&kept));
                assert!(mended.starts_with(&whole[..cut - kept.len()]), "cut at {cut}");
            }
        }
        let read = Episode::decode(&whole).unwrap();
        assert_eq!((read.steps, read.damage.is_some()), (all, !end));
    }
}

#[test]
fn a_chunk_of_another_episode_is_not_taken_in() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let (first, written) = write(&storage, 20, true);
    let (second, _) = write(&storage, 6, false);
    let mut bytes = storage.read(&second).unwrap();
    let stale = &storage.read(&first).unwrap()[written[10] as usize..written[12] as usize];
    bytes.extend_from_slice(stale);
    let read = Episode::decode(&bytes).unwrap();
    assert_eq!(read.steps, steps(0..6));
    assert_eq!(read.damage.unwrap().misplaced_steps, 2);
}

#[test]
fn other_mcap_readers_read_it() {
    let (bytes, _) = written(10, true);
    let mut topics = std::collections::BTreeMap::new();
    let mut last = 0;
    for message in mcap::MessageStream::new(&bytes).unwrap() {
        let message = message.unwrap();
        assert!(message.log_time >= last);
        last = message.log_time;
        assert_eq!(message.channel.message_encoding, "protobuf");
        assert_eq!(message.channel.schema.as_ref().unwrap().encoding, "protobuf");
        *topics.entry(message.channel.topic.clone()).or_insert(0) += 1;
    }
    let topics: Vec<(&str, i32)> =
        topics.iter().map(|(topic, count)| (topic.as_str(), *count)).collect();
    assert_eq!(topics, [("/episode", 2), ("/inputs", 2), ("/outcome", 1), ("/step", 10)]);
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    assert_eq!((summary.metadata_indexes.len(), summary.chunk_indexes.len()), (2, 7));
}

#[test]
fn a_list_tells_what_a_full_read_tells() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let folder = Path::new(FOLDER);
    write(&storage, 12, true);
    write(&storage, 0, true);
    write(&storage, 7, false);
    storage.create(&folder.join("episode-000003.mcap")).unwrap();
    storage.create(&folder.join("notes.txt")).unwrap();
    let summaries = list(storage.as_ref(), folder).unwrap();
    assert_eq!(summaries.iter().map(|s| s.steps).collect::<Vec<_>>(), [12, 0, 6, 0]);
    for summary in &summaries[..3] {
        let read = Episode::read(storage.as_ref(), &summary.path).unwrap();
        assert_eq!(summary.header.as_ref(), Some(&read.header));
        assert_eq!((&summary.outcome, summary.damage), (&read.outcome, read.damage));
        let span = read.steps.last().map_or(Duration::ZERO, |l| l.time.since(read.steps[0].time));
        assert_eq!(summary.duration, span);
    }
    assert!(summaries[3].header.is_none() && summaries[3].damage.is_some());
}
