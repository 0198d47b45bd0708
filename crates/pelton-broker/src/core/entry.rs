//! What the journal holds: everything durable that is not a record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::members::StoredAssignment;
use crate::scram::{Credential, Hash};

/// One partition of one topic. A topic that is deleted and created again gets a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// Number of the topic, never used twice.
    pub topic: u64,
    /// Index of the partition.
    pub partition: u32,
}

/// Settings of a topic, by Kafka's names. Names this broker does not act on are kept and shown.
pub type TopicConfig = BTreeMap<String, String>;

/// A committed offset with what the client stored beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// -1 if the client gave none.
    pub leader_epoch: i32,
    /// Text of the client, kept as it is.
    pub metadata: String,
}

/// A committed offset and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// Topic name.
    pub topic: String,
    /// Partition index.
    pub partition: i32,
    /// What was committed.
    pub committed: CommittedOffset,
}

/// Who has a transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnOwner {
    /// Its producer id.
    pub producer_id: i64,
    /// Its current epoch; lower ones are fenced.
    pub epoch: i16,
    /// The epoch that was raised to this one, if its owner asked for that: asking again is answered the same.
    #[serde(default)]
    pub raised_from: Option<i16>,
    /// A transaction older than this is aborted, milliseconds.
    pub timeout_ms: i32,
    /// When it got it, milliseconds since 1970; 0 in journals that did not note it.
    #[serde(default)]
    pub at_ms: i64,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// First line of a new journal.
    Cluster {
        /// Cluster id shown to clients.
        id: String,
    },
    /// Topic numbers below `next` were used, by topics that may be gone.
    TopicNumbers {
        /// The next unused number.
        next: u64,
    },
    /// A topic exists from here on.
    TopicCreated {
        /// Its name.
        name: String,
        /// Its number.
        number: u64,
        /// How many partitions.
        partitions: u32,
        /// Its settings.
        config: TopicConfig,
    },
    /// A topic has these settings from here on, and no others.
    TopicConfigured {
        /// Its name.
        name: String,
        /// Its number.
        number: u64,
        /// All of its settings.
        config: TopicConfig,
    },
    /// Records of a partition before this offset are gone.
    LogStart {
        /// Number of the topic.
        topic: u64,
        /// Index of the partition.
        partition: u32,
        /// Offset of the first record that is left.
        offset: i64,
    },
    /// Records of a partition before this offset were compacted.
    Compacted {
        /// Number of the topic.
        topic: u64,
        /// Index of the partition.
        partition: u32,
        /// Offset of the first record that was not looked at.
        to: i64,
    },
    /// A topic has more partitions from here on.
    PartitionsAdded {
        /// Its name.
        name: String,
        /// How many it has now.
        total: u32,
    },
    /// A topic and its offsets are gone.
    TopicDeleted {
        /// Its name.
        name: String,
        /// Its number.
        number: u64,
    },
    /// A group stored offsets.
    OffsetsCommitted {
        /// Group id.
        group: String,
        /// The offsets.
        offsets: Vec<GroupOffset>,
        /// Time of the commit, milliseconds since 1970.
        #[serde(default)]
        at_ms: i64,
        /// When the client said they may go, milliseconds since 1970 (`OffsetCommit` up to version 4).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<i64>,
    },
    /// Offsets of a group are gone.
    OffsetsDeleted {
        /// Group id.
        group: String,
        /// Topic names and partition indexes.
        partitions: Vec<(String, i32)>,
    },
    /// A generation of a group's members begins; the assignment before it is history.
    GroupGeneration {
        /// Group id.
        group: String,
        /// Its number.
        generation: i32,
        /// When it began, milliseconds since 1970.
        #[serde(default)]
        at_ms: i64,
    },
    /// The leader of a group's generation has decided.
    GroupAssigned {
        /// Group id.
        group: String,
        /// Members and what each got.
        assignment: StoredAssignment,
    },
    /// A group and its offsets are gone.
    GroupDeleted {
        /// Group id.
        group: String,
    },
    /// Producer ids below `next` may have been handed out.
    ProducerIds {
        /// The next unused id.
        next: i64,
    },
    /// A transactional id got a producer id and epoch; nothing is open.
    TxnProducer {
        /// Transactional id.
        id: String,
        /// Who has it now.
        #[serde(flatten)]
        owner: TxnOwner,
    },
    /// Partitions joined the open transaction, which may begin with this.
    TxnPartitions {
        /// Transactional id.
        id: String,
        /// Topic names and partition indexes.
        partitions: Vec<(String, i32)>,
        /// Time of the request, milliseconds since 1970.
        at_ms: i64,
    },
    /// Offsets that count once the transaction commits.
    TxnOffsets {
        /// Transactional id.
        id: String,
        /// Group id.
        group: String,
        /// The offsets; may be empty (a group was announced).
        offsets: Vec<GroupOffset>,
        /// Time of the request, milliseconds since 1970.
        at_ms: i64,
    },
    /// The decision about a transaction. From here on it is carried out, across restarts too.
    TxnEnding {
        /// Transactional id.
        id: String,
        /// Epoch of the markers.
        epoch: i16,
        /// Commit or abort.
        commit: bool,
        /// Time of the request, milliseconds since 1970; 0 in journals that did not note it.
        #[serde(default)]
        at_ms: i64,
    },
    /// A transactional id was idle for long and is gone.
    TxnForgotten {
        /// Transactional id.
        id: String,
    },
    /// A user has this credential from here on.
    UserCredential {
        /// Name of the user.
        user: String,
        /// What it is for.
        hash: Hash,
        /// What is kept of the password.
        credential: Credential,
    },
    /// A credential of a user is gone.
    UserCredentialDeleted {
        /// Name of the user.
        user: String,
        /// What it was for.
        hash: Hash,
    },
    /// All markers of the transaction are in the logs; its offsets count if it committed.
    TxnEnded {
        /// Transactional id.
        id: String,
    },
}
