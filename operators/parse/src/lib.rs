#![doc = include_str!("../README.md")]

mod formats;
mod operator;
mod options;
mod shape;

use operator::Parse;
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;
use std::sync::Arc;

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

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let settings = options::parse(options)?;
        let output = shape::output(&settings, context.input.as_deref()).map(Arc::new);
        Ok(OperatorShape { output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Parse::new(options::parse(options)?)))
    }
}
