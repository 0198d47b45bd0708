//! Making the parts of a task.

use crate::{
    chain::Chain,
    executor::AssignedPartitions,
    outputs::OutputQueue,
    plan::{SinkPlan, StagePlan},
    positions::PositionStore,
    trouble,
};
use pelton_checkpoint::Delivery;
use pelton_sdk::{
    BuildContext, Connector, Offsets, Producer, ProducerSpec, Registry, Scope, SinkSpec, Source, SourceSpec,
};
use pelton_types::{Code, Incident, TaskId};
use std::collections::{BTreeMap, btree_map::Entry};

/// A source of a task, with the place its positions are kept.
pub struct SourceSlot {
    /// Its index in the plan: a task may have no partition of some sources.
    pub index: usize,
    /// What it was made from.
    pub spec: SourceSpec,
    /// Reads.
    pub source: Box<dyn Source>,
    /// Keeps positions.
    pub offsets: Box<dyn Offsets>,
    /// It has delivered everything.
    pub ended: bool,
    pub(crate) read_pending: bool,
    pub(crate) commit_pending: bool,
}

/// Everything a task is made of.
pub struct Parts {
    pub(crate) sources: Vec<SourceSlot>,
    pub(crate) chain: Chain,
    pub(crate) outputs: Vec<OutputQueue>,
    pub(crate) dead_letters: Option<OutputQueue>,
    pub(crate) positions: PositionStore,
    pub(crate) producer: Option<Box<dyn Producer>>,
}

impl Parts {
    /// Connect the sources ahead of the grant.
    pub fn warm(&mut self) {
        self.sources.iter_mut().for_each(|slot| slot.source.warm());
        self.producer.iter_mut().for_each(|producer| producer.warm());
    }
}

/// What an executor makes tasks with: the binary's components, and its own connections.
pub struct Workshop {
    registry: Registry,
    context: BuildContext,
    scope: Scope,
    connectors: BTreeMap<String, Box<dyn Connector>>,
}

impl Workshop {
    /// A workshop with no connections yet.
    pub fn new(registry: Registry, context: BuildContext, scope: Scope) -> Self {
        Self { registry, context, scope, connectors: BTreeMap::new() }
    }

    /// Make the parts of a task.
    ///
    /// # Errors
    /// The incident to report: a component this binary lacks, options that do not fit, a client that cannot be made.
    pub fn make(
        &mut self,
        task: &TaskId,
        plan: &StagePlan,
        partitions: &AssignedPartitions,
    ) -> Result<Parts, Incident> {
        let calls = self.context.calls.of_pipeline(&task.pipeline);
        let tasks = partitions.tasks.max(1) as usize;
        let context = BuildContext { tasks, calls, ..self.context.clone() };
        let chain = Chain::build(plan, &self.registry, &context).map_err(|errors| {
            let (operator, error) = &errors[0];
            trouble::cannot_build(operator, error)
        })?;
        let mut sources = Vec::new();
        for (index, source) in plan.sources.iter().enumerate() {
            let own = partitions.sources.get(&source.name).cloned().unwrap_or_default();
            if own.is_empty() {
                continue;
            }
            let spec = SourceSpec {
                task: task.clone(),
                name: source.name.clone(),
                options: source.options.clone(),
                partitions: own,
            };
            let connector = self.connector(&source.connector)?;
            let slot = connector
                .source(&spec)
                .and_then(|reader| Ok((reader, connector.offsets(&spec)?)))
                .map_err(|e| trouble::of_end(&e, &source.name))?;
            sources.push(SourceSlot {
                index,
                spec,
                source: slot.0,
                offsets: slot.1,
                ended: false,
                read_pending: false,
                commit_pending: false,
            });
        }
        let mut producer = self.producer(task, plan)?;
        let mut output = |sink: &SinkPlan| self.output(task, sink, producer.as_deref_mut());
        let outputs = plan.sinks.iter().map(&mut output).collect::<Result<_, _>>()?;
        let dead_letters = plan.dead_letter.as_ref().map(&mut output).transpose()?;
        Ok(Parts { sources, chain, outputs, dead_letters, positions: PositionStore::default(), producer })
    }

    /// Under exactly-once all ends are of one kind and one cluster: the definition was checked for it.
    fn producer(&mut self, task: &TaskId, plan: &StagePlan) -> Result<Option<Box<dyn Producer>>, Incident> {
        if plan.delivery == Delivery::AtLeastOnce {
            return Ok(None);
        }
        let of_source = plan.sources.iter().map(|s| (&s.name, &s.connector, &s.options));
        let of_sink = plan.sinks.iter().map(|s| (&s.name, &s.connector, &s.options));
        let Some((name, connector, options)) = of_sink.chain(of_source).next() else { return Ok(None) };
        let spec = ProducerSpec {
            task: task.clone(),
            options: options.clone(),
            commit_interval: plan.commit_interval,
        };
        let producer = self.connector(connector)?.producer(&spec);
        producer.map(Some).map_err(|e| trouble::of_end(&e, name))
    }

    fn output(
        &mut self,
        task: &TaskId,
        plan: &SinkPlan,
        producer: Option<&mut (dyn Producer + 'static)>,
    ) -> Result<OutputQueue, Incident> {
        let spec = SinkSpec { task: task.clone(), name: plan.name.clone(), options: plan.options.clone() };
        let sink = match producer {
            Some(producer) => producer.sink(&spec),
            None => self.connector(&plan.connector)?.sink(&spec),
        };
        Ok(OutputQueue::new(&plan.name, sink.map_err(|e| trouble::of_end(&e, &plan.name))?))
    }

    fn connector(&mut self, name: &str) -> Result<&mut Box<dyn Connector>, Incident> {
        match self.connectors.entry(name.to_owned()) {
            Entry::Occupied(connected) => Ok(connected.into_mut()),
            Entry::Vacant(free) => match self.registry.find_connector(name) {
                Some(factory) => Ok(free.insert(factory.connect(self.scope.clone()))),
                None => Err(Incident {
                    code: Code::BadPipeline,
                    message: format!("this worker has no connector `{name}`"),
                    remedy: "run workers of the same version as the coordinator".into(),
                    stops_task: true,
                }),
            },
        }
    }
}
