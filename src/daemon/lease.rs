//! Who holds the arm: while somebody does, others' goals are refused.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Code, ErrorReply};
use super::text::is_name;
use crate::clock::{Time, WallTime};

/// Asks for the arm, or to go on holding it: the body of `POST /v1/lease`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Who asks, for those who are refused meanwhile: 1 to 64 characters.
    pub holder: String,
    /// For how long (s, 0.1 to 600); asked for again before, it goes on.
    pub seconds: f64,
    /// The lease that goes on; absent for a new one.
    #[serde(default)]
    pub lease: Option<u64>,
}

/// Who holds the arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReply {
    /// The number that goes with requests as `?lease=`; told to the holder alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// Who holds it; none when everybody may give goals.
    pub holder: Option<String>,
    /// Time left (s).
    pub seconds: f64,
}

/// The lease that comes with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Held {
    /// The lease, when somebody holds the arm.
    pub(super) lease: Option<u64>,
}

struct Lease {
    number: u64,
    holder: String,
    until: Time,
}

/// The lease that is out, if one is.
#[derive(Default)]
pub(super) struct Leases {
    current: Option<Lease>,
    last: u64,
}

impl Leases {
    fn holder(&self, now: Time) -> Option<&Lease> {
        self.current.as_ref().filter(|lease| now < lease.until)
    }

    /// # Errors
    /// Somebody holds the arm and it is not whoever has `held`.
    pub(super) fn check(&self, held: Held, now: Time) -> Result<(), ErrorReply> {
        let refuse = |error| Err(ErrorReply::new(Code::NoLease, error));
        match (self.holder(now), held.lease) {
            (Some(lease), held) if held == Some(lease.number) => Ok(()),
            (Some(lease), _) => refuse(format!(
                "{} holds the arm for {:.1} s more: ask again then, or ask them",
                lease.holder,
                lease.until.since(now).as_secs_f64()
            )),
            (None, Some(_)) => refuse("this lease has ended: ask for a new one".into()),
            (None, None) => Ok(()),
        }
    }

    /// Gives the arm to whoever asks, or lets them go on.
    ///
    /// # Errors
    /// Somebody else holds it, the lease that shall go on has ended, or the request is malformed.
    pub(super) fn grant(
        &mut self,
        request: &LeaseRequest,
        (now, date): (Time, WallTime),
    ) -> Result<LeaseReply, ErrorReply> {
        let bad = |error| Err(ErrorReply::new(Code::BadRequest, error));
        if !is_name(&request.holder) {
            return bad("holder: expected 1 to 64 characters, none of them hidden".into());
        }
        if !(0.1..=600.0).contains(&request.seconds) {
            return bad(format!("seconds: expected 0.1 to 600, found {}", request.seconds));
        }
        self.check(Held { lease: request.lease }, now)?;
        // Of the date, so that a lease of a daemon before is none of this one's.
        let number = request.lease.unwrap_or_else(|| (self.last + 1).max(date.0 / 1000));
        self.last = self.last.max(number);
        let until = now + Duration::try_from_secs_f64(request.seconds).unwrap_or_default();
        self.current = Some(Lease { number, holder: request.holder.clone(), until });
        Ok(LeaseReply { lease: Some(number), ..self.reply(now) })
    }

    /// Gives the arm back.
    ///
    /// # Errors
    /// It is not held by whoever has `held`.
    pub(super) fn release(&mut self, held: Held, now: Time) -> Result<(), ErrorReply> {
        self.check(held, now)?;
        self.current = None;
        Ok(())
    }

    /// Who holds the arm.
    pub(super) fn reply(&self, now: Time) -> LeaseReply {
        let left = |lease: &Lease| lease.until.since(now).as_secs_f64();
        let holder = self.holder(now);
        LeaseReply {
            lease: None,
            holder: holder.map(|lease| lease.holder.clone()),
            seconds: holder.map_or(0.0, left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: WallTime = WallTime(1_800_000_000_000_000_000);

    fn at(seconds: f64) -> (Time, WallTime) {
        (Time::from_secs_f64(seconds), DATE)
    }

    fn ask(holder: &str, lease: Option<u64>) -> LeaseRequest {
        LeaseRequest { holder: holder.into(), seconds: 2.0, lease }
    }

    #[test]
    fn a_lease_is_granted_renewed_given_back_and_expires() {
        let mut leases = Leases::default();
        assert_eq!(leases.check(Held::default(), at(0.0).0), Ok(()), "nobody holds it");
        let first = leases.grant(&ask("tablet", None), at(0.0)).unwrap();
        let held = Held { lease: first.lease };
        assert_eq!(leases.check(held, at(1.9).0), Ok(()));
        let refused = leases.check(Held::default(), at(1.5).0).unwrap_err();
        assert_eq!(refused.code, Code::NoLease);
        assert!(refused.error.starts_with("tablet holds the arm for 0.5 s more"), "{refused:?}");
        let other = leases.grant(&ask("script", None), at(1.0)).unwrap_err();
        assert_eq!(other.code, Code::NoLease);
        let again = leases.grant(&ask("tablet", first.lease), at(1.9)).unwrap();
        assert_eq!((again.lease, again.seconds), (first.lease, 2.0));
        assert_eq!(leases.check(held, at(3.8).0), Ok(()));
        assert_eq!(leases.check(held, at(3.91).0).unwrap_err().code, Code::NoLease, "expired");
        let second = leases.grant(&ask("script", None), at(4.0)).unwrap();
        assert_ne!(second.lease, first.lease);
        assert!(leases.release(held, at(4.1).0).is_err(), "not theirs any more");
        leases.release(Held { lease: second.lease }, at(4.1).0).unwrap();
        assert_eq!(leases.reply(at(4.1).0).holder, None);
    }

    #[test]
    fn a_lease_of_a_daemon_before_holds_nothing() {
        let mut before = Leases::default();
        let old = before.grant(&ask("tablet", None), at(0.0)).unwrap();
        let mut after = Leases::default();
        let later = (Time::ZERO, WallTime(DATE.0 + 1_000_000));
        let new = after.grant(&ask("script", None), later).unwrap();
        assert_ne!(old.lease, new.lease);
        assert!(after.check(Held { lease: old.lease }, Time::ZERO).is_err());
    }

    #[test]
    fn nobody_hides_behind_a_name_or_holds_for_ever() {
        let mut leases = Leases::default();
        for (holder, seconds) in [
            ("", 1.0),
            ("a\x1b[2J", 1.0),
            ("a\nb", 1.0),
            ("me", f64::NAN),
            ("me", 1e9),
            ("me", 0.0),
        ] {
            let request = LeaseRequest { holder: holder.into(), seconds, lease: None };
            let refused = leases.grant(&request, at(0.0)).unwrap_err();
            assert_eq!(refused.code, Code::BadRequest, "{holder:?} {seconds}");
        }
    }
}
