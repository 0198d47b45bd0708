//! What is written of a model's numbers.

use crate::options::Output;
use pelton_sdk::member::set_members;
use pelton_types::Batch;
use std::borrow::Cow;

/// Write the results of all outputs into a record. `row`: the outputs' numbers one after the other.
pub(crate) fn write(outputs: &[Output], batch: &mut Batch, index: usize, row: &[f32]) -> Result<(), String> {
    let mut text: Vec<(&str, String)> = Vec::with_capacity(4);
    let mut rest = row;
    for output in outputs {
        let (own, behind) = rest.split_at_checked(output.width).ok_or("the model gave too few numbers")?;
        rest = behind;
        describe(output, own, &mut text);
    }
    let members: Vec<(&str, &str)> = text.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let from = batch.records[index].value;
    batch.records[index].value = batch.rewrite(from, |old, out| set_members(old, &members, out))?;
    Ok(())
}

/// The members that one output asks for, as JSON.
fn describe<'o>(output: &'o Output, raw: &[f32], text: &mut Vec<(&'o str, String)>) {
    let scores: Cow<'_, [f32]> = if output.softmax { softmax(raw).into() } else { raw.into() };
    let label = |class: usize| output.labels.get(class).cloned().unwrap_or_default();
    let best = best(&scores);
    if let Some(name) = &output.label {
        text.push((name, label(best)));
    }
    if let Some(name) = &output.score {
        text.push((name, number(scores.get(best).copied().unwrap_or_default())));
    }
    if let Some(name) = &output.scores {
        let all: Vec<String> = scores.iter().map(|s| number(*s)).collect();
        text.push((name, format!("[{}]", all.join(","))));
    }
    if let Some(name) = &output.top {
        let entry =
            |class: usize| format!(r#"{{"label":{},"score":{}}}"#, label(class), number(scores[class]));
        let entries: Vec<String> = top(&scores, output.k).into_iter().map(entry).collect();
        text.push((name, format!("[{}]", entries.join(","))));
    }
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
fn number(value: f32) -> String {
    format!("{value:?}")
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
            let text = number(value);
            let read: f64 = serde_json::from_str(&text).unwrap();
            assert_eq!(read as f32, value, "{text}");
        }
        assert_eq!((number(0.1), number(1.0)), ("0.1".into(), "1.0".into()));
    }
}
