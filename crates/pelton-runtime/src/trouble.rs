//! From what failed to the incident a person reads.

use pelton_checkpoint::Failure;
use pelton_sdk::{EndError, ErrorKind, Failed, OptionError};
use pelton_types::{Account, Code, Incident, Offset, Partition, TaskId};
use std::time::Duration;

/// Longest piece of a record quoted in an incident, characters.
const QUOTED: usize = 120;

/// A source, a sink or a place for offsets failed.
pub fn of_end(error: &EndError, end: &str) -> Incident {
    let stops_task = error.kind == ErrorKind::Stop;
    let remedy = match (error.code, stops_task) {
        (_, false) => "Pelton tries again by itself",
        (Code::TopicMissing, _) => "create the topic, then resume the pipeline",
        (Code::OffsetOutOfRange, _) => {
            "decide where to go on, then `pelton pause`, `pelton task skip-to` and `pelton resume`"
        }
        _ => "mend the cause, then resume the pipeline",
    };
    Incident {
        code: error.code,
        message: format!("`{end}`: {}", error.message),
        remedy: remedy.into(),
        stops_task,
    }
}

/// How the machine sees that error.
pub fn failure(error: &EndError, incident: Incident) -> Failure {
    match error.kind {
        ErrorKind::Stop => Failure::Stop(incident),
        ErrorKind::Retry | ErrorKind::Fenced => Failure::Retry,
    }
}

/// A record that cannot be processed, and nowhere to put it.
pub fn poison(operator: &str, failed: &Failed) -> Incident {
    let batch = &failed.record;
    let offset = batch.records.first().map_or(-1, |r| r.offset);
    let value = batch
        .records
        .first()
        .and_then(|r| batch.value(batch.original(r.offset).unwrap_or(r)))
        .map_or("null".to_owned(), |v| quote(&String::from_utf8_lossy(v)));
    Incident {
        code: Code::PoisonRecord,
        message: format!(
            "`{operator}` cannot process the record at {} offset {offset}: {}; the record is {value}",
            batch.partition, failed.cause
        ),
        remedy: "correct the operator and apply again, or add `onError: {deadLetter: ...}` so that such records are \
                 set aside; nothing after this record was committed"
            .into(),
        stops_task: true,
    }
}

/// The dead-letter sink refuses a dead letter.
pub fn dead_letter_refused(failed: &Failed) -> Incident {
    Incident {
        code: Code::SinkFailed,
        message: format!("the dead-letter sink refuses a dead letter: {}", failed.cause),
        remedy: "raise the topic's message size, then resume the pipeline".into(),
        stops_task: true,
    }
}

/// Books that do not balance.
pub fn imbalance(whose: &str, account: Account) -> Incident {
    Incident {
        code: Code::Imbalance,
        message: format!(
            "{whose}: {} in + {} expanded, but {} out + {} filtered + {} merged + {} held + {} dead-lettered",
            account.records_in,
            account.expanded,
            account.records_out,
            account.filtered,
            account.merged,
            account.held,
            account.dead_lettered
        ),
        remedy: "an operator lost or doubled records: report it; nothing since the last commit was committed"
            .into(),
        stops_task: true,
    }
}

/// A record that is held for so long that commits stand still behind it.
pub fn stalled(holder: &str, partition: &Partition, offset: Offset, since: Duration) -> Incident {
    Incident {
        code: Code::CommitStalled,
        message: format!(
            "`{holder}` holds the record at {partition} offset {offset} for {} s; commits of this partition wait for it",
            since.as_secs()
        ),
        remedy: "nothing is lost; look at what it calls, or give it a shorter `timeout`".into(),
        stops_task: false,
    }
}

/// Somebody else initialises the task's transactional id.
pub fn hijacked(task: &TaskId, times: usize) -> Incident {
    let id = task.transactional_id();
    Incident {
        code: Code::Hijacked,
        message: format!(
            "transactional id {id} was fenced {times} times in two minutes, and nobody else has claimed the task: \
             another program uses the id"
        ),
        remedy: format!(
            "nothing is lost; find the program, and let only Pelton's user write with the id: kafka-acls --add \
             --allow-principal User:NAME --operation Write --transactional-id {id}"
        ),
        stops_task: false,
    }
}

/// An operator that was built once cannot be built again.
pub fn cannot_build(operator: &str, error: &OptionError) -> Incident {
    Incident {
        code: Code::BadPipeline,
        message: format!("operator `{operator}`: {}", error.message),
        remedy: error.hint.clone().unwrap_or_else(|| "correct the definition and apply again".into()),
        stops_task: true,
    }
}

/// This build runs at-least-once only.
pub fn no_transactions() -> Incident {
    Incident {
        code: Code::BadPipeline,
        message: "this build has no transactional producer".into(),
        remedy: "use `delivery: at-least-once`".into(),
        stops_task: true,
    }
}

fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED).is_some() {
        short.push_str("...");
    }
    format!("`{short}`")
}
