//! The components a binary was built with.

use crate::{ConnectorFactory, OperatorFactory};
use std::{collections::BTreeMap, sync::Arc};

/// Operators and connectors by name: a plain value built in `main` and handed down.
#[derive(Clone, Default)]
pub struct Registry {
    operators: BTreeMap<&'static str, Arc<dyn OperatorFactory>>,
    connectors: BTreeMap<&'static str, Arc<dyn ConnectorFactory>>,
}

impl Registry {
    /// With an operator more.
    #[must_use]
    pub fn operator(mut self, factory: impl OperatorFactory + 'static) -> Self {
        self.operators.insert(factory.name(), Arc::new(factory));
        self
    }

    /// With a connector more.
    #[must_use]
    pub fn connector(mut self, factory: impl ConnectorFactory + 'static) -> Self {
        self.connectors.insert(factory.name(), Arc::new(factory));
        self
    }

    /// The operator of this name.
    pub fn find_operator(&self, name: &str) -> Option<&Arc<dyn OperatorFactory>> {
        self.operators.get(name)
    }

    /// The connector of this name.
    pub fn find_connector(&self, name: &str) -> Option<&Arc<dyn ConnectorFactory>> {
        self.connectors.get(name)
    }

    /// All operators, by name.
    pub fn operators(&self) -> impl Iterator<Item = &Arc<dyn OperatorFactory>> {
        self.operators.values()
    }

    /// All connectors, by name.
    pub fn connectors(&self) -> impl Iterator<Item = &Arc<dyn ConnectorFactory>> {
        self.connectors.values()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("operators", &self.operators.keys())
            .field("connectors", &self.connectors.keys())
            .finish()
    }
}
