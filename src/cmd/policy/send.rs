//! A policy on its way to a robot elsewhere.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::clock::Time;
use crate::cmd::Context;
use crate::cmd::progress::Bar;
use crate::daemon::{Client, ClientError, Code, Installation, Installed};

/// A robot that was heard of is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends a file, from where an earlier try ended, and has the robot take it.
///
/// # Errors
/// The robot refuses it, is not there, or was out of reach for too long.
pub(super) fn send(
    client: &Client,
    file: &[u8],
    order: &Installation,
    context: &Context,
) -> Result<Installed> {
    let here = match client.received(order.policy) {
        // Where to go on is the answer to the first piece, too.
        Err(ClientError::Refused(reply)) if reply.code == Code::Busy => 0,
        // Who is not there at first is not waited for.
        here => here?,
    };
    let total = file.len() as u64;
    let bar = Bar::of_bytes("sending", total);
    let upload =
        |here| upload((here, total), &bar, context, |here| client.upload(order.policy, file, here));
    let sent = upload(here);
    let installed = sent.and_then(|()| {
        bar.note("the robot checks it, measures it and lets it steer");
        match patiently(&bar, context, || client.install(order)) {
            // It was damaged on the robot's disk.
            Err(ClientError::Refused(reply)) if reply.code == Code::NotFound => {
                upload(0)?;
                Ok(patiently(&bar, context, || client.install(order))?)
            }
            installed => Ok(installed?),
        }
    });
    bar.finish();
    installed
}

/// Sends piece after piece, each from where the robot's last answer says.
fn upload(
    (mut here, total): (u64, u64),
    bar: &Bar,
    context: &Context,
    send: impl Fn(u64) -> Result<u64, ClientError>,
) -> Result<()> {
    if (1..total).contains(&here) {
        bar.note(&format!("going on at byte {here} of {total}"));
    }
    let mut lost = Duration::ZERO;
    while here < total {
        bar.set_bytes(here);
        context.check()?;
        let before = here;
        here = patiently(bar, context, || send(before))?;
        if here <= before {
            ensure!(
                lost < PATIENCE,
                "the robot does not keep what it is sent: are others sending it policies? try again later"
            );
            lost += PAUSE;
            context.clock.sleep_until(context.clock.now() + PAUSE);
        }
    }
    bar.set_bytes(here);
    Ok(())
}

/// Asks until there is an answer: a robot may be busy or out of reach for a while.
pub(in crate::cmd) fn patiently<T>(
    bar: &Bar,
    context: &Context,
    ask: impl Fn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut until: Option<Time> = None;
    loop {
        let answer = ask();
        let now = context.clock.now();
        match answer {
            Err(error) if error.is_passing() && context.check().is_ok() => {
                if until.is_none() {
                    bar.note(&format!("{error}; trying again for {} s", PATIENCE.as_secs()));
                }
                if now > *until.get_or_insert(now + PATIENCE) {
                    return Err(error);
                }
                context.clock.sleep_until(now + PAUSE);
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::daemon::ErrorReply;
    use crate::storage::Memory;

    /// What becomes of an upload of 9 bytes, and how often a piece was sent.
    fn sent(answer: impl Fn(u64, u32) -> Result<u64, Code>) -> (bool, u32) {
        let context = Context {
            storage: Arc::new(Memory::default()),
            clock: Arc::new(ManualClock::default()),
            interrupted: Arc::default(),
            program: "regoal".into(),
        };
        let (bar, pieces) = (Bar::of_bytes("sending", 9), Cell::new(0));
        let sent = upload((0, 9), &bar, &context, |here| {
            pieces.set(pieces.get() + 1);
            let refused = |code| ClientError::Refused(ErrorReply::new(code, "a test"));
            answer(here, pieces.get()).map_err(refused)
        });
        (sent.is_ok(), pieces.get())
    }

    #[test]
    fn an_upload_outlives_setbacks_but_does_not_go_on_forever() {
        assert_eq!(sent(|here, _| Ok(here + 3)), (true, 3));
        let but_third = |back| move |here, piece| if piece == 3 { back } else { Ok(here + 3) };
        assert_eq!(sent(but_third(Ok(0))), (true, 6), "another one took its place");
        assert_eq!(sent(but_third(Err(Code::Busy))), (true, 4));
        let (whole, pieces) = sent(|_, _| Ok(0));
        assert!(!whole && pieces > 10, "{pieces}");
        let (whole, pieces) = sent(|here, _| Ok(if here < 6 { here + 3 } else { 0 }));
        assert!(!whole && pieces > 10, "{pieces}");
        assert!(!sent(|_, _| Err(Code::Busy)).0);
    }
}
