#![doc = include_str!("../README.md")]

mod groups;
mod operator;
mod options;

use operator::Collect;
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;

/// Makes `batch` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchFactory;

impl OperatorFactory for BatchFactory {
    fn name(&self) -> &'static str {
        "batch"
    }

    fn summary(&self) -> &'static str {
        "collects records into one: a JSON array, or lines"
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
        Ok(Box::new(Collect::new(options::parse(options)?)))
    }
}
