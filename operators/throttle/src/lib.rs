#![doc = include_str!("../README.md")]

mod bucket;
mod operator;
mod options;

use operator::Throttle;
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;

/// Makes `throttle` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThrottleFactory;

impl OperatorFactory for ThrottleFactory {
    fn name(&self) -> &'static str {
        "throttle"
    }

    fn summary(&self) -> &'static str {
        "shapes the flow: so many records or bytes a second"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let output = context.input.clone();
        options::parse(options).map(|_| OperatorShape { output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Throttle::new(&options::parse(options)?, context.tasks)))
    }
}
