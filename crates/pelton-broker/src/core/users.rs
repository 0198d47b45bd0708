//! Users and what is kept of their passwords.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Entry, Plan};
use crate::code::Code;
use crate::scram::{Credential, Hash};

/// Credentials by user and hash.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Users {
    all: BTreeMap<String, BTreeMap<Hash, Credential>>,
}

/// One change that somebody asks for.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose.
    pub user: String,
    /// For which hash; a refusal if the request cannot be granted as it is.
    pub hash: Result<Hash, Refusal>,
    /// The new credential; `None` to delete.
    pub credential: Option<Credential>,
}

/// Code and text of a refusal.
pub type Refusal = (Code, &'static str);

impl Users {
    /// What is kept of a user's password.
    #[must_use]
    pub fn credential(&self, user: &str, hash: Hash) -> Option<&Credential> {
        self.all.get(user)?.get(&hash)
    }

    /// All credentials of a user; `None` if there is no such user.
    #[must_use]
    pub fn of(&self, user: &str) -> Option<&BTreeMap<Hash, Credential>> {
        self.all.get(user)
    }

    /// All users, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// Changes credentials, one of each user at most, as in Kafka. The reply has every user named.
    #[must_use]
    pub fn plan_change(&self, changes: Vec<Change>) -> Plan<BTreeMap<String, Result<(), Refusal>>> {
        let mut outcomes: BTreeMap<String, Result<(), Refusal>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for change in &changes {
            let mut outcome = self.check(change);
            if !seen.insert(change.user.as_str()) {
                let text =
                    "a user's credentials can be changed once in a request: ask for one mechanism at a time";
                outcome = Err((Code::DuplicateResource, text));
            }
            let known = outcomes.entry(change.user.clone()).or_insert(Ok(()));
            *known = known.and(outcome);
        }
        let is_fine = |change: &Change| outcomes.get(&change.user).is_some_and(Result::is_ok);
        let granted = changes.into_iter().filter(is_fine);
        let entry = |change: Change| {
            let (user, hash) = (change.user, change.hash.ok()?);
            Some(Effect::Journal(match change.credential {
                Some(credential) => Entry::UserCredential { user, hash, credential },
                None => Entry::UserCredentialDeleted { user, hash },
            }))
        };
        Plan::new(granted.filter_map(entry).collect(), outcomes)
    }

    fn check(&self, change: &Change) -> Result<(), Refusal> {
        if change.user.is_empty() {
            return Err((Code::UnacceptableCredential, "the name of a user must not be empty"));
        }
        let hash = change.hash?;
        if change.credential.is_none() && self.credential(&change.user, hash).is_none() {
            return Err((Code::ResourceNotFound, "there is no such credential to delete"));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, user: &str, hash: Hash, credential: &Credential) {
        self.all.entry(user.to_owned()).or_default().insert(hash, credential.clone());
    }

    pub(super) fn remove(&mut self, user: &str, hash: Hash) {
        if let Some(credentials) = self.all.get_mut(user) {
            credentials.remove(&hash);
            if credentials.is_empty() {
                self.all.remove(user);
            }
        }
    }

    pub(super) fn snapshot(&self) -> impl Iterator<Item = Entry> {
        self.all.iter().flat_map(|(user, credentials)| {
            credentials.iter().map(|(hash, credential)| Entry::UserCredential {
                user: user.clone(),
                hash: *hash,
                credential: credential.clone(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::State;
    use super::*;

    fn change(user: &str, password: Option<&str>) -> Change {
        let credential =
            password.map(|password| Credential::of_password(Hash::Sha256, password, b"s", NonZeroU32::MIN));
        Change { user: user.to_owned(), hash: Ok(Hash::Sha256), credential }
    }

    fn run(state: &mut State, changes: Vec<Change>) -> BTreeMap<String, Result<(), Refusal>> {
        let plan = state.users().plan_change(changes);
        plan.effects().iter().for_each(|effect| state.apply(effect));
        plan.reply
    }

    #[test]
    fn a_password_is_set_replaced_deleted_and_survives_a_snapshot() {
        let mut state = State::default();
        run(&mut state, vec![change("u", Some("a"))]);
        run(&mut state, vec![change("u", Some("b")), change("v", Some("c"))]);
        let mut again = State::default();
        state.snapshot().iter().for_each(|entry| again.apply_entry(entry));
        assert_eq!(again.users(), state.users());
        assert!(again.users().credential("u", Hash::Sha256).unwrap().fits(Hash::Sha256, "b"));
        assert_eq!(run(&mut state, vec![change("u", None)])["u"], Ok(()));
        assert_eq!(state.users().names().collect::<Vec<_>>(), ["v"]);
    }

    #[test]
    fn a_user_of_whom_one_change_is_refused_stays_as_it_was() {
        let mut state = State::default();
        let bad = Change { hash: Err((Code::UnsupportedSaslMechanism, "no")), ..change("u", Some("a")) };
        let outcomes = run(&mut state, vec![bad, change("u", Some("a")), change("v", Some("b"))]);
        assert_eq!(outcomes["u"].unwrap_err().0, Code::UnsupportedSaslMechanism);
        assert_eq!((outcomes["v"], state.users().names().collect::<Vec<_>>()), (Ok(()), vec!["v"]));
        let other = Change { hash: Ok(Hash::Sha512), ..change("v", Some("c")) };
        let outcomes = run(&mut state, vec![change("v", Some("c")), other, change("w", None)]);
        assert_eq!(outcomes["v"].unwrap_err().0, Code::DuplicateResource);
        assert_eq!(outcomes["w"].unwrap_err().0, Code::ResourceNotFound);
        assert_eq!(
            run(&mut state, vec![change("", Some("a"))])[""].unwrap_err().0,
            Code::UnacceptableCredential
        );
    }
}
