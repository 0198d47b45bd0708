//! The text committed beside every offset (P4): `p1;u=<uuid>;g=<g>;e=<e>;b=<base>;d=<delta>;h=<hash>;c=<crc>`.
//!
//! One [`Stamp`] has exactly one text, and [`Stamp::parse`] takes no other, so that two texts are equal when their
//! stamps are. The checksum is CRC-32C of everything before `;c=`, as eight lower-case hexadecimal digits: it tells
//! a text that was cut or edited from one that was not, it is no protection against intent.

use pelton_sabotage::points::{self, Point};
use pelton_types::{Epoch, Generation, TaskId};
use std::fmt;

/// First field of the text: format and its version.
const VERSION: &str = "p1";
/// What fields of a later format may start with, for the test of a downgrade.
const NEXT_VERSION: &str = "p2";
/// Kafka's default `offset.metadata.max.bytes` is 4096. Three tokens of this length, the numbers and the field
/// names stay below 3,300 bytes.
const TOKEN_MAX_BYTES: usize = 1024;
/// Longest text that can be ours.
const TEXT_MAX_BYTES: usize = 4096;

/// A name without separators: ASCII letters, digits and `-_.:/,`, at most 1,024 bytes. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// A token of this text.
    ///
    /// # Errors
    /// When a byte is outside the set, or the text is too long.
    pub fn new(text: impl Into<String>) -> Result<Self, StampError> {
        let text = text.into();
        if text.len() > TOKEN_MAX_BYTES {
            return Err(StampError::TokenTooLong { bytes: text.len() });
        }
        match text.bytes().position(|byte| !byte.is_ascii_alphanumeric() && !b"-_.:/,".contains(&byte)) {
            Some(at) => Err(StampError::TokenByte { at }),
            None => Ok(Self(text)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which state belongs to the committed offsets. All empty for a stage without state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatePointer {
    /// The newest durable base (full snapshot).
    pub base: Token,
    /// How far in the changelog the deltas on top of it go.
    pub delta: Token,
    /// Hash of the state.
    pub hash: Token,
}

/// Who committed an offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Identity of the pipeline object.
    pub uuid: Token,
    /// Generation of the stage's map.
    pub generation: Generation,
    /// Epoch of the grant; 0 in a retirement claim (P8).
    pub epoch: Epoch,
    /// The state that belongs to the offsets.
    pub state: StatePointer,
}

/// Why a text is no stamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// It is not one of ours at all.
    #[error("the text does not start with `p1;`")]
    Foreign,
    /// It is of a later version of Pelton.
    #[error("its format {format} is of a newer version of pelton, this one knows {VERSION}")]
    Newer {
        /// The first field.
        format: String,
    },
    /// Longer than any of ours.
    #[error("the text has {bytes} bytes, more than {TEXT_MAX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A field is missing or out of order.
    #[error("field `{name}=` is missing or out of order")]
    Field {
        /// The field that was expected.
        name: &'static str,
    },
    /// Something follows the last field.
    #[error("the text goes on after its checksum")]
    Trailing,
    /// A number is no number, too large, or not in its shortest form.
    #[error("field `{name}=` is no number in its shortest form")]
    Number {
        /// The field.
        name: &'static str,
    },
    /// A token has a byte outside the set.
    #[error("byte {at} is not an ASCII letter, digit or one of -_.:/,")]
    TokenByte {
        /// Where in the token.
        at: usize,
    },
    /// A token is too long.
    #[error("a name has {bytes} bytes, more than {TOKEN_MAX_BYTES}")]
    TokenTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text was cut or changed.
    #[error("the checksum is {found}, the text's is {computed}")]
    Checksum {
        /// As the text says.
        found: String,
        /// As computed.
        computed: String,
    },
}

impl Stamp {
    /// The stamp of a grant, without state.
    ///
    /// # Errors
    /// When the task's uuid is no [`Token`].
    pub fn of(task: &TaskId, epoch: Epoch) -> Result<Self, StampError> {
        Ok(Self {
            uuid: Token::new(task.uuid.clone())?,
            generation: task.generation,
            epoch,
            state: StatePointer::default(),
        })
    }

    /// The text.
    pub fn encode(&self) -> String {
        let StatePointer { base, delta, hash } = &self.state;
        let version = if points::fails(Point::NextFormat) { NEXT_VERSION } else { VERSION };
        let body = format!(
            "{version};u={};g={};e={};b={base};d={delta};h={hash}",
            self.uuid, self.generation, self.epoch
        );
        let crc = checksum(&body);
        format!("{body};c={crc}")
    }

    /// The stamp of a text.
    ///
    /// # Errors
    /// When the text is not byte for byte what [`Stamp::encode`] makes of some stamp.
    pub fn parse(text: &str) -> Result<Self, StampError> {
        let version = text.split(';').next().unwrap_or_default();
        let known = version == VERSION || version == NEXT_VERSION && points::fails(Point::NextFormat);
        if !known || version == text {
            return Err(newer(version).map_or(StampError::Foreign, |format| StampError::Newer { format }));
        }
        if text.len() > TEXT_MAX_BYTES {
            return Err(StampError::TooLong { bytes: text.len() });
        }
        let (body, found) = text.rsplit_once(";c=").ok_or(StampError::Field { name: "c" })?;
        let computed = checksum(body);
        if found != computed {
            return Err(StampError::Checksum { found: found.into(), computed });
        }
        let mut fields = body.split(';').skip(1);
        let mut next = |name: &'static str| {
            let field = fields.next().and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
            field.ok_or(StampError::Field { name })
        };
        let stamp = Self {
            uuid: Token::new(next("u")?)?,
            generation: number("g", next("g")?)?,
            epoch: number("e", next("e")?)?,
            state: StatePointer {
                base: Token::new(next("b")?)?,
                delta: Token::new(next("d")?)?,
                hash: Token::new(next("h")?)?,
            },
        };
        if fields.next().is_some() { Err(StampError::Trailing) } else { Ok(stamp) }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode())
    }
}

/// The format of a later version: `p` and a number above ours.
fn newer(version: &str) -> Option<String> {
    let number: u32 = version.strip_prefix('p')?.parse().ok()?;
    (number > 1).then(|| version.to_owned())
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32c::crc32c(body.as_bytes()))
}

/// A decimal number in its shortest form: no sign, no leading zero.
fn number<T: std::str::FromStr + ToString>(name: &'static str, text: &str) -> Result<T, StampError> {
    let value: T = text.parse().map_err(|_| StampError::Number { name })?;
    if value.to_string() == text { Ok(value) } else { Err(StampError::Number { name }) }
}
