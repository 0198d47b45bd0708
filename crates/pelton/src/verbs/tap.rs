//! `pelton tap`

use super::text::printable;
use crate::{
    cli::{Format, TapArgs},
    client::Client,
    exit::Failure,
    output, signals,
};
use pelton_proto::{json, v1};

/// `pelton tap`
pub async fn tap(args: TapArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client.coordinator).await?;
    let request = v1::TapRequest {
        namespace: args.client.namespace.clone(),
        pipeline: args.name.clone(),
        at: args.at.clone(),
        limit: args.limit,
    };
    let mut records = client.records.tap(request).await?.into_inner();
    let shutdown = signals::shutdown()?;
    let stop = signals::requested(shutdown);
    tokio::pin!(stop);
    let mut seen = 0;
    while args.limit == 0 || seen < args.limit {
        let record = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            record = records.message() => record?,
        };
        let Some(record) = record else { return Ok(()) };
        seen += 1;
        output::print(&line(&record, args.client.output));
    }
    Ok(())
}

fn line(record: &v1::TappedRecord, format: Format) -> String {
    if matches!(format, Format::Json | Format::Yaml) {
        return json::tapped(record).to_string();
    }
    let partition = record.partition.clone().unwrap_or_default();
    let shown = |bytes: &Option<Vec<u8>>| {
        // Control characters of a record must not drive the terminal.
        bytes.as_deref().map_or("null".into(), printable)
    };
    format!(
        "{} {}[{}]@{} {} {}",
        record.at,
        partition.topic,
        partition.index,
        record.offset,
        shown(&record.key),
        shown(&record.value)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cannot_drive_the_terminal() {
        let record =
            v1::TappedRecord { at: "sink".into(), value: Some(b"a\x1b[2Jb".to_vec()), ..Default::default() };
        assert_eq!(line(&record, Format::Table), "sink [0]@0 null a\\u{1b}[2Jb");
    }
}
