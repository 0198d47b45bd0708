//! Operator `infer`: runs an ONNX model over a field of each record and writes the label and score into it.
//!
//! All `infer` steps of an executor that use one model with the same limits share a thread for it, so that batches fill
//! across tasks. Records leave in the order they came; one that the model cannot take fails alone.

mod member;
mod operator;
mod options;

use operator::{Infer, RUNS_IN_FLIGHT};
use options::{Checked, InferOptions};
use pelton_model::Service;
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Makes `infer` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferFactory;

/// A service while somebody uses it: it ends with its last operator, not with the executor.
type Slot = Mutex<Weak<Service>>;

impl OperatorFactory for InferFactory {
    fn name(&self) -> &'static str {
        "infer"
    }

    fn summary(&self) -> &'static str {
        "runs an ONNX model over a field of each record and writes label and score into it"
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(InferOptions)
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        options::check(options, context).map(|_| OperatorShape::default())
    }

    /// Loads the model on the calling thread, when no other operator of the executor has it.
    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let Checked { plan, name, file, model, input, output } = options::check(options, context)?;
        let failed = |message: String| vec![OptionError::at("/model", message)];
        let key = format!("infer {} {} {} {:?}", file.digest, input.name, output.name, plan.limits);
        let slot = context.services.get_or_try_insert(&key, || Ok::<_, Infallible>(Slot::default()));
        let Ok(Some(slot)) = slot else {
            return Err(failed(format!("the service `{key}` is of another type")));
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let service = match slot.upgrade() {
            Some(service) => service,
            None => {
                let service = Service::start(&name, model, input, output, plan.limits)
                    .map_err(|e| failed(format!("no thread for model `{name}`: {e}")))?;
                let service = Arc::new(service);
                *slot = Arc::downgrade(&service);
                service
            }
        };
        let wake = context.wake.clone();
        let client = service.client(plan.limits.max_batch * RUNS_IN_FLIGHT, move || wake.wake());
        Ok(Box::new(Infer::new(plan, service, client)))
    }
}
