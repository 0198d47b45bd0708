#![doc = include_str!("../README.md")]

mod call;
mod operator;
mod options;
mod template;

use call::Client;
use operator::Enrich;
use options::EnrichOptions;
use pelton_sdk::{
    BuildContext, Operator, OperatorFactory, OperatorShape, OptionError,
    types::schema::{Field, RecordSchema},
};
use serde_json::Value;
use std::sync::Arc;

/// Makes `enrich` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnrichFactory;

impl OperatorFactory for EnrichFactory {
    fn name(&self) -> &'static str {
        "enrich"
    }

    fn summary(&self) -> &'static str {
        "looks something up over HTTP for each record and writes it into the record"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(EnrichOptions)
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let plan = options::check(options)?;
        // An answer may be any JSON; all else stays what it is.
        let answer = Field::unknown();
        let input = context.input.as_deref().cloned().unwrap_or_else(RecordSchema::of_unknown);
        let output = input.with(&plan.into.names(), answer);
        Ok(OperatorShape { output: Some(Arc::new(output)), ..OperatorShape::default() })
    }

    /// Reads the secrets that headers name, and files of certificates: a worker has them, whoever checks may not.
    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let plan = Arc::new(options::check(options)?);
        // Tasks of an executor that say the same share connections.
        let key = format!("enrich {options}");
        let client = context.services.get_or_try_insert(&key, || Client::new(plan.clone()))?;
        let client = client.ok_or_else(|| vec![OptionError::at("", "the client is of another type")])?;
        Ok(Box::new(Enrich::new(plan, client, context)))
    }
}
