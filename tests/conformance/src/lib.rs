//! What a Kafka client may expect of a broker, as tests that run on the embedded broker and on a real Apache Kafka.
//!
//! Apache Kafka is right. A case that the embedded broker does not do yet is in [`not_yet::NOT_YET`]: its test asserts
//! that it fails, so that the line has to go when it passes. What differs on purpose is in `docs/broker.md`.
//!
//! - [`target`]: the broker under test. - [`client`]: librdkafka's clients on it.
//! - [`wire`]: single requests in a chosen version, for what no client library would send; [`transaction`] and
//!   [`member`] of them.
//! - [`plain`]: logins by single requests. - [`refusals`]: what clients say that are not let in.
//! - [`tools`]: Kafka's own command-line tools, kcat and Java programs.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

pub mod client;
pub mod member;
pub mod not_yet;
// One rule for all tests, without the dependencies of the crate that holds it.
#[path = "../../src/parts.rs"]
pub mod parts;
pub mod plain;
pub mod refusals;
pub mod target;
pub mod tools;
pub mod transaction;
pub mod wire;

pub use target::Target;

/// Makes two tests of each function named: `NAME::embedded` and `NAME::kafka`, and the constant `CASES` for the
/// check that [`not_yet::NOT_YET`] names only what exists.
///
/// After `secured:` the broker has listeners with TLS and SASL beside the plain one.
/// After `java:` there is only the embedded one: it costs minutes to learn that Kafka's tools work with Kafka.
#[macro_export]
macro_rules! conform {
    (java: $($name:ident),+ $(,)?) => {
        $crate::conform!(@cases $($name),+);
        $(mod $name {
            #[test]
            fn embedded() {
                $crate::target::on_embedded(module_path!(), super::$name);
            }
        })+
    };
    (secured: $($name:ident),+ $(,)?) => {
        $crate::conform!(@cases $($name),+);
        $(mod $name {
            #[test]
            fn embedded() {
                $crate::target::on_secured_embedded(module_path!(), super::$name);
            }
            #[test]
            fn kafka() {
                $crate::target::on_secured_kafka(super::$name);
            }
        })+
    };
    (java secured: $($name:ident),+ $(,)?) => {
        $crate::conform!(@cases $($name),+);
        $(mod $name {
            #[test]
            fn embedded() {
                $crate::target::on_secured_embedded(module_path!(), super::$name);
            }
        })+
    };
    (@cases $($name:ident),+) => {
        pub const CASES: &[&str] = &[$(concat!(module_path!(), "::", stringify!($name))),+];
    };
    ($($name:ident),+ $(,)?) => {
        $crate::conform!(@cases $($name),+);
        $(mod $name {
            #[test]
            fn embedded() {
                $crate::target::on_embedded(module_path!(), super::$name);
            }
            #[test]
            fn kafka() {
                $crate::target::on_kafka(super::$name);
            }
        })+
    };
}
