//! Rules of the commit protocol that a test build can be told to break, to see that the tests would notice, and moments at
//! which a development build can be stopped, killed or kept waiting ([`points`]).
//!
//! `cargo xtask sabotage` builds `pelton` with the feature `sabotage` and runs the tests of exactly-once against it, once
//! for each [`Defect`], named in `PELTON_SABOTAGE`. In any other build [`breaks`] is a constant `false`, and what hangs on
//! it is not compiled into the program.

pub mod points;

use std::{fmt, str::FromStr};

/// A rule broken. The place that asks [`breaks`] is the place of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Outputs and offsets are written without a transaction (P6).
    NoTransaction,
    /// Outputs are committed first, offsets in a transaction of their own (P6).
    OffsetsOutside,
    /// A newer epoch in the committed metadata is no reason to step down (P4).
    EpochCheckOff,
    /// A task is taken without a claim (P5).
    ClaimSkipped,
    /// An old generation is ended without a claim for the new one (P8).
    NoRetirementClaim,
    /// Offsets are committed before outputs are stored.
    CommitBeforeFlush,
    /// A producer is kept although a request went unanswered (P7).
    DiscardOff,
    /// Every start of a task takes another transactional id (P1).
    FreshId,
    /// After a later init nobody looks who owns the task by now (P7).
    StaleInit,
    /// Positions are counted in records (P12).
    PositionFromCount,
    /// Results beyond the cut go out with the transaction (P13).
    PastCut,
}

impl Defect {
    /// All of them.
    pub const ALL: [Defect; 11] = [
        Defect::NoTransaction,
        Defect::OffsetsOutside,
        Defect::EpochCheckOff,
        Defect::ClaimSkipped,
        Defect::NoRetirementClaim,
        Defect::CommitBeforeFlush,
        Defect::DiscardOff,
        Defect::FreshId,
        Defect::StaleInit,
        Defect::PositionFromCount,
        Defect::PastCut,
    ];

    /// What `PELTON_SABOTAGE` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Defect::NoTransaction => "no-transaction",
            Defect::OffsetsOutside => "offsets-outside",
            Defect::EpochCheckOff => "epoch-check-off",
            Defect::ClaimSkipped => "claim-skipped",
            Defect::NoRetirementClaim => "no-retirement-claim",
            Defect::CommitBeforeFlush => "commit-before-flush",
            Defect::DiscardOff => "discard-off",
            Defect::FreshId => "fresh-id",
            Defect::StaleInit => "stale-init",
            Defect::PositionFromCount => "position-from-count",
            Defect::PastCut => "past-cut",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Defect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Defect::ALL.into_iter().find(|defect| defect.name() == text);
        named.ok_or_else(|| format!("`{text}` is no defect"))
    }
}

/// Whether this program was told to break that rule.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn breaks(_: Defect) -> bool {
    false
}

/// Whether this program was told to break that rule. A wish for a defect that is none breaks nothing, and the tests
/// that should fail pass.
#[cfg(feature = "sabotage")]
pub fn breaks(defect: Defect) -> bool {
    static WISH: std::sync::OnceLock<Option<Defect>> = std::sync::OnceLock::new();
    let wish = WISH.get_or_init(|| std::env::var("PELTON_SABOTAGE").ok()?.parse().ok());
    *wish == Some(defect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_is_found_by_its_name_and_another_word_is_none() {
        for defect in Defect::ALL {
            assert_eq!(defect.to_string().parse(), Ok(defect));
        }
        assert!("nothing".parse::<Defect>().is_err());
    }

    #[test]
    fn nothing_is_broken_that_was_not_asked_for() {
        assert!(Defect::ALL.into_iter().all(|defect| !breaks(defect)));
    }
}
