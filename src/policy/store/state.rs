//! What a store remembers, and how that changes: staged, on trial, active, previous.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::clock::WallTime;
use crate::episode::PolicyId;
use crate::policy::Claims;

/// A policy on trial may be started so often without proving itself.
pub const TRIALS: u32 = 3;
/// A signed version may be ahead of the last one by this much: whoever steals a key shall not be
/// able to use up all numbers.
pub const MAX_STEP: u64 = 1000;
/// Events that are remembered.
const MAX_EVENTS: usize = 1000;

/// A policy in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its id.
    #[serde(with = "hex")]
    #[schemars(with = "String")]
    pub policy: PolicyId,
    /// What its signature counts; none of one that was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A policy that is to become the active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// Which.
    #[serde(flatten)]
    pub entry: Entry,
    /// How often it was started; 0 while it is only staged.
    pub starts: u32,
}

/// What happened to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It became the candidate.
    Staged,
    /// It became the active one.
    Committed,
    /// It failed, and the one before is back: it is not taken again but by a person.
    Demoted,
    /// A person went back to the one before.
    RolledBack,
}

/// What happened to a policy, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When, as nanoseconds since 1970 (UTC).
    pub at: u64,
    /// To which policy.
    #[serde(with = "hex")]
    #[schemars(with = "String")]
    pub policy: PolicyId,
    /// What.
    pub change: Change,
    /// Why, and who wanted it.
    pub why: String,
}

/// What a store remembers: all of it in one file, which is replaced whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The policy in use.
    pub active: Option<Entry>,
    /// The one before.
    pub previous: Option<Entry>,
    /// The one to come.
    pub candidate: Option<Candidate>,
    /// The highest version that was ever committed: it never goes back.
    pub version: u64,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

impl State {
    /// Whether a signed version may follow on what was committed.
    pub(super) fn admit(&self, claims: &Claims) -> Result<(), StoreError> {
        let Claims { version, policy, .. } = *claims;
        let known = [self.active, self.previous];
        let again =
            known.iter().flatten().any(|e| e.policy == policy && e.version == Some(version));
        if self.version == 0 || (again && version == self.version) {
            return Ok(());
        }
        if version <= self.version {
            return Err(StoreError::Rollback { found: version, newest: self.version });
        }
        if version - self.version > MAX_STEP {
            return Err(StoreError::FastForward { found: version, newest: self.version });
        }
        Ok(())
    }

    /// Makes a policy the candidate. A demoted one only if a person wants it `again`.
    pub(super) fn stage(
        &mut self,
        entry: Entry,
        again: bool,
        (why, at): (&str, WallTime),
    ) -> Result<(), StoreError> {
        let last = self.events.iter().rev().find(|event| event.policy == entry.policy);
        if let Some(event) = last.filter(|event| !again && event.change == Change::Demoted) {
            let (policy, why) = (entry.policy, event.why.clone());
            return Err(StoreError::Demoted { policy, why });
        }
        let waiting = self.candidate.is_some_and(|c| c.entry == entry && c.starts == 0);
        if waiting || (self.candidate.is_none() && self.active == Some(entry)) {
            return Ok(());
        }
        self.candidate = Some(Candidate { entry, starts: 0 });
        self.note(entry.policy, Change::Staged, why, at);
        Ok(())
    }

    /// The policy that a program which starts now shall use, and which start of its trial this is.
    pub(super) fn start(&mut self, at: WallTime) -> Option<(Entry, u32)> {
        if let Some(candidate) = &mut self.candidate {
            if candidate.starts < TRIALS {
                candidate.starts += 1;
                return Some((candidate.entry, candidate.starts));
            }
            let policy = candidate.entry.policy;
            self.demote(policy, (&format!("it did not prove itself in {TRIALS} starts"), at));
        }
        Some((self.active?, 0))
    }

    /// Takes the last start of a candidate back.
    pub(super) fn unused(&mut self, policy: PolicyId) {
        if let Some(candidate) = self.candidate.as_mut().filter(|c| c.entry.policy == policy) {
            candidate.starts = candidate.starts.saturating_sub(1);
        }
    }

    /// Makes the candidate the active policy.
    pub(super) fn commit(&mut self, why: &str, at: WallTime) -> Option<Entry> {
        let entry = self.candidate.take()?.entry;
        if self.active.is_some_and(|active| active.policy != entry.policy) {
            self.previous = self.active;
        }
        self.active = Some(entry);
        self.version = self.version.max(entry.version.unwrap_or(0));
        self.note(entry.policy, Change::Committed, why, at);
        Some(entry)
    }

    /// Takes a policy that failed out of use. False where it is not in use, or nothing else may take
    /// over: one that a person went back from does so only when a person wants it.
    pub(super) fn demote(&mut self, policy: PolicyId, (why, at): (&str, WallTime)) -> bool {
        if self.candidate.is_some_and(|candidate| candidate.entry.policy == policy) {
            self.candidate = None;
        } else if self.active.is_some_and(|active| active.policy == policy)
            && self.previous.is_some_and(|previous| !self.left(previous.policy))
        {
            self.active = self.previous.take();
        } else {
            return false;
        }
        self.note(policy, Change::Demoted, why, at);
        true
    }

    /// Whether the last that happened to a policy is that a person went back from it.
    fn left(&self, policy: PolicyId) -> bool {
        let last = self.events.iter().rev().find(|event| event.policy == policy);
        last.is_some_and(|event| event.change == Change::RolledBack)
    }

    /// Goes back: drops the candidate, or without one exchanges the active policy and the one before.
    /// Going back a second time takes the first back: then neither has been left.
    pub(super) fn roll_back(&mut self, why: &str, at: WallTime) {
        let left = match (self.candidate.take(), self.active, self.previous) {
            (Some(candidate), ..) => candidate.entry,
            (None, Some(active), Some(previous)) => {
                std::mem::swap(&mut self.active, &mut self.previous);
                if self.left(previous.policy) {
                    return self.note(previous.policy, Change::Committed, why, at);
                }
                active
            }
            _ => return,
        };
        self.note(left.policy, Change::RolledBack, why, at);
    }

    /// Every policy that may still be needed.
    pub(super) fn in_use(&self) -> impl Iterator<Item = PolicyId> {
        let candidate = self.candidate.map(|candidate| candidate.entry);
        [self.active, self.previous, candidate].into_iter().flatten().map(|entry| entry.policy)
    }

    fn note(&mut self, policy: PolicyId, change: Change, why: &str, at: WallTime) {
        if self.events.len() == MAX_EVENTS {
            self.events.remove(0);
        }
        self.events.push(Event { at: at.0, policy, change, why: why.to_owned() });
    }
}

/// An id as its hexadecimal digits.
pub(crate) mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use crate::episode::PolicyId;

    pub(crate) fn serialize<S: Serializer>(id: &PolicyId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<PolicyId, D::Error> {
        let text = String::deserialize(from)?;
        PolicyId::from_hex(&text).ok_or_else(|| D::Error::custom("expected 32 hexadecimal digits"))
    }
}
