//! The user that a new broker begins with.

use std::fmt;
use std::num::NonZeroU32;

use crate::broker::Broker;
use crate::code::Code;
use crate::core::UserChange;
use crate::scram::{Credential, Hash, MIN_ITERATIONS};
use crate::store::SegmentStore;

/// A password that shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUser {
    /// Name.
    pub name: String,
    /// Password; only what proves that somebody knows it is kept.
    pub password: Password,
}

impl FirstUser {
    /// Makes the user, with a credential for each hash. One that exists stays as it is: its password may have been
    /// changed since.
    pub(super) fn add<S: SegmentStore>(&self, broker: &mut Broker<S>) -> Result<(), &'static str> {
        if self.password.0.is_empty() {
            return Err("its password is empty");
        }
        if broker.state().users().of(&self.name).is_some() {
            tracing::info!(user = self.name, "the first user exists already; its password stays as it is");
            return Ok(());
        }
        for hash in Hash::ALL {
            let iterations = NonZeroU32::new(MIN_ITERATIONS).unwrap_or(NonZeroU32::MIN);
            let salt = uuid::Uuid::new_v4();
            let credential = Credential::of_password(hash, &self.password.0, salt.as_bytes(), iterations);
            let change = UserChange { user: self.name.clone(), hash: Ok(hash), credential: Some(credential) };
            let plan = broker.state().users().plan_change(vec![change]);
            let outcomes = broker.run(plan, Code::KafkaStorageError).map_err(|_| "it could not be stored")?;
            outcomes.into_values().collect::<Result<(), _>>().map_err(|(_, text)| text)?;
        }
        tracing::info!(user = self.name, "made the first user");
        Ok(())
    }
}
