//! Rows in the batches that a model takes, whatever runs it.

use crate::{
    error::ModelError,
    model::{Port, Signature},
    tensor::Rows,
};

/// One result row for each row. `run` is given the numbers of so many rows, and gives the numbers of each output of the
/// signature for them.
///
/// # Errors
/// Rows of another width than the signature's, and what `run` says.
pub(crate) fn run_all(
    signature: &Signature,
    rows: &Rows,
    mut run: impl FnMut(&[f32], usize) -> Result<Vec<Vec<f32>>, ModelError>,
) -> Result<Rows, ModelError> {
    let width = signature.input_width();
    if rows.width() != width {
        let names: Vec<_> = signature.inputs.iter().map(|port| port.name.as_str()).collect();
        return Err(ModelError::Shape {
            tensor: names.join("`, `"),
            expected: format!("{width} numbers in a row"),
            given: rows.width().to_string(),
        });
    }
    let mut out = Vec::with_capacity(rows.len() * signature.output_width());
    match signature.batch() {
        None if rows.is_empty() => {}
        None => join(signature, run(rows.values(), rows.len())?, rows.len(), &mut out),
        // A model exported for a fixed batch: fill up the last run with zeros and drop what comes of them.
        Some(batch) => {
            for chunk in rows.values().chunks(batch * width) {
                let mut padded = chunk.to_vec();
                padded.resize(batch * width, 0.0);
                join(signature, run(&padded, batch)?, batch, &mut out);
            }
        }
    }
    Ok(Rows::from_values(signature.output_width(), out).slice(0, rows.len()))
}

/// Appends what the outputs gave for so many rows, row by row.
fn join(signature: &Signature, columns: Vec<Vec<f32>>, count: usize, out: &mut Vec<f32>) {
    if let [only] = &columns[..] {
        out.extend_from_slice(only);
        return;
    }
    for row in 0..count {
        for (port, column) in signature.outputs.iter().zip(&columns) {
            out.extend_from_slice(&column[row * port.width()..(row + 1) * port.width()]);
        }
    }
}

/// The numbers of one input: those of each row from `from` on, rows being `row` wide.
pub(crate) fn column<'r>(
    port: &Port,
    rows: &'r [f32],
    row: usize,
    from: usize,
) -> impl Iterator<Item = f32> + use<'r> {
    let width = port.width();
    rows.chunks_exact(row).flat_map(move |row| row[from..from + width].iter().copied())
}

/// The dimensions of a tensor of so many rows.
pub(crate) fn shape(port: &Port, count: usize) -> Vec<usize> {
    std::iter::once(count).chain(port.dims.iter().copied()).collect()
}

/// A tensor of so many rows that came out in another shape or type than the model had said.
pub(crate) fn wrong(output: &Port, count: usize, given: &str) -> ModelError {
    let expected = format!("{:?}", shape(output, count));
    ModelError::Shape { tensor: output.name.clone(), expected, given: given.to_owned() }
}
