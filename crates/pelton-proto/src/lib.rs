//! Wire messages of Pelton's gRPC services. Wire structs stop here: the rest of the code speaks `pelton-types`.

/// Package `pelton.v1`, generated from `proto/pelton/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("pelton.v1");
}

mod convert;
pub mod json;
pub mod link;

pub use convert::{WireError, task_id};

/// The compiled descriptors, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest message either side takes, bytes. Definitions are at most 1 MiB and heartbeats of a thousand tasks stay
/// below it; stated because a library default is not a decision.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
