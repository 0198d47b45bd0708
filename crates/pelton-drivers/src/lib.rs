//! What makes worker containers exist.
//!
//! * [`plan`]: what should be and what is there, to what is to be done; pure;
//! * [`docker`]: containers of a Docker engine;
//! * [`credentials`]: logins of private registries;
//! * [`keep`]: the loop between the two.
//!
//! Nothing about a fleet is remembered but in the engine itself: a container's labels say whose it is, which slot it
//! fills and what it was made from, and its name says whether it is leaving. So a driver that was killed at any moment
//! finds on its next start what it had begun.

pub mod credentials;
pub mod docker;
pub mod keep;
pub mod plan;

pub use credentials::{Credentials, credentials_for};
pub use docker::{Engine, EngineError, Pull, Spec};
pub use keep::{Standing, keep};
