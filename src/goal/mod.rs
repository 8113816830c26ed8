//! Hindsight: a failed attempt is a success at the goal it achieved.
