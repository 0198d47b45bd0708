//! Failures a user can meet, each with a lasting code.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $title:literal;)*) => {
        /// A lasting code; `docs/incidents/` has a page for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* $name,)* }
        impl Code {
            /// Every code, in order of number.
            pub const ALL: &[Code] = &[$(Code::$name),*];
            /// The number in `PLTnnnn`.
            pub fn number(self) -> u16 { match self { $(Code::$name => $number),* } }
            /// What happened, in a few words.
            pub fn title(self) -> &'static str { match self { $(Code::$name => $title),* } }
            /// Its page in Markdown: cause, what Pelton did, what to do.
            pub fn page(self) -> &'static str {
                match self { $(Code::$name => include_str!(concat!("../../../docs/incidents/PLT0", $number, ".md"))),* }
            }
            /// The code with this number.
            pub fn from_number(number: u16) -> Option<Code> { match number { $($number => Some(Code::$name),)* _ => None } }
        }
    };
}

codes! {
    /// A record could not be processed and there is no dead-letter topic.
    PoisonRecord = 101, "a record could not be processed";
    /// An operator panicked.
    OperatorPanic = 102, "an operator panicked";
    /// Records in and out do not balance.
    Imbalance = 103, "the account of records does not balance";
    /// The definition does not compile on this worker.
    BadPipeline = 104, "the pipeline cannot be built";
    /// A source cannot be read.
    SourceFailed = 201, "a source cannot be read";
    /// A sink refuses records.
    SinkFailed = 202, "a sink refuses records";
    /// Offsets cannot be committed.
    CommitFailed = 203, "offsets cannot be committed";
    /// A topic does not exist.
    TopicMissing = 204, "a topic does not exist";
    /// The committed offset is outside the log: retention overtook the reader, or the log was cut.
    OffsetOutOfRange = 205, "the committed offset is outside the log";
    /// The broker does not answer.
    BrokerUnreachable = 206, "the broker does not answer";
    /// An operator or a sink holds a record for long, and commits stand still behind it.
    CommitStalled = 207, "commits make no progress";
    /// Encryption failed: a certificate, a protocol, a file with keys.
    TlsFailed = 208, "no secure connection to the broker";
    /// The broker refuses the login, or there is nothing to log in with.
    LoginFailed = 209, "the login at the broker failed";
    /// A right is missing.
    NotPermitted = 210, "a right is missing at the broker";
    /// A connection of the node's settings is missing or cannot be used.
    BadConnection = 211, "a connection cannot be used";
    /// The consumer group holds offsets somebody else wrote.
    ForeignOffsets = 301, "the committed offsets are not ours";
    /// The retired generation was never closed.
    OldGeneration = 302, "offsets of an older generation were never retired";
    /// The cluster has no transactions, or not such as exactly-once needs.
    NoTransactions = 303, "the cluster cannot do these transactions";
    /// Exactly-once was asked for on topics that may lose acknowledged records.
    WeakDurability = 304, "a topic may lose acknowledged records";
    /// Somebody subscribes with the pipeline's group id.
    GroupTaken = 305, "somebody else takes part in the consumer group";
    /// Somebody else initialises the task's transactional id, again and again.
    Hijacked = 306, "a transactional id is used by somebody else";
    /// The queue answers lower offsets than were committed.
    OffsetsWentBack = 307, "the committed offsets went back";
    /// No worker has room.
    Unassigned = 401, "tasks wait for a worker";
    /// Two workers claim one task's epoch.
    EpochConflict = 402, "two workers report the same epoch of a task";
    /// The coordinator's store forgot what workers remember.
    StoreBehind = 403, "the coordinator's store is older than what workers hold";
    /// A worker ended or fell silent without having let go of its tasks.
    WorkerLost = 404, "a worker was lost";
    /// The metadata store cannot be opened, read or written.
    StoreFailed = 405, "the coordinator's store cannot be used";
    /// Another coordinator raised the term.
    Deposed = 406, "another coordinator took over";
    /// A worker does not reach the coordinator.
    NoCoordinator = 407, "the coordinator cannot be reached";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PLT{:04}", self.number())
    }
}

/// Something went wrong that a person should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// Which failure.
    pub code: Code,
    /// What, where and why, with real values.
    pub message: String,
    /// What to do next.
    pub remedy: String,
    /// Nothing goes on until somebody acts; otherwise Pelton tries again by itself.
    pub stops_task: bool,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: {}", self.code, self.code.title(), self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_says_what_happened_and_what_to_do() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/incidents");
        let index = std::fs::read_to_string(docs.join("README.md")).unwrap();
        for code in Code::ALL {
            let page = std::fs::read_to_string(docs.join(format!("{code}.md"))).unwrap();
            assert!(page.starts_with(&format!("# {code}: {}\n", code.title())), "{code}: {page}");
            for part in ["**Cause.**", "**What Pelton did.**", "**What to do.**"] {
                assert!(page.contains(part), "{code} has no {part}");
            }
            assert!(
                index.contains(&format!("| [{code}]({code}.md) | {} |", code.title())),
                "{code} is not listed"
            );
        }
    }

    #[test]
    fn codes_are_distinct_and_found_by_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
        assert_eq!(Code::PoisonRecord.to_string(), "PLT0101");
    }
}
