//! What an inference engine must do.

use crate::{
    error::ModelError,
    tensor::{Dim, ElementType, Rows, TensorInfo},
};

/// Turns bytes into models. One value serves a whole process.
pub trait Runtime: Send + Sync {
    /// Its name, such as `rten`.
    fn name(&self) -> &'static str;
    /// Parse and prepare a model. Malformed bytes are an error, never a panic.
    fn load(&self, bytes: Vec<u8>) -> Result<Box<dyn Model>, ModelError>;
}

/// A loaded model. It computes on the calling thread (or waits there for its own single helper), so whoever calls
/// `run` decides which core it uses.
pub trait Model: Send {
    /// Its inputs, in the order the model lists them.
    fn inputs(&self) -> &[TensorInfo];
    /// Its outputs, in the order the model lists them.
    fn outputs(&self) -> &[TensorInfo];
    /// One result row for each row given.
    fn run(&mut self, input: &Port, output: &Port, rows: &Rows) -> Result<Rows, ModelError>;
}

/// A tensor that rows fit: its first dimension is the batch, the others are fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Place among the model's inputs or outputs.
    pub index: usize,
    /// The tensor's name.
    pub name: String,
    /// Dimensions of one row.
    pub dims: Vec<usize>,
    /// Rows that one run takes: `None` any number, `Some(n)` exactly that many.
    pub batch: Option<usize>,
}

impl Port {
    /// The input that rows go into: the one of this name, or the only one there is.
    pub fn input(model: &dyn Model, name: Option<&str>) -> Result<Self, ModelError> {
        let inputs = model.inputs();
        // Nothing would feed the others, whichever is meant.
        if inputs.len() > 1 {
            let given = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(shape("inputs", "a model with one input", format!("{}: {given}", inputs.len())));
        }
        Self::find(inputs, "input", name)
    }

    /// The output that rows come from: the one of this name, or the first. Its rows must be plain vectors.
    pub fn output(model: &dyn Model, name: Option<&str>) -> Result<Self, ModelError> {
        let port = Self::find(model.outputs(), "output", name)?;
        if port.dims.len() != 1 {
            let info = &model.outputs()[port.index];
            return Err(shape(&port.name, "[batch, n], one vector of scores for each row", info.to_string()));
        }
        Ok(port)
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.dims.iter().product()
    }

    fn find(tensors: &[TensorInfo], kind: &'static str, name: Option<&str>) -> Result<Self, ModelError> {
        let index = match name {
            None if tensors.is_empty() => return Err(shape(kind, "at least one tensor", "none".into())),
            None => 0,
            Some(name) => {
                tensors.iter().position(|t| t.name == name).ok_or_else(|| ModelError::UnknownTensor {
                    kind,
                    name: name.to_owned(),
                    has: tensors.iter().map(|t| t.name.clone()).collect(),
                })?
            }
        };
        Self::from_info(index, &tensors[index])
    }

    fn from_info(index: usize, info: &TensorInfo) -> Result<Self, ModelError> {
        if info.element.is_some_and(|e| e != ElementType::F32) {
            return Err(shape(&info.name, "f32 elements", info.to_string()));
        }
        let Some((batch, row)) = info.dims.as_deref().and_then(<[Dim]>::split_first) else {
            return Err(shape(&info.name, "a batch dimension, then the row's", info.to_string()));
        };
        let batch = match batch {
            Dim::Symbolic(_) => None,
            Dim::Fixed(n @ 1..) => Some(*n),
            Dim::Fixed(_) => return Err(shape(&info.name, "a batch of at least one row", info.to_string())),
        };
        let mut dims = Vec::with_capacity(row.len());
        for dim in row {
            match dim {
                Dim::Fixed(n @ 1..) => dims.push(*n),
                _ => return Err(shape(&info.name, "fixed dimensions behind the batch", info.to_string())),
            }
        }
        if dims.is_empty() {
            return Err(shape(&info.name, "at least two dimensions, [batch, n]", info.to_string()));
        }
        // A width beyond this is no row of a record but a mistake in the file, and would overflow what follows.
        const WIDEST: usize = 1 << 28;
        match dims.iter().try_fold(1usize, |all, n| all.checked_mul(*n)) {
            Some(width) if width <= WIDEST => Ok(Self { index, name: info.name.clone(), dims, batch }),
            _ => Err(shape(&info.name, &format!("at most {WIDEST} numbers in a row"), info.to_string())),
        }
    }
}

fn shape(tensor: &str, expected: &str, given: String) -> ModelError {
    ModelError::Shape { tensor: tensor.into(), expected: expected.into(), given }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(dims: Vec<Dim>) -> TensorInfo {
        TensorInfo { name: "x".into(), element: Some(ElementType::F32), dims: Some(dims) }
    }

    fn batch() -> Dim {
        Dim::Symbolic("batch".into())
    }

    #[test]
    fn an_image_tensor_is_rows_of_its_product() {
        let port =
            Port::from_info(0, &info(vec![batch(), Dim::Fixed(3), Dim::Fixed(2), Dim::Fixed(2)])).unwrap();
        assert_eq!((port.width(), port.batch), (12, None));
    }

    #[test]
    fn shapes_that_rows_do_not_fit_are_named() {
        let cases = [
            (vec![], "tensor `x`: expected a batch dimension, then the row's, given x f32[]"),
            (
                vec![Dim::Fixed(64)],
                "tensor `x`: expected at least two dimensions, [batch, n], given x f32[64]",
            ),
            (
                vec![batch(), Dim::Symbolic("width".into())],
                "tensor `x`: expected fixed dimensions behind the batch, given x f32[batch, width]",
            ),
            (
                vec![batch(), Dim::Fixed(usize::MAX), Dim::Fixed(3)],
                "tensor `x`: expected at most 268435456 numbers in a row, given x f32[batch, 18446744073709551615, 3]",
            ),
        ];
        for (dims, message) in cases {
            assert_eq!(Port::from_info(0, &info(dims)).unwrap_err().to_string(), message);
        }
        let mut bytes = info(vec![batch(), Dim::Fixed(4)]);
        bytes.element = Some(ElementType::U8);
        assert_eq!(
            Port::from_info(0, &bytes).unwrap_err().to_string(),
            "tensor `x`: expected f32 elements, given x u8[batch, 4]"
        );
    }
}
