//! Rows of CSV, one in each value.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, WriteResult, Writer, WriterBuilder};

/// How a table is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Names of the columns in order. None: each value brings its own header row above its row.
    pub columns: Vec<String>,
    /// What separates fields.
    pub delimiter: u8,
    /// What surrounds a field that holds delimiters, quotes (doubled) or line breaks.
    pub quote: u8,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { columns: Vec::new(), delimiter: b',', quote: b'"' }
    }
}

/// These options make no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvOptionsError {
    /// A name that is given twice.
    #[error("column `{0}` is named twice")]
    Twice(String),
    /// A character that cannot separate or surround.
    #[error("`{}` cannot be the {role}: use another ASCII character than letters, digits and line breaks", char.escape_ascii())]
    Character {
        /// The character.
        char: u8,
        /// `delimiter` or `quote`.
        role: &'static str,
    },
    /// One character for both.
    #[error("delimiter and quote are the same character `{}`", .0.escape_ascii())]
    Same(u8),
    /// A sink must know the columns.
    #[error("no columns are named; a CSV encoder needs their names")]
    NoColumns,
}

/// A value is no row of its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// Other fields than columns.
    #[error("the row has {fields} fields for {} columns ({})", columns.len(), columns.join(", "))]
    Fields {
        /// Fields found.
        fields: usize,
        /// The columns.
        columns: Vec<String>,
    },
    /// More rows than one.
    #[error("the value holds more than one row; one record is one row")]
    Rows,
    /// No row.
    #[error("the value holds no row{0}")]
    NoRow(&'static str),
    /// The header row in a value names a column twice.
    #[error("the header row names `{0}` twice")]
    Twice(String),
}

/// Reads rows; one for each thread.
#[derive(Clone, Debug)]
pub struct Csv {
    reader: Reader,
    columns: Vec<String>,
    /// Columns come with each value.
    headed: bool,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvOptions {
    fn check(&self) -> Result<(), CsvOptionsError> {
        for (char, role) in [(self.delimiter, "delimiter"), (self.quote, "quote")] {
            if char.is_ascii_alphanumeric() || !char.is_ascii() || matches!(char, b'\n' | b'\r' | 0) {
                return Err(CsvOptionsError::Character { char, role });
            }
        }
        if self.delimiter == self.quote {
            return Err(CsvOptionsError::Same(self.quote));
        }
        twice(&self.columns).map_or(Ok(()), |name| Err(CsvOptionsError::Twice(name.to_owned())))
    }
}

fn twice(names: &[String]) -> Option<&str> {
    names.iter().enumerate().find(|(n, name)| names[..*n].contains(name)).map(|(_, name)| name.as_str())
}

impl Csv {
    /// A reader of a table.
    ///
    /// # Errors
    /// The options contradict themselves.
    pub fn new(options: CsvOptions) -> Result<Self, CsvOptionsError> {
        options.check()?;
        let reader = ReaderBuilder::new().delimiter(options.delimiter).quote(options.quote).build();
        let headed = options.columns.is_empty();
        Ok(Self { reader, columns: options.columns, headed, text: vec![0; 256], ends: vec![0; 16] })
    }

    /// Names and texts of the value's row; `None` when the row is the header of the table.
    pub(crate) fn read(
        &mut self,
        value: &[u8],
    ) -> Result<Option<impl Iterator<Item = (&str, &str)>>, CsvError> {
        self.reader.reset();
        let mut rest = value;
        if self.headed {
            let header = self.row(&mut rest).ok_or(CsvError::NoRow(""))?;
            self.columns = (0..header).map(|n| self.field(n).to_owned()).collect();
            if let Some(name) = twice(&self.columns) {
                return Err(CsvError::Twice(name.to_owned()));
            }
        }
        let below = if self.headed { " below its header" } else { "" };
        let fields = self.row(&mut rest).ok_or(CsvError::NoRow(below))?;
        // A look at what follows would overwrite the row: only line breaks may.
        if !rest.iter().all(|c| matches!(c, b'\n' | b'\r')) {
            return Err(CsvError::Rows);
        }
        if fields != self.columns.len() {
            return Err(CsvError::Fields { fields, columns: self.columns.clone() });
        }
        let this = &*self;
        if !this.headed && (0..fields).all(|n| this.field(n) == this.columns[n]) {
            return Ok(None);
        }
        Ok(Some((0..fields).map(|n| (this.columns[n].as_str(), this.field(n)))))
    }

    /// Read one row of `rest`; how many fields it has. `None`: there is no row.
    fn row(&mut self, rest: &mut &[u8]) -> Option<usize> {
        let (mut written, mut fields) = (0, 0);
        loop {
            let (result, read, out, ends) =
                self.reader.read_record(rest, &mut self.text[written..], &mut self.ends[fields..]);
            *rest = &rest[read..];
            written += out;
            fields += ends;
            match result {
                // Input is empty from here on, which says that it ends.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => return Some(fields),
                ReadRecordResult::End => return None,
            }
        }
    }

    fn field(&self, n: usize) -> &str {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        // Cut at ASCII characters out of checked text.
        std::str::from_utf8(&self.text[start..self.ends[n]]).unwrap_or_default()
    }
}

/// Writes rows.
#[derive(Clone, Debug)]
pub struct CsvWriter {
    writer: Writer,
    pub(crate) columns: Vec<String>,
}

impl CsvWriter {
    /// A writer of a table with these columns.
    ///
    /// # Errors
    /// The options contradict themselves, or name no columns.
    pub fn new(options: CsvOptions) -> Result<Self, CsvOptionsError> {
        options.check()?;
        if options.columns.is_empty() {
            return Err(CsvOptionsError::NoColumns);
        }
        let writer = WriterBuilder::new().delimiter(options.delimiter).quote(options.quote).build();
        Ok(Self { writer, columns: options.columns })
    }

    /// Append a row without a line break.
    pub(crate) fn write<T: AsRef<[u8]>>(&self, out: &mut Vec<u8>, fields: impl IntoIterator<Item = T>) {
        let mut writer = self.writer.clone();
        for (n, field) in fields.into_iter().enumerate() {
            let mut rest = field.as_ref();
            if n > 0 {
                grow(out, |to| {
                    let (result, written) = writer.delimiter(to);
                    (result, written)
                });
            }
            grow(out, |to| {
                let (result, read, written) = writer.field(rest, to);
                rest = &rest[read..];
                (result, written)
            });
        }
        grow(out, |to| writer.finish(to));
    }

    /// Append the header row without a line break.
    pub fn write_header(&self, out: &mut Vec<u8>) {
        self.write(out, &self.columns);
    }
}

/// Give a step room until it has enough.
fn grow(out: &mut Vec<u8>, mut step: impl FnMut(&mut [u8]) -> (WriteResult, usize)) {
    loop {
        let start = out.len();
        out.resize(start + 64, 0);
        let (result, written) = step(&mut out[start..]);
        out.truncate(start + written);
        if result == WriteResult::InputEmpty {
            return;
        }
    }
}
