//! The wire protocols of Kinora: operator to worker (`dispatch`), worker to processing service (`processing`).
//!
//! Generated from `proto/`; nothing here decides anything.

/// Operator and worker.
pub mod dispatch {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        unreachable_pub
    )]
    tonic::include_proto!("kinora.dispatch.v1");
}

/// Worker and processing service.
pub mod processing {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        unreachable_pub
    )]
    tonic::include_proto!("kinora.processing.v1");
}

/// What this build speaks. Any other number is refused, never guessed.
pub const DISPATCH_PROTOCOL_VERSION: u32 = 1;

/// Audience of the projected token with which a worker proves who it is.
pub const DISPATCH_AUDIENCE: &str = "kinora-dispatch";

/// Metadata key in which a standby names the leader's `ip:port`.
pub const LEADER_METADATA_KEY: &str = "kinora-leader";

/// Longest `Outcome.message` in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Longest `result_json` in bytes.
pub const MAX_RESULT_BYTES: usize = 64 * 1024;

/// Most outputs of one job, as the schema of its status has it.
pub const MAX_OUTPUTS: usize = 16;

/// Longest name of an output in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// Longest checksum of an output in bytes.
pub const MAX_CHECKSUM_BYTES: usize = 128;

/// Longest URI of an output in bytes.
pub const MAX_URI_BYTES: usize = 2048;

/// Leases beyond its slots that a worker holds at most, to give them back.
pub const MAX_SURPLUS: u32 = 256;
