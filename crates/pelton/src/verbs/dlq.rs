//! `pelton dlq list|show|replay|discard`

use super::text;
use crate::{
    cli::{DlqCommand, DlqSettleArgs, Format, LetterFilter, LetterId},
    client::Client,
    exit::{Exit, Failure},
    output,
};
use pelton_proto::{
    json,
    v1::{self, DeadLetterAction},
};
use std::time::Duration;

/// Replaying a million letters takes its time; the coordinator notices a worker that falls silent.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Characters of a cause or a key in a row of the list.
const CELL: usize = 60;

/// `pelton dlq`
pub async fn dlq(command: DlqCommand) -> Result<(), Failure> {
    match command {
        DlqCommand::List { name, limit, filter, client } => {
            let request = v1::DeadLettersRequest { limit, ..request(&name, &client.namespace, &filter, &[]) };
            let letters = fetch(&client.coordinator, request).await?;
            show_list(&letters, client.output)
        }
        DlqCommand::Show { name, letter, client } => {
            let wanted = request(&name, &client.namespace, &LetterFilter::default(), &[letter]);
            let letters = fetch(&client.coordinator, wanted).await?;
            let [found] = letters.as_slice() else {
                return Err(Failure::unexpected(format!(
                    "{name} has no dead letter {letter} that waits; `pelton dlq list {name}` shows those that do"
                )));
            };
            match client.output {
                Format::Json | Format::Yaml => output::value(&json::letter(found), client.output),
                _ => {
                    output::print(&page(found));
                    Ok(())
                }
            }
        }
        DlqCommand::Replay(args) => {
            settle(args, DeadLetterAction::Replay, "written back to where they were read").await
        }
        DlqCommand::Discard(args) => settle(args, DeadLetterAction::Discard, "discarded").await,
    }
}

fn request(
    name: &str,
    namespace: &str,
    filter: &LetterFilter,
    letters: &[LetterId],
) -> v1::DeadLettersRequest {
    v1::DeadLettersRequest {
        namespace: namespace.to_owned(),
        pipeline: name.to_owned(),
        letters: letters
            .iter()
            .map(|l| v1::DeadLetterRef { partition: l.partition, offset: l.offset })
            .collect(),
        operator: filter.operator.clone().unwrap_or_default(),
        cause: filter.cause.clone().unwrap_or_default(),
        ..Default::default()
    }
}

async fn fetch(coordinator: &str, request: v1::DeadLettersRequest) -> Result<Vec<v1::DeadLetter>, Failure> {
    let mut client = Client::connect(coordinator).await?;
    let mut stream = client.records.list_dead_letters(request).await?.into_inner();
    let mut letters = Vec::new();
    while let Some(letter) = stream.message().await? {
        letters.push(letter);
    }
    letters.sort_by_key(|l| (l.partition.as_ref().map_or(-1, |p| p.index), l.offset));
    Ok(letters)
}

async fn settle(args: DlqSettleArgs, action: DeadLetterAction, what: &str) -> Result<(), Failure> {
    if args.letters.is_empty() && !args.all {
        return Err(Failure::new(
            Exit::Usage,
            "name dead letters as PARTITION:OFFSET, as `pelton dlq list` shows them, or say --all (with --operator or \
             --cause if only some are meant)",
        ));
    }
    let mut client = Client::connect(&args.client.coordinator).await?;
    let mut wanted = request(&args.name, &args.client.namespace, &args.filter, &args.letters);
    wanted.set_action(action);
    let answer = client.records.settle_dead_letters(crate::client::within(wanted, SETTLE_TIMEOUT)).await?;
    let settled = answer.into_inner().settled;
    output::done(args.client.output, serde_json::json!({ "settled": settled }), || {
        format!("{} of {} {what}", output::many(settled, "dead letter", "dead letters"), args.name)
    })
}

fn show_list(letters: &[v1::DeadLetter], format: Format) -> Result<(), Failure> {
    if matches!(format, Format::Json | Format::Yaml) {
        return output::value(&letters.iter().map(json::letter).collect::<Vec<_>>().into(), format);
    }
    let rows = letters.iter().map(|l| {
        vec![
            json::letter_id(l),
            text::time(l.timestamp_ms),
            l.source.as_ref().map_or("?".into(), |s| format!("{}[{}]@{}", s.topic, s.index, l.source_offset)),
            l.operator.clone(),
            text::cell(l.key.as_deref(), CELL),
            text::cell(Some(l.cause.as_bytes()), CELL),
        ]
    });
    output::table(&["LETTER", "TIME", "READ FROM", "OPERATOR", "KEY", "CAUSE"], rows.collect());
    Ok(())
}

fn page(letter: &v1::DeadLetter) -> String {
    let source = letter.source.as_ref();
    let mut lines = vec![
        format!("letter     {}", json::letter_id(letter)),
        format!("kept in    {}", letter.partition.as_ref().map_or("?", |p| p.topic.as_str())),
        format!(
            "read from  {}",
            source.map_or("?".into(), |s| format!("{}[{}]@{}", s.topic, s.index, letter.source_offset))
        ),
        format!("time       {}", text::time(letter.timestamp_ms)),
        format!("operator   {}", text::printable(letter.operator.as_bytes())),
        format!("cause      {}", text::printable(letter.cause.as_bytes())),
        format!("key        {}", letter.key.as_deref().map_or("null".into(), text::printable)),
    ];
    for header in &letter.headers {
        let value = header.value.as_deref().map_or("null".into(), text::printable);
        lines.push(format!("header     {}: {value}", text::printable(header.name.as_bytes())));
    }
    lines.push(format!("value      {}", letter.value.as_deref().map_or("null".into(), text::printable)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_cannot_drive_the_terminal() {
        let letter = v1::DeadLetter {
            cause: "bad \x1b[2J".into(),
            value: Some(b"\x07x".to_vec()),
            headers: vec![v1::Header { name: "a\n".into(), value: None }],
            ..Default::default()
        };
        let page = page(&letter);
        assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{page:?}");
        assert!(page.contains(r"header     a\n: null"), "{page}");
    }
}
