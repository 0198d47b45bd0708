//! Users: who there is, and new credentials. Quotas of users: there are none.

use std::num::NonZeroU32;

use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeClientQuotasResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};

use super::text;
use crate::broker::Broker;
use crate::code::Code;
use crate::core::{UserChange, UserRefusal, Users};
use crate::scram::{Credential, Hash, MAX_ITERATIONS, MIN_ITERATIONS};
use crate::store::SegmentStore;

/// Longest salt, and longest salted password; those of Kafka's tools have 26 and 32 or 64 bytes.
const MAX_SECRET_BYTES: usize = 1024;

pub(super) fn alter<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let deletions = request.deletions.into_iter().map(|deletion| UserChange {
        user: deletion.name.to_string(),
        hash: known(deletion.mechanism),
        credential: None,
    });
    let changes: Vec<UserChange> = deletions.chain(request.upsertions.into_iter().map(upsertion)).collect();
    let names: std::collections::BTreeSet<String> =
        changes.iter().map(|change| change.user.clone()).collect();
    let plan = broker.state().users().plan_change(changes);
    let outcomes = broker.run(plan, Code::KafkaStorageError);
    let results = names.into_iter().map(|user| {
        let outcome = match &outcomes {
            Ok(outcomes) => outcomes.get(&user).copied().unwrap_or(Ok(())),
            Err(code) => Err((*code, "could not store the credentials")),
        };
        let (code, message) = outcome.err().unwrap_or((Code::None, ""));
        if code == Code::None {
            tracing::info!(user, "changed the credentials of a user");
        }
        AlterUserScramCredentialsResult::default()
            .with_user(text(user))
            .with_error_code(code.into())
            .with_error_message((code != Code::None).then(|| text(message)))
    });
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}

fn known(number: i8) -> Result<Hash, UserRefusal> {
    Hash::from_number(number).ok_or((Code::UnsupportedSaslMechanism, "unknown SCRAM mechanism"))
}

fn upsertion(asked: ScramCredentialUpsertion) -> UserChange {
    let unacceptable = |text| Err((Code::UnacceptableCredential, text));
    let iterations = u32::try_from(asked.iterations).unwrap_or(0);
    let fits = |bytes: &[u8]| (1..=MAX_SECRET_BYTES).contains(&bytes.len());
    let hash = known(asked.mechanism).and_then(|hash| match iterations {
        ..MIN_ITERATIONS => unacceptable("too few iterations: 4096 is the least"),
        MIN_ITERATIONS..=MAX_ITERATIONS if fits(&asked.salt) && fits(&asked.salted_password) => Ok(hash),
        MIN_ITERATIONS..=MAX_ITERATIONS => unacceptable("salt and salted password must have 1 to 1024 bytes"),
        _ => unacceptable("too many iterations: 16384 is the most"),
    });
    let credential = hash.ok().zip(NonZeroU32::new(iterations)).map(|(hash, iterations)| {
        Credential::of_salted(hash, &asked.salted_password, &asked.salt, iterations)
    });
    UserChange { user: asked.name.to_string(), hash, credential }
}

pub(super) fn describe<S: SegmentStore>(
    broker: &Broker<S>,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let users = broker.state().users();
    let asked: Option<Vec<String>> =
        request.users.map(|users| users.into_iter().map(|user| user.name.to_string()).collect());
    let results: Vec<_> = match asked.filter(|asked| !asked.is_empty()) {
        None => users.names().map(|name| describe_one(users, name, false)).collect(),
        Some(mut asked) => {
            asked.sort();
            let of_one = |same: &[String]| describe_one(users, &same[0], same.len() > 1);
            asked.chunk_by(|a, b| a == b).map(of_one).collect()
        }
    };
    DescribeUserScramCredentialsResponse::default().with_results(results)
}

fn describe_one(users: &Users, name: &str, is_repeated: bool) -> DescribeUserScramCredentialsResult {
    let result = DescribeUserScramCredentialsResult::default().with_user(text(name));
    let refuse = |code: Code, message: String| {
        result.clone().with_error_code(code.into()).with_error_message(Some(text(message)))
    };
    if is_repeated {
        return refuse(Code::DuplicateResource, format!("user {name:?} is asked for twice"));
    }
    let Some(credentials) = users.of(name) else {
        return refuse(Code::ResourceNotFound, format!("user {name:?} has no credentials"));
    };
    let infos = credentials.iter().map(|(hash, credential)| {
        CredentialInfo::default()
            .with_mechanism(hash.number())
            .with_iterations(credential.iterations().cast_signed())
    });
    result.with_credential_infos(infos.collect())
}

/// No quotas, of whomever: `kafka-configs --describe --entity-type users` asks for them first.
pub(super) fn quotas() -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse::default().with_entries(Some(Vec::new()))
}
