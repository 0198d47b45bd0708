//! Records as bytes, and VRL programs over them that decode only what they read.
//!
//! A JSON record is checked in one pass that finds its top-level members. A member is decoded when a program reads it;
//! what the program writes is laid over the original bytes and spliced in once, at the end. Members that nobody touched
//! pass as they came, with the order, the spelling of numbers and the blanks they had.
//!
//! * [`Program::compile_filter`], [`Program::compile_map`]: check a program, all mistakes with their place;
//! * [`Program::run_filter`], [`Program::run_map`]: run it over one record, with a [`Scratch`] kept for the next;
//! * [`Fields`]: find the members of a batch's records once for several programs and operators;
//! * [`Path`]: the text of one field; [`KeyExpr`]: a field or an expression that tells records apart;
//! * [`Patch`]: members set in a record's bytes;
//! * [`Decoder`], [`Encoder`]: other forms of records (text, CSV, logfmt) to JSON where they enter, and back where they
//!   leave.
//!
//! | a record that | is |
//! |---|---|
//! | is no JSON, or truncated | an error with the byte |
//! | is no UTF-8 | an error with the byte where a program reads it, and at the source that says `strict`; it passes elsewhere |
//! | has a member twice | read by its last one; untouched, both pass |
//! | holds a number beyond 64 bits, or half a surrogate pair | fine until the member is read |
//! | is JSON, but no object | decoded as a whole |
//! | has no value (a tombstone) | `null`: `exists(.a)` is false, `.a > 1` is an error of the record |
//!
//! The hot part of the language runs without VRL ([`Program::is_native`]); VRL then only sees records that fail, or hold
//! something odd where they are read. [`Program::through_vrl`] is for comparing.
//!
//! Programs read no metadata (`%`), and have no functions that leave the worker: `dns_lookup`, `reverse_dns`,
//! `http_request`, `get_env_var`, `get_hostname` and `log` do not exist. Times without a zone are UTC.

mod check;
mod csv;
mod decode;
mod diagnose;
mod encode;
mod fields;
mod find;
mod index;
mod json_text;
mod key;
mod logfmt;
mod marks;
mod native;
mod patch;
mod path;
mod program;
mod record;
mod remedy;
mod run;
mod scan;
mod splice;
mod typed;
mod value;

pub use check::{SchemaCheck, SchemaError};
pub use csv::{Csv, CsvError, CsvOptions, CsvOptionsError, CsvWriter};
pub use decode::{Converted, DecodeError, Decoder, Kinds, Utf8};
pub use diagnose::CompileError;
pub use encode::{EncodeError, Encoder};
pub use fields::{Fields, Located};
pub use json_text::{Kind, KindError};
pub use key::KeyExpr;
pub use logfmt::LogfmtError;
pub use patch::{Patch, checked, elements};
pub use path::{FieldError, Path, PathError};
pub use program::Program;
pub use run::{Outcome, Scratch};
pub use scan::JsonError;
pub use vrl::value::Value;
