#![doc = include_str!("../README.md")]

mod convert;
mod format;
mod schema;

use convert::{Decode, Encode};
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;
use std::sync::Arc;

/// Makes `decode` operators.
#[derive(Debug, Default)]
pub struct DecodeFactory;

impl OperatorFactory for DecodeFactory {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn summary(&self) -> &'static str {
        "reads values of another form as JSON, and checks that they fit a schema"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "properties": { "format": format::decode_schema(), "schema": schema::schema() },
            "additionalProperties": false,
            "$defs": { "type": schema::type_schema() },
        })
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let decode = Decode::parse(options)?;
        // What is only checked keeps what is known already.
        let before = context.input.as_deref().filter(|_| decode.keeps_values());
        let output = match (decode.schema, before) {
            (Some(mut schema), Some(before)) => {
                for (name, field) in &before.fields {
                    schema.fields.entry(name.clone()).or_insert_with(|| field.clone());
                }
                Some(Arc::new(schema))
            }
            (schema, before) => schema.or_else(|| before.cloned()).map(Arc::new),
        };
        Ok(OperatorShape { output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Decode::parse(options)?))
    }
}

/// Makes `encode` operators.
#[derive(Debug, Default)]
pub struct EncodeFactory;

impl OperatorFactory for EncodeFactory {
    fn name(&self) -> &'static str {
        "encode"
    }

    fn summary(&self) -> &'static str {
        "writes JSON records in another form"
    }

    fn help(&self) -> &'static str {
        include_str!("../ENCODE.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::Schema::try_from(format::encode_schema()).unwrap_or_default()
    }

    fn check(&self, options: &Value, _: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        format::encoder(options).map(|_| OperatorShape::default())
    }

    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        Ok(Box::new(Encode::new(format::encoder(options)?)))
    }
}
