//! What tensors look like from outside: descriptions, and rows of numbers.

use std::fmt;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 32-bit integer; a runtime may read 64-bit integers as these.
    I32,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::I8 => "i8",
            Self::U8 => "u8",
        })
    }
}

/// One dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A size that the model fixes.
    Fixed(usize),
    /// A size chosen at each run, by its name in the model.
    Symbolic(String),
}

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its elements, when the model says.
    pub element: Option<ElementType>,
    /// Its dimensions, outermost first, when the model says.
    pub dims: Option<Vec<Dim>>,
}

/// `x f32[batch, 64]`, the way shapes are written in messages.
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name)?;
        match self.element {
            Some(element) => write!(f, "{element}")?,
            None => f.write_str("?")?,
        }
        let Some(dims) = &self.dims else { return f.write_str("[?]") };
        f.write_str("[")?;
        for (i, dim) in dims.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match dim {
                Dim::Fixed(n) => write!(f, "{n}")?,
                Dim::Symbolic(name) => f.write_str(name)?,
            }
        }
        f.write_str("]")
    }
}

/// Rows of equal width, one after the other: what goes into a model and what comes out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    width: usize,
    values: Vec<f32>,
}

impl Rows {
    /// No rows yet. A width of 0 is taken as 1: a row without numbers could not be counted.
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1), values: Vec::new() }
    }

    /// Rows from their numbers; a part of a row at the end is dropped.
    pub fn from_values(width: usize, mut values: Vec<f32>) -> Self {
        let width = width.max(1);
        values.truncate(values.len() / width * width);
        Self { width, values }
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A row.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        let start = index.checked_mul(self.width)?;
        self.values.get(start..start + self.width)
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A row more, written by a closure that appends exactly [`Rows::width`] numbers. Anything else (an error too)
    /// leaves the rows as they were; the count of numbers written comes back.
    pub fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<f32>) -> Result<(), E>) -> Result<usize, E> {
        let start = self.values.len();
        let wrote = write(&mut self.values);
        let count = self.values.len().saturating_sub(start);
        if wrote.is_err() || count != self.width {
            self.values.truncate(start);
        }
        wrote.map(|()| count)
    }

    /// Keep the first so many rows, and no part of a row behind them.
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows.saturating_mul(self.width));
    }

    /// Rows `from..to` as rows of their own.
    pub fn slice(&self, from: usize, to: usize) -> Rows {
        let to = to.min(self.len());
        let from = from.min(to);
        Rows { width: self.width, values: self.values[from * self.width..to * self.width].to_vec() }
    }

    /// Append rows of the same width; of another width, nothing happens and `false` comes back.
    pub fn append(&mut self, other: &Rows) -> bool {
        let fits = self.width == other.width;
        if fits {
            self.values.extend_from_slice(&other.values);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_wrong_width_leaves_nothing_behind() {
        let mut rows = Rows::new(2);
        let wrote = rows.push_with(|out| {
            out.extend([1.0, 2.0, 3.0]);
            Ok::<_, ()>(())
        });
        assert_eq!(wrote, Ok(3));
        assert_eq!(rows.len(), 0);
        assert_eq!(rows.push_with(|_| Err("no")), Err("no"));
        rows.push_with(|out| {
            out.extend([4.0, 5.0]);
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!((rows.len(), rows.row(0), rows.row(1)), (1, Some(&[4.0, 5.0][..]), None));
    }

    #[test]
    fn slices_stay_within_the_rows() {
        let rows = Rows::from_values(2, vec![1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(rows.slice(1, 9).values(), [3.0, 4.0]);
        assert!(rows.slice(7, 9).is_empty());
    }

    #[test]
    fn a_shape_reads_like_a_shape() {
        let dims = Some(vec![Dim::Symbolic("batch".into()), Dim::Fixed(64)]);
        let info = TensorInfo { name: "x".into(), element: Some(ElementType::F32), dims };
        assert_eq!(info.to_string(), "x f32[batch, 64]");
        assert_eq!(TensorInfo { name: "y".into(), element: None, dims: None }.to_string(), "y ?[?]");
    }
}
