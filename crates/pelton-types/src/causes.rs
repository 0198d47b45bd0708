//! Errors in words, with what lies behind them.

use std::error::Error;

/// An error and all its causes, the outermost first.
pub fn all(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The innermost cause alone, where the outer ones only say that there is one ("transport error").
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Outer(fmt::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes_or_by_the_innermost() {
        let error = Outer(fmt::Error);
        assert_eq!(all(&error), format!("outer: {}", fmt::Error));
        assert_eq!(innermost(&error), fmt::Error.to_string());
    }
}
