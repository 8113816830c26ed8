//! Episodes side by side: a thread for each environment, and the same result for any number of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::LearnError;
use super::rollout::Actor;
use crate::env::Env;

/// Makes the actor of an environment.
type MakeActor<'a> = &'a (dyn Fn() -> Result<Actor, LearnError> + Sync);

/// Does an item.
type Work<'a, T> = &'a (dyn Fn(&mut dyn Env, &mut Actor, usize) -> Result<T, LearnError> + Sync);

/// What `work` makes of the items `0 .. n`, in their order. Each environment has a thread and an actor
/// of its own; which of them gets an item must change nothing, as a reset leaves no trace.
///
/// # Errors
/// An actor cannot be made, or an item failed.
pub(super) fn side_by_side<T: Send>(
    envs: &mut [&mut dyn Env],
    actor: MakeActor<'_>,
    n: usize,
    work: Work<'_, T>,
) -> Result<Vec<T>, LearnError> {
    let next = AtomicUsize::new(0);
    let take = |env: &mut dyn Env| {
        let mut own = Vec::new();
        let mut actor = actor()?;
        let items = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        for item in items.take_while(|item| *item < n) {
            // What fails ends the others after the items that they are at.
            let done = work(env, &mut actor, item);
            own.push((item, done.inspect_err(|_| next.store(n, Ordering::Relaxed))?));
        }
        Ok(own)
    };
    let parts: Vec<Result<Vec<(usize, T)>, LearnError>> = match envs {
        [env] => vec![take(&mut **env)],
        envs => std::thread::scope(|scope| {
            let begin = |env| scope.spawn(|| take(env));
            let threads: Vec<_> = envs.iter_mut().take(n).map(|env| begin(&mut **env)).collect();
            let end = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(end).collect()
        }),
    };
    let mut found = Vec::with_capacity(n);
    for part in parts {
        found.extend(part?);
    }
    found.sort_by_key(|(item, _)| *item);
    Ok(found.into_iter().map(|(_, done)| done).collect())
}
