//! What is written of a model's numbers.

use crate::options::{Output, Plan};
use pelton_sdk::member::set_members;
use pelton_types::{
    Batch,
    schema::{Field, FieldKind, RecordSchema},
};
use std::{borrow::Cow, fmt::Write as _};

/// Members to set and their values as JSON, kept from record to record for their capacity.
#[derive(Default)]
pub(crate) struct Members<'o> {
    text: String,
    /// Each name, and where its value ends in the text.
    ends: Vec<(&'o str, usize)>,
}

impl<'o> Members<'o> {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// One more, whose value a closure appends.
    fn add(&mut self, name: &'o str, write: impl FnOnce(&mut String)) {
        write(&mut self.text);
        self.ends.push((name, self.text.len()));
    }

    fn pairs(&self) -> Vec<(&'o str, &str)> {
        let mut start = 0;
        let pair = |(name, end): &(&'o str, usize)| {
            let value = &self.text[start..*end];
            start = *end;
            (*name, value)
        };
        self.ends.iter().map(pair).collect()
    }
}

/// Write the results of all outputs into a record. `row`: the outputs' numbers one after the other.
pub(crate) fn write<'o>(
    plan: &'o Plan,
    batch: &mut Batch,
    index: usize,
    row: &[f32],
    text: &mut Members<'o>,
) -> Result<(), String> {
    text.clear();
    let mut rest = row;
    for output in &plan.outputs {
        let (own, behind) = rest.split_at_checked(output.width).ok_or("the model gave too few numbers")?;
        rest = behind;
        describe(output, own, text);
    }
    let (members, from) = (text.pairs(), batch.records[index].value);
    batch.records[index].value = batch.rewrite(from, |old, out| {
        let old = if plan.replace { b"{}" } else { old };
        set_members(old, &members, out)
    })?;
    Ok(())
}

/// What is known of the records that are written, given what is known of those that are read.
pub(crate) fn shape(plan: &Plan, input: Option<&RecordSchema>) -> RecordSchema {
    let before = match input {
        _ if plan.replace => RecordSchema::default(),
        None => RecordSchema::of_unknown(),
        Some(known) => known.clone(),
    };
    plan.outputs.iter().fold(before, |made, output| {
        let label = if output.named { FieldKind::String } else { FieldKind::Integer };
        let best = RecordSchema::default()
            .with(&["label"], Field::required(label.clone()))
            .with(&["score"], Field::required(FieldKind::Float));
        let list = |of: FieldKind| FieldKind::Array(Box::new(Field::required(of)));
        let written = [
            (&output.label, label),
            (&output.score, FieldKind::Float),
            (&output.scores, list(FieldKind::Float)),
            (&output.top, list(FieldKind::Object(best))),
        ];
        let set = |made: RecordSchema, (name, kind): (&Option<String>, FieldKind)| match name {
            Some(name) => made.with(&[name.as_str()], Field::required(kind)),
            None => made,
        };
        written.into_iter().fold(made, set)
    })
}

/// The members that one output asks for, as JSON.
fn describe<'o>(output: &'o Output, raw: &[f32], text: &mut Members<'o>) {
    let scores: Cow<'_, [f32]> = if output.softmax { softmax(raw).into() } else { raw.into() };
    let label = |class: usize| output.labels.get(class).map_or("null", String::as_str);
    let best = best(&scores);
    if let Some(name) = &output.label {
        text.add(name, |out| out.push_str(label(best)));
    }
    if let Some(name) = &output.score {
        text.add(name, |out| number(out, scores.get(best).copied().unwrap_or_default()));
    }
    if let Some(name) = &output.scores {
        text.add(name, |out| list(out, scores.iter(), |out, score| number(out, *score)));
    }
    if let Some(name) = &output.top {
        let entry = |out: &mut String, class: usize| {
            out.push_str(r#"{"label":"#);
            out.push_str(label(class));
            out.push_str(r#","score":"#);
            number(out, scores[class]);
            out.push('}');
        };
        text.add(name, |out| list(out, top(&scores, output.k).into_iter(), entry));
    }
}

/// A JSON array.
fn list<T>(out: &mut String, items: impl Iterator<Item = T>, write: impl Fn(&mut String, T)) {
    out.push('[');
    for (place, item) in items.enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// The highest score's place; the first of equals.
fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best
}

/// The places of the `k` highest scores, highest first; of equals the first.
fn top(scores: &[f32], k: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if k < places.len() {
        places.select_nth_unstable_by(k, order);
        places.truncate(k);
    }
    places.sort_unstable_by(order);
    places
}

/// Scores as shares of one. The highest is taken off first, so that nothing overflows.
fn softmax(scores: &[f32]) -> Vec<f32> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|s| (s - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// The shortest decimal that reads back as the same 32-bit number, with a point so that it stays a float.
fn number(out: &mut String, value: f32) {
    // Into a string nothing can fail.
    let written = write!(out, "{value:?}");
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(best(&[0.1, 0.4, 0.4]), 1);
        assert_eq!(best(&[-2.0]), 0);
        assert_eq!(top(&[0.1, 0.4, 0.4, 0.2], 3), [1, 2, 3]);
        assert_eq!(top(&[0.1, 0.4], 9), [1, 0]);
    }

    #[test]
    fn softmax_gives_shares_whatever_the_size_of_the_scores() {
        let shares = softmax(&[1000.0, 1000.0 + std::f32::consts::LN_2, -1000.0]);
        for (share, expected) in shares.iter().zip([1.0 / 3.0, 2.0 / 3.0, 0.0]) {
            assert!((share - expected).abs() < 1e-4, "{shares:?}");
        }
    }

    #[test]
    fn numbers_are_short_and_valid_json() {
        for value in [0.1f32, 1.0, 1e-9, 3.4e38, -0.25] {
            let mut text = String::new();
            number(&mut text, value);
            let read: f64 = serde_json::from_str(&text).unwrap();
            assert_eq!(read as f32, value, "{text}");
        }
        let mut text = String::new();
        number(&mut text, 0.1);
        number(&mut text, 1.0);
        assert_eq!(text, "0.11.0");
    }
}
