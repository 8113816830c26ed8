//! A policy on its way to a robot elsewhere.

use std::time::Duration;

use anyhow::Result;

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
    // Who is not there at first is not waited for.
    let here = client.received(order.policy)?;
    let bar = Bar::of_bytes("sending", file.len() as u64);
    let sent = upload(client, file, (order, here), &bar, context);
    let installed = sent.and_then(|()| {
        bar.note("the robot checks it, measures it and lets it steer");
        match patiently(&bar, context, || client.install(order)) {
            // It was damaged on the robot's disk.
            Err(ClientError::Refused(reply)) if reply.code == Code::NotFound => {
                upload(client, file, (order, 0), &bar, context)?;
                Ok(patiently(&bar, context, || client.install(order))?)
            }
            installed => Ok(installed?),
        }
    });
    bar.finish();
    installed
}

fn upload(
    client: &Client,
    file: &[u8],
    (order, mut here): (&Installation, u64),
    bar: &Bar,
    context: &Context,
) -> Result<()> {
    let total = file.len() as u64;
    if (1..total).contains(&here) {
        bar.note(&format!("going on at byte {here} of {total}"));
    }
    while here < total {
        bar.set_bytes(here);
        context.check()?;
        here = patiently(bar, context, || client.upload(order.policy, file, here))?;
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
