//! Functions of VRL's library, for the kinds of values that are common.

use super::{
    Expr, Op, Stop,
    eval::{Env, arithmetic},
    text,
    val::{self, Val},
};
use crate::scan;

/// A function, with all its arguments in order of position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Downcase,
    Upcase,
    StripWhitespace,
    Length,
    Strlen,
    Contains,
    StartsWith,
    EndsWith,
    Slice,
    String,
    Int,
    Float,
    Bool,
    ToString,
    ToInt,
    ToFloat,
    ToBool,
    Round,
    Floor,
    Ceil,
    Abs,
    Mod,
    IsNull,
    IsString,
    IsInteger,
    IsFloat,
    IsBoolean,
    IsArray,
    IsObject,
}

impl Function {
    /// The function of this name that takes this many arguments.
    pub(super) fn of(name: &str, arguments: usize) -> Option<Function> {
        let function = match (name, arguments) {
            ("downcase", 1) => Function::Downcase,
            ("upcase", 1) => Function::Upcase,
            ("strip_whitespace", 1) => Function::StripWhitespace,
            ("length", 1) => Function::Length,
            ("strlen", 1) => Function::Strlen,
            ("contains", 2) => Function::Contains,
            ("starts_with", 2) => Function::StartsWith,
            ("ends_with", 2) => Function::EndsWith,
            ("slice", 2 | 3) => Function::Slice,
            ("string", 1) => Function::String,
            ("int", 1) => Function::Int,
            ("float", 1) => Function::Float,
            ("bool", 1) => Function::Bool,
            ("to_string", 1) => Function::ToString,
            ("to_int", 1) => Function::ToInt,
            ("to_float", 1) => Function::ToFloat,
            ("to_bool", 1) => Function::ToBool,
            ("round", 1 | 2) => Function::Round,
            ("floor", 1 | 2) => Function::Floor,
            ("ceil", 1 | 2) => Function::Ceil,
            ("abs", 1) => Function::Abs,
            ("mod", 2) => Function::Mod,
            ("is_null", 1) => Function::IsNull,
            ("is_string", 1) => Function::IsString,
            ("is_integer", 1) => Function::IsInteger,
            ("is_float", 1) => Function::IsFloat,
            ("is_boolean", 1) => Function::IsBoolean,
            ("is_array", 1) => Function::IsArray,
            ("is_object", 1) => Function::IsObject,
            _ => return None,
        };
        Some(function)
    }
}

impl<'a> Env<'a> {
    pub(super) fn call(&mut self, function: Function, arguments: &'a [Expr]) -> Result<Val<'a>, Stop> {
        let first = self.eval(arguments.first().ok_or(Stop::Ask)?)?;
        match (function, arguments) {
            (_, [_]) => self.one(function, first),
            (Function::Slice, [_, start, end]) => {
                let (start, end) = (self.eval(start)?, self.eval(end)?);
                slice(first, start, Some(end))
            }
            (_, [_, second]) => {
                let second = self.eval(second)?;
                two(function, first, second)
            }
            _ => Err(Stop::Ask),
        }
    }

    fn one(&self, function: Function, value: Val<'a>) -> Result<Val<'a>, Stop> {
        match function {
            Function::Downcase => Ok(Val::Text(text::lower(self.arena, string(value)?))),
            Function::Upcase => Ok(Val::Text(text::upper(self.arena, string(value)?))),
            Function::StripWhitespace => Ok(Val::Text(string(value)?.trim())),
            Function::Length => length(value),
            Function::Strlen => Ok(count(string(value)?.chars().count())),
            Function::ToString => Ok(match value {
                Val::Text(_) => value,
                Val::Int(number) => Val::Text(text::shown(self.arena, number)),
                Val::Float(number) => Val::Text(text::shown(self.arena, number)),
                Val::Bool(value) => Val::Text(if value { "true" } else { "false" }),
                Val::Null => Val::Text(""),
                Val::Raw(_) | Val::Object(_) | Val::Array(_) => return Err(Stop::Fail),
            }),
            Function::ToInt | Function::ToFloat | Function::ToBool => coerce(function, value),
            Function::Round | Function::Floor | Function::Ceil => round(function, value, 0),
            Function::Abs => match value {
                Val::Float(number) => Ok(Val::Float(number.abs())),
                // The lowest integer has no opposite: it stays, as in VRL without overflow checks (with them VRL panics).
                Val::Int(number) => Ok(Val::Int(number.wrapping_abs())),
                _ => Err(Stop::Fail),
            },
            Function::String | Function::Int | Function::Float | Function::Bool => {
                let same = matches!(
                    (function, value),
                    (Function::String, Val::Text(_))
                        | (Function::Int, Val::Int(_))
                        | (Function::Float, Val::Float(_))
                        | (Function::Bool, Val::Bool(_))
                );
                if same { Ok(value) } else { Err(Stop::Fail) }
            }
            _ => is(function, value).map(Val::Bool),
        }
    }
}

fn string(value: Val<'_>) -> Result<&str, Stop> {
    match value {
        Val::Text(text) => Ok(text),
        _ => Err(Stop::Fail),
    }
}

fn count<'a>(n: usize) -> Val<'a> {
    Val::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn is(function: Function, value: Val<'_>) -> Result<bool, Stop> {
    Ok(match function {
        Function::IsNull => matches!(value, Val::Null),
        Function::IsString => matches!(value, Val::Text(_)),
        Function::IsInteger => matches!(value, Val::Int(_)),
        Function::IsFloat => matches!(value, Val::Float(_)),
        Function::IsBoolean => matches!(value, Val::Bool(_)),
        Function::IsArray => matches!(value, Val::Array(_)) || raw(value) == Some(b'['),
        Function::IsObject => matches!(value, Val::Object(_)) || raw(value) == Some(b'{'),
        _ => return Err(Stop::Ask),
    })
}

fn raw(value: Val<'_>) -> Option<u8> {
    match value {
        Val::Raw(text) => text.first().copied(),
        _ => None,
    }
}

fn two<'a>(function: Function, value: Val<'a>, second: Val<'a>) -> Result<Val<'a>, Stop> {
    let found = match function {
        Function::Contains => contains(string(value)?, string(second)?),
        Function::StartsWith => string(value)?.starts_with(string(second)?),
        Function::EndsWith => string(value)?.ends_with(string(second)?),
        Function::Slice => return slice(value, second, None),
        Function::Mod => return arithmetic(Op::Rem, value, second),
        Function::Round | Function::Floor | Function::Ceil => match second {
            Val::Int(precision) => return round(function, value, precision),
            _ => return Err(Stop::Fail),
        },
        _ => return Err(Stop::Ask),
    };
    Ok(Val::Bool(found))
}

fn contains(text: &str, part: &str) -> bool {
    text.contains(part)
}

/// Bytes of a text, elements of an array, members of an object.
fn length(value: Val<'_>) -> Result<Val<'_>, Stop> {
    /// Members among which one looks for names that come twice.
    const FEW: usize = 32;
    match value {
        Val::Text(text) => Ok(count(text.len())),
        Val::Array(items) => Ok(count(items.len())),
        Val::Object(members) => Ok(count(members.len())),
        Val::Raw(text) if text[0] == b'[' => val::count(text, 0).map(count),
        Val::Raw(text) => {
            let mut names: [&[u8]; FEW] = [&[]; FEW];
            let mut n = 0;
            let mut odd = false;
            scan::object(text, 0, |member| {
                let name = &text[member.key()];
                odd |= member.key_escaped || n == FEW || names[..n.min(FEW)].contains(&name);
                if !odd {
                    names[n] = name;
                    n += 1;
                }
                Ok::<_, Stop>(())
            })?;
            if odd { Err(Stop::Ask) } else { Ok(count(n)) }
        }
        _ => Err(Stop::Fail),
    }
}

/// Part of a text, by bytes. Half of a character is for VRL.
fn slice<'a>(value: Val<'a>, start: Val<'a>, end: Option<Val<'a>>) -> Result<Val<'a>, Stop> {
    let Val::Int(start) = start else { return Err(Stop::Fail) };
    let text = match value {
        Val::Text(text) => text,
        Val::Raw(_) | Val::Array(_) | Val::Object(_) => return Err(Stop::Ask),
        _ => return Err(Stop::Fail),
    };
    let len = i64::try_from(text.len()).map_err(|_| Stop::Ask)?;
    let end = match end {
        None => len,
        Some(Val::Int(end)) if end < 0 => end.wrapping_add(len),
        Some(Val::Int(end)) => end,
        Some(_) => return Err(Stop::Fail),
    };
    let start = if start < 0 { start.wrapping_add(len) } else { start };
    if start < 0 || start > len || end < start {
        return Err(Stop::Fail);
    }
    let range = usize::try_from(start).map_err(|_| Stop::Ask)?
        ..usize::try_from(end.min(len)).map_err(|_| Stop::Ask)?;
    text.get(range).map(Val::Text).ok_or(Stop::Ask)
}

fn coerce<'a>(function: Function, value: Val<'a>) -> Result<Val<'a>, Stop> {
    let number = match value {
        Val::Null => 0,
        Val::Bool(value) => i64::from(value),
        Val::Int(number) => number,
        Val::Float(number) => {
            return Ok(match function {
                Function::ToInt => Val::Int(number as i64),
                Function::ToFloat => value,
                _ => Val::Bool(number != 0.0),
            });
        }
        Val::Text(text) if function == Function::ToFloat => {
            // As VRL parses it; it does not take NaN.
            return match text.parse::<f64>() {
                Ok(number) if !number.is_nan() => Ok(Val::Float(number)),
                _ => Err(Stop::Fail),
            };
        }
        Val::Text(text) if function == Function::ToInt => {
            return text.parse().map(Val::Int).map_err(|_| Stop::Fail);
        }
        Val::Text(_) => return Err(Stop::Ask),
        Val::Raw(_) | Val::Object(_) | Val::Array(_) => return Err(Stop::Fail),
    };
    Ok(match function {
        Function::ToInt => Val::Int(number),
        Function::ToFloat => Val::Float(number as f64),
        _ => Val::Bool(number != 0),
    })
}

fn round(function: Function, value: Val<'_>, precision: i64) -> Result<Val<'_>, Stop> {
    let number = match value {
        Val::Int(_) => return Ok(value),
        Val::Float(number) => number,
        _ => return Err(Stop::Fail),
    };
    let factor = 10f64.powf(precision as f64);
    let scaled = number * factor;
    let rounded = match function {
        Function::Round => scaled.round(),
        Function::Floor => scaled.floor(),
        _ => scaled.ceil(),
    } / factor;
    // VRL has a rule of its own for what is no number.
    if rounded.is_nan() { Err(Stop::Ask) } else { Ok(Val::Float(rounded)) }
}
