//! Topics and rights of a real Kafka, for tests with ACLs.

use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings as sys;
use rdkafka::client::DefaultClientContext;

/// What a right is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic,
    /// A group.
    Group,
    /// Transactional ids that begin with the name.
    TransactionalIds,
}

/// A right of a principal on a resource of exactly this name, but for transactional ids.
#[derive(Clone, Debug)]
pub struct Grant {
    principal: String,
    operation: String,
    resource: Resource,
    name: String,
}

impl Grant {
    /// `operation` as `kafka-acls` calls it: Read or Write.
    pub fn new(principal: &str, operation: &str, resource: Resource, name: &str) -> Grant {
        Grant { principal: principal.into(), operation: operation.into(), resource, name: name.into() }
    }
}

fn admin(config: &ClientConfig) -> AdminClient<DefaultClientContext> {
    config.create().expect("an admin client")
}

/// Creates topics of four partitions.
pub fn create_topics(config: &ClientConfig, names: &[String]) {
    let topics: Vec<_> =
        names.iter().map(|name| NewTopic::new(name, 4, TopicReplication::Fixed(1))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let made = runtime.block_on(admin(config).create_topics(&topics, &options)).expect("an answer");
    for topic in made {
        topic.unwrap_or_else(|(name, why)| panic!("topic {name}: {why}"));
    }
}

/// Grants rights. The library for Rust has no call for it, the one below has.
pub fn grant(config: &ClientConfig, grants: &[Grant]) {
    let admin = admin(config);
    let client = admin.inner().native_ptr();
    let mut bindings: Vec<_> = grants.iter().map(binding).collect();
    // SAFETY: the client lives to the end of this function; bindings are copied by the call and destroyed after it, the
    // event is destroyed after the results in it were read.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_CreateAcls(client, bindings.as_mut_ptr(), bindings.len(), ptr::null(), queue);
        let event = sys::rd_kafka_queue_poll(queue, 60_000);
        assert!(!event.is_null(), "no answer to CreateAcls");
        assert_eq!(sys::rd_kafka_event_error(event) as i32, 0, "CreateAcls failed");
        let result = sys::rd_kafka_event_CreateAcls_result(event);
        let mut count = 0;
        let results = sys::rd_kafka_CreateAcls_result_acls(result, &mut count);
        assert_eq!(count, grants.len());
        for (i, grant) in grants.iter().enumerate() {
            let error = sys::rd_kafka_acl_result_error(*results.add(i));
            assert!(error.is_null(), "{grant:?}: {:?}", sys::rd_kafka_error_code(error));
        }
        sys::rd_kafka_event_destroy(event);
        sys::rd_kafka_queue_destroy(queue);
        bindings.into_iter().for_each(|binding| sys::rd_kafka_AclBinding_destroy(binding));
    }
}

fn binding(grant: &Grant) -> *mut sys::rd_kafka_AclBinding_t {
    use sys::{
        rd_kafka_AclOperation_t as Operation, rd_kafka_AclPermissionType_t as Permission,
        rd_kafka_ResourcePatternType_t as Pattern, rd_kafka_ResourceType_t as Type,
    };
    let text = |text: &str| CString::new(text).expect("no NUL in a name");
    let (name, principal, host) = (text(&grant.name), text(&grant.principal), text("*"));
    let operation = match grant.operation.as_str() {
        "Read" => Operation::RD_KAFKA_ACL_OPERATION_READ,
        "Write" => Operation::RD_KAFKA_ACL_OPERATION_WRITE,
        other => panic!("no test needs the operation {other}"),
    };
    let kind = match grant.resource {
        Resource::Topic => Type::RD_KAFKA_RESOURCE_TOPIC,
        Resource::Group => Type::RD_KAFKA_RESOURCE_GROUP,
        Resource::TransactionalIds => Type::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
    };
    let pattern = match grant.resource {
        Resource::TransactionalIds => Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
        _ => Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
    };
    let mut why = [0; 256];
    // SAFETY: texts are copied; the buffer has the length given.
    let binding = unsafe {
        sys::rd_kafka_AclBinding_new(
            kind,
            name.as_ptr(),
            pattern,
            principal.as_ptr(),
            host.as_ptr(),
            operation,
            Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    assert!(!binding.is_null(), "{grant:?} is no right");
    binding
}
