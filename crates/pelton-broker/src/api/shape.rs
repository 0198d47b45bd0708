//! Walks over the bytes of a request before the decoder sees them.
//!
//! The decoder of the protocol crate reserves room for as many elements as an array claims to have. Ten bytes
//! from anybody could so ask for terabytes. This walk follows the same layout, reserves nothing, and accepts
//! a length only if the bytes are there.

use kafka_protocol::messages::ApiKey;

/// More array elements than this in one request are refused: each costs up to a few hundred bytes once decoded.
const MAX_ELEMENTS: usize = 500_000;

/// Why a request does not have its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShapeError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a length is negative or does not fit")]
    Length,
    #[error("more than {MAX_ELEMENTS} array elements")]
    TooMany,
}

/// One field: its kind, and the versions that have it.
#[derive(Debug, Clone, Copy)]
struct Field(Kind, i16, i16);

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// This many bytes.
    Fixed(usize),
    /// Two bytes of length, or a varint one.
    Text,
    /// Four bytes of length, or a varint one.
    Blob,
    /// Elements with these fields.
    Array(&'static [Field]),
    /// Elements that are one `Fixed(4)`; no tagged fields after each.
    Ints,
    /// Elements that are one `Fixed(8)`.
    Longs,
    /// Elements that are one `Text`.
    Texts,
}

use Kind::{Array, Blob, Fixed, Ints, Longs, Text, Texts};

const ANY: i16 = i16::MAX;
const I8: Field = Field(Fixed(1), 0, ANY);
const I16: Field = Field(Fixed(2), 0, ANY);
const I32: Field = Field(Fixed(4), 0, ANY);
const I64: Field = Field(Fixed(8), 0, ANY);
const STR: Field = Field(Text, 0, ANY);
const INTS: Field = Field(Ints, 0, ANY);

const fn since(kind: Kind, version: i16) -> Field {
    Field(kind, version, ANY)
}
/// A macro and not a function, so that the nested tables are constants.
macro_rules! array {
    ($($field:expr),* $(,)?) => { Field(Array(&[$($field),*]), 0, ANY) };
}

/// First flexible version and the fields of a request, for the versions in [`super::SUPPORTED`].
fn layout(api: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match api {
        ApiKey::Produce => (9, const { &[STR, I16, I32, array![STR, array![I32, Field(Blob, 0, ANY)]]] }),
        ApiKey::Fetch => (
            12,
            const {
                &[
                    I32,
                    I32,
                    I32,
                    I32,
                    I8,
                    since(Fixed(8), 7),
                    array![STR, array![I32, since(Fixed(4), 9), I64, since(Fixed(8), 5), I32]],
                    since(Array(&[STR, INTS]), 7),
                    since(Text, 11),
                ]
            },
        ),
        ApiKey::ListOffsets => {
            (6, const { &[I32, since(Fixed(1), 2), array![STR, array![I32, since(Fixed(4), 4), I64]]] })
        }
        ApiKey::Metadata => (
            9,
            const {
                &[
                    array![since(Fixed(16), 10), STR],
                    since(Fixed(1), 4),
                    Field(Fixed(1), 8, 10),
                    since(Fixed(1), 8),
                ]
            },
        ),
        ApiKey::OffsetCommit => (
            8,
            const {
                &[
                    STR,
                    I32,
                    STR,
                    since(Text, 7),
                    Field(Fixed(8), 0, 4),
                    array![STR, array![I32, I64, since(Fixed(4), 6), STR]],
                ]
            },
        ),
        ApiKey::OffsetFetch => (6, const { &[STR, array![STR, INTS], since(Fixed(1), 7)] }),
        ApiKey::FindCoordinator => (3, const { &[STR, since(Fixed(1), 1)] }),
        ApiKey::ApiVersions => (3, const { &[since(Text, 3), since(Text, 3)] }),
        ApiKey::InitProducerId => (2, const { &[STR, I32, since(Fixed(10), 3)] }),
        ApiKey::AddPartitionsToTxn => (3, const { &[STR, I64, I16, array![STR, INTS]] }),
        ApiKey::AddOffsetsToTxn => (3, const { &[STR, I64, I16, STR] }),
        ApiKey::EndTxn => (3, const { &[STR, I64, I16, I8] }),
        ApiKey::WriteTxnMarkers => (1, const { &[array![I64, I16, I8, array![STR, INTS], I32]] }),
        ApiKey::TxnOffsetCommit => (
            3,
            const {
                &[
                    STR,
                    STR,
                    I64,
                    I16,
                    since(Fixed(4), 3),
                    since(Text, 3),
                    since(Text, 3),
                    array![STR, array![I32, I64, since(Fixed(4), 2), STR]],
                ]
            },
        ),
        _ => return group_layout(api).or_else(|| admin_layout(api)),
    })
}

/// The same for groups.
fn group_layout(api: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match api {
        ApiKey::DescribeGroups => (5, const { &[Field(Texts, 0, ANY), since(Fixed(1), 3)] }),
        ApiKey::ListGroups => (3, const { &[since(Texts, 4)] }),
        ApiKey::JoinGroup => (
            6,
            const {
                &[
                    STR,
                    I32,
                    since(Fixed(4), 1),
                    STR,
                    since(Text, 5),
                    STR,
                    array![STR, Field(Blob, 0, ANY)],
                    since(Text, 8),
                ]
            },
        ),
        ApiKey::SyncGroup => (
            4,
            const {
                &[
                    STR,
                    I32,
                    STR,
                    since(Text, 3),
                    since(Text, 5),
                    since(Text, 5),
                    array![STR, Field(Blob, 0, ANY)],
                ]
            },
        ),
        ApiKey::Heartbeat => (4, const { &[STR, I32, STR, since(Text, 3)] }),
        ApiKey::LeaveGroup => {
            const LEAVING: &[Field] = &[STR, STR, since(Text, 5)];
            (4, const { &[STR, Field(Text, 0, 2), since(Array(LEAVING), 3)] })
        }
        ApiKey::OffsetDelete => (ANY, const { &[STR, array![STR, INTS]] }),
        ApiKey::DeleteGroups => (2, const { &[Field(Texts, 0, ANY)] }),
        _ => return None,
    })
}

/// The same for what only administrators ask.
fn admin_layout(api: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match api {
        ApiKey::CreateTopics => {
            (5, const { &[array![STR, I32, I16, array![I32, INTS], array![STR, STR]], I32, I8] })
        }
        ApiKey::DeleteTopics => {
            const EITHER: &[Field] = &[STR, Field(Fixed(16), 0, ANY)];
            (4, const { &[since(Array(EITHER), 6), Field(Texts, 0, 5), I32] })
        }
        ApiKey::DescribeConfigs => {
            (4, const { &[array![I8, STR, Field(Texts, 0, ANY)], I8, since(Fixed(1), 3)] })
        }
        ApiKey::CreatePartitions => (2, const { &[array![STR, I32, array![INTS]], I32, I8] }),
        ApiKey::DeleteRecords => (2, const { &[array![STR, array![I32, I64]], I32] }),
        ApiKey::AlterConfigs => (2, const { &[array![I8, STR, array![STR, STR]], I8] }),
        ApiKey::IncrementalAlterConfigs => (1, const { &[array![I8, STR, array![STR, I8, STR]], I8] }),
        ApiKey::SaslHandshake => (ANY, const { &[STR] }),
        ApiKey::SaslAuthenticate => (2, const { &[Field(Blob, 0, ANY)] }),
        ApiKey::DescribeClientQuotas => (1, const { &[array![STR, I8, STR], I8] }),
        ApiKey::DescribeUserScramCredentials => (0, const { &[array![STR]] }),
        ApiKey::AlterUserScramCredentials => {
            const SECRET: Field = Field(Blob, 0, ANY);
            (0, const { &[array![STR, I8], array![STR, I8, I32, SECRET, SECRET]] })
        }
        ApiKey::DescribeProducers => (0, const { &[array![STR, INTS]] }),
        ApiKey::DescribeTransactions => (0, const { &[Field(Texts, 0, ANY)] }),
        ApiKey::ListTransactions => {
            (0, const { &[Field(Texts, 0, ANY), Field(Longs, 0, ANY), since(Fixed(8), 1)] })
        }
        _ => return None,
    })
}

/// Checks that `body` (after the request header) has the shape of its key and version; gives how many bytes follow.
///
/// Those are ignored, as Kafka does: librdkafka 2.12 leaves three when a consumer with a pattern asks for all topics.
pub(super) fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    let Some((flexible_from, fields)) = layout(api) else { return Err(ShapeError::Length) };
    let mut walk = Walk { rest: body, version, is_flexible: version >= flexible_from, elements: 0 };
    walk.fields(fields)?;
    Ok(walk.rest.len())
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    is_flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        for Field(kind, from, to) in fields {
            if (*from..=*to).contains(&self.version) {
                self.field(*kind)?;
            }
        }
        if self.is_flexible {
            self.tagged_fields()?;
        }
        Ok(())
    }

    fn field(&mut self, kind: Kind) -> Result<(), ShapeError> {
        match kind {
            Fixed(len) => self.skip(len),
            Text => self.sized(2),
            Blob => self.sized(4),
            Ints => {
                let count = self.count(4)?.unwrap_or(0);
                self.skip(count.checked_mul(4).ok_or(ShapeError::Length)?)
            }
            Longs => {
                let count = self.count(4)?.unwrap_or(0);
                self.skip(count.checked_mul(8).ok_or(ShapeError::Length)?)
            }
            Texts => {
                for _ in 0..self.count(4)?.unwrap_or(0) {
                    self.sized(2)?;
                }
                Ok(())
            }
            Array(fields) => {
                for _ in 0..self.count(4)?.unwrap_or(0) {
                    self.fields(fields)?;
                }
                Ok(())
            }
        }
    }

    fn skip(&mut self, len: usize) -> Result<(), ShapeError> {
        self.rest = self.rest.get(len..).ok_or(ShapeError::Truncated)?;
        Ok(())
    }

    fn sized(&mut self, width: usize) -> Result<(), ShapeError> {
        let len = self.length(width)?.unwrap_or(0);
        self.skip(len)
    }

    /// A number of array elements. Each has at least one byte.
    fn count(&mut self, width: usize) -> Result<Option<usize>, ShapeError> {
        let count = self.length(width)?;
        let elements = count.unwrap_or(0);
        if elements > self.rest.len() {
            return Err(ShapeError::Truncated);
        }
        self.elements += elements;
        if self.elements > MAX_ELEMENTS { Err(ShapeError::TooMany) } else { Ok(count) }
    }

    /// A length field; `None` is null.
    fn length(&mut self, width: usize) -> Result<Option<usize>, ShapeError> {
        if self.is_flexible {
            return Ok(self.varint()?.checked_sub(1));
        }
        let (bytes, rest) = self.rest.split_at_checked(width).ok_or(ShapeError::Truncated)?;
        self.rest = rest;
        let length = match bytes {
            [a, b] => i32::from(i16::from_be_bytes([*a, *b])),
            [a, b, c, d] => i32::from_be_bytes([*a, *b, *c, *d]),
            _ => return Err(ShapeError::Length),
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| ShapeError::Length),
        }
    }

    fn varint(&mut self) -> Result<usize, ShapeError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let (byte, rest) = self.rest.split_first().ok_or(ShapeError::Truncated)?;
            self.rest = rest;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| ShapeError::Length);
            }
        }
        Err(ShapeError::Length)
    }

    fn tagged_fields(&mut self) -> Result<(), ShapeError> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.skip(len)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
