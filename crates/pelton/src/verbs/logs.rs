//! `pelton logs`

use super::text::printable;
use crate::{
    cli::{Format, LogsArgs},
    client::Client,
    exit::Failure,
    output, signals,
};
use pelton_proto::v1;
use serde_json::{Map, Value};

/// Fields that stand in front of a line for people.
const FRONT: [&str; 5] = ["ts", "level", "msg", "target", "message"];

/// `pelton logs`
pub async fn logs(args: LogsArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client.coordinator).await?;
    let request = v1::LogsRequest {
        namespace: args.client.namespace.clone(),
        pipeline: args.name.clone(),
        tail: args.tail,
        follow: args.follow,
        worker_id: args.worker.clone().unwrap_or_default(),
    };
    let mut lines = client.records.logs(request).await?.into_inner();
    let stop = signals::requested(signals::shutdown()?);
    tokio::pin!(stop);
    let mut kept = Vec::new();
    loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            line = lines.message() => line?,
        };
        match line {
            Some(line) if args.follow => output::print(&shown(&line, args.client.output)),
            Some(line) => kept.push(line),
            None => break,
        }
    }
    // Lines of several workers, in order of their time.
    kept.sort_by_cached_key(|line| {
        let fields: Map<String, Value> = serde_json::from_str(&line.json).unwrap_or_default();
        fields.get("ts").and_then(Value::as_str).unwrap_or_default().to_owned()
    });
    kept.iter().for_each(|line| output::print(&shown(line, args.client.output)));
    Ok(())
}

fn shown(line: &v1::LogLine, format: Format) -> String {
    let mut fields: Map<String, Value> = serde_json::from_str(&line.json).unwrap_or_default();
    if matches!(format, Format::Json | Format::Yaml) {
        fields.insert("worker".into(), line.worker_id.clone().into());
        return Value::Object(fields).to_string();
    }
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    let rest: Vec<String> = fields
        .iter()
        .filter(|(name, _)| !FRONT.contains(&name.as_str()))
        .map(|(name, value)| match value {
            Value::String(value) => format!("{name}={}", printable(value.as_bytes())),
            other => format!("{name}={other}"),
        })
        .collect();
    let front = format!(
        "{} {:5} {} {}",
        text("ts"),
        text("level").to_uppercase(),
        line.worker_id,
        printable(text("msg").as_bytes())
    );
    if rest.is_empty() { front } else { format!("{front} ({})", rest.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_has_its_fields_behind_the_message() {
        let json = r#"{"ts":"2026-01-01T00:00:00Z","level":"warn","msg":"late\u001b","target":"t","epoch":3,"task":"default/p[0.g1.t0]"}"#;
        let line = v1::LogLine { worker_id: "w1".into(), json: json.into() };
        assert_eq!(
            shown(&line, Format::Table),
            r"2026-01-01T00:00:00Z WARN  w1 late\u{1b} (epoch=3 task=default/p[0.g1.t0])"
        );
        assert!(shown(&line, Format::Json).contains(r#""worker":"w1""#));
    }
}
