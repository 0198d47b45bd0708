//! What `parse` reads out of lines.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use pelton_parse::ParseFactory;
use pelton_sdk::{
    Collector, OperatorFactory,
    testing::{batch, context, golden_cases},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{cell::RefCell, time::Instant};

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&ParseFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

/// Texts that look like lines of logs, so that the formats get far with them.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"(<[0-9]{1,3}>)?[1 ]?[-A-Za-z0-9 :.\[\]="\\é]{0,60}"#,
        r#"[0-9.]{1,9} - - \[0[1-9]/Oct/20[0-9]{2}:1[0-9]:[0-5][0-9]:[0-5][0-9] \+0000\] "[^\n]{0,20}" [0-9]{1,3} [0-9-]{1,4} "-" "[^\n]{0,9}""#,
        r#"([a-z]{0,3}=("[^"]{0,5}"|[a-z\\]{0,4}) ?){0,5}"#,
        ".{0,40}",
    ]
}

/// Whatever the line: no panic, one outcome for the record, and what is written is a JSON object.
#[test]
fn any_line_gives_a_record_or_a_cause() {
    let all = [
        json!({ "nginx": "combined", "field": "." }),
        json!({ "apache": "combined", "field": "." }),
        json!({ "syslog": "auto", "field": "." }),
        json!({ "syslog": "rfc5424", "field": "." }),
        json!({ "keyValue": true, "field": "." }),
        json!({ "grok": "%{COMBINEDAPACHELOG}", "field": "." }),
    ];
    let operators = all.map(|options| ParseFactory.build(&options, &context()).unwrap());
    let operators = RefCell::new(operators);
    proptest!(|(line in line())| {
        for operator in operators.borrow_mut().iter_mut() {
            let mut out = Collector::new(Instant::now());
            operator.process(batch(&[Some(&line)]), &mut out);
            prop_assert_eq!(out.settled(), 1);
            for (_, batch) in &out.emitted {
                let value: Value = serde_json::from_slice(batch.value(&batch.records[0]).unwrap_or_default())
                    .map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert!(value.is_object());
            }
        }
    });
}
