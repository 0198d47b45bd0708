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
    /// One result row for each row given: the inputs' numbers one after the other, then the outputs'.
    fn run(&mut self, signature: &Signature, rows: &Rows) -> Result<Rows, ModelError>;
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
    /// Its elements. Rows are 32-bit floats: whole numbers up to 16,777,216 are exact.
    pub element: ElementType,
}

/// Which tensors rows go into and come out of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// A row is the numbers of these, one after the other.
    pub inputs: Vec<Port>,
    /// A result row is the numbers of these, one after the other.
    pub outputs: Vec<Port>,
}

impl Signature {
    /// Check that every input of the model is fed, each once, and that all agree on the batch.
    pub fn new(model: &dyn Model, inputs: Vec<Port>, outputs: Vec<Port>) -> Result<Self, ModelError> {
        for (index, info) in model.inputs().iter().enumerate() {
            let times = inputs.iter().filter(|port| port.index == index).count();
            if times != 1 {
                return Err(shape(&info.name, "to be given once", format!("{times} times")));
            }
        }
        let signature = Self { inputs, outputs };
        let fixed: Vec<(&Port, usize)> =
            signature.ports().filter_map(|port| Some((port, port.batch?))).collect();
        if let [(_, batch), rest @ ..] = &fixed[..]
            && let Some((port, other)) = rest.iter().find(|(_, other)| other != batch)
        {
            return Err(shape(&port.name, &format!("a batch of {batch} as the others"), other.to_string()));
        }
        Ok(signature)
    }

    fn ports(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().chain(&self.outputs)
    }

    /// Rows that one run takes: `None` any number, `Some(n)` exactly that many.
    pub fn batch(&self) -> Option<usize> {
        self.ports().find_map(|port| port.batch)
    }

    /// Numbers in a row that goes in.
    pub fn input_width(&self) -> usize {
        self.inputs.iter().map(Port::width).sum()
    }

    /// Numbers in a row that comes out.
    pub fn output_width(&self) -> usize {
        self.outputs.iter().map(Port::width).sum()
    }
}

impl Port {
    /// An input that rows go into: the one of this name, or the only one there is. `shape`: the dimensions of one row,
    /// for those that the model leaves open.
    pub fn input(model: &dyn Model, name: Option<&str>, shape: Option<&[usize]>) -> Result<Self, ModelError> {
        let inputs = model.inputs();
        if name.is_none() && inputs.len() > 1 {
            let given = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(ModelError::Shape {
                tensor: "inputs".into(),
                expected: "the name of each".into(),
                given: format!("none, and there are {}: {given}", inputs.len()),
            });
        }
        Self::find(inputs, "input", name, shape)
    }

    /// An output that rows come from: the one of this name, or the first.
    pub fn output(
        model: &dyn Model,
        name: Option<&str>,
        shape: Option<&[usize]>,
    ) -> Result<Self, ModelError> {
        Self::find(model.outputs(), "output", name, shape)
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.dims.iter().product()
    }

    fn find(
        tensors: &[TensorInfo],
        kind: &'static str,
        name: Option<&str>,
        wanted: Option<&[usize]>,
    ) -> Result<Self, ModelError> {
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
        Self::from_info(index, &tensors[index], wanted)
    }

    fn from_info(index: usize, info: &TensorInfo, wanted: Option<&[usize]>) -> Result<Self, ModelError> {
        if let Some(wanted) = wanted
            && info.dims.as_ref().is_some_and(|dims| dims.len() != wanted.len() + 1)
        {
            return Err(shape(
                &info.name,
                "a shape of one row, without the batch",
                format!("{wanted:?}, it is {info}"),
            ));
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
        for (place, dim) in row.iter().enumerate() {
            match (dim, wanted.map(|wanted| wanted[place])) {
                (Dim::Fixed(n @ 1..), None) => dims.push(*n),
                (Dim::Fixed(n @ 1..), Some(wanted)) if *n == wanted => dims.push(*n),
                (Dim::Symbolic(_), Some(wanted @ 1..)) => dims.push(wanted),
                (_, Some(_)) => {
                    let given = format!("shape {:?}", wanted.unwrap_or_default());
                    return Err(shape(&info.name, &format!("what fits {info}"), given));
                }
                _ => {
                    return Err(shape(
                        &info.name,
                        "fixed dimensions behind the batch, or `shape`",
                        info.to_string(),
                    ));
                }
            }
        }
        if dims.is_empty() {
            return Err(shape(&info.name, "at least two dimensions, [batch, n]", info.to_string()));
        }
        // A width beyond this is no row of a record but a mistake in the file, and would overflow what follows.
        const WIDEST: usize = 1 << 28;
        match dims.iter().try_fold(1usize, |all, n| all.checked_mul(*n)) {
            Some(width) if width <= WIDEST => {
                let element = info.element.unwrap_or(ElementType::F32);
                Ok(Self { index, name: info.name.clone(), dims, batch, element })
            }
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
            Port::from_info(0, &info(vec![batch(), Dim::Fixed(3), Dim::Fixed(2), Dim::Fixed(2)]), None)
                .unwrap();
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
                "tensor `x`: expected fixed dimensions behind the batch, or `shape`, given x f32[batch, width]",
            ),
            (
                vec![batch(), Dim::Fixed(usize::MAX), Dim::Fixed(3)],
                "tensor `x`: expected at most 268435456 numbers in a row, given x f32[batch, 18446744073709551615, 3]",
            ),
        ];
        for (dims, message) in cases {
            assert_eq!(Port::from_info(0, &info(dims), None).unwrap_err().to_string(), message);
        }
        let open = info(vec![batch(), Dim::Fixed(3), Dim::Symbolic("width".into())]);
        assert_eq!(Port::from_info(0, &open, Some(&[3, 5])).unwrap().dims, [3, 5]);
        for (wanted, message) in [
            (&[4, 5][..], "tensor `x`: expected what fits x f32[batch, 3, width], given shape [4, 5]"),
            (
                &[15],
                "tensor `x`: expected a shape of one row, without the batch, given [15], it is x f32[batch, 3, width]",
            ),
        ] {
            assert_eq!(Port::from_info(0, &open, Some(wanted)).unwrap_err().to_string(), message);
        }
    }
}
