#![doc = include_str!("../README.md")]

mod formats;
mod operator;
mod options;

use operator::Parse;
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;

/// Makes `parse` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseFactory;

impl OperatorFactory for ParseFactory {
    fn name(&self) -> &'static str {
        "parse"
    }

    fn summary(&self) -> &'static str {
        "reads fields out of lines: regex, grok, nginx, apache, syslog, key-value"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, _: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        options::parse(options).map(|_| OperatorShape::default())
    }

    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Parse::new(options::parse(options)?)))
    }
}
