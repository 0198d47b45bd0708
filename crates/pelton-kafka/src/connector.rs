//! Makes sources, sinks and offsets of one executor, over clients they share.

use crate::{
    alarm::Alarm,
    catalog::KafkaCatalog,
    consumer::SharedConsumer,
    counts::Counts,
    offsets::KafkaOffsets,
    options::{SinkOptions, SourceOptions},
    producer::SharedProducer,
    settings::{self, KafkaOptions, ProducerKey, QueueShare},
    sink::{KafkaSink, ReadTopics},
    source::KafkaSource,
};
use pelton_sdk::{
    Connector, ConnectorFactory, EndError, Offsets, OptionError, Scope, Sink, SinkSpec, Source, SourceShape,
    SourceSpec, TopicCatalog,
};
use pelton_types::Code;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, Weak},
};

/// Kafka, under the key `kafka`.
pub struct KafkaFactory {
    options: KafkaOptions,
    alarm: Alarm,
    catalog: Arc<KafkaCatalog>,
}

impl KafkaFactory {
    /// A factory for a cluster. Connects to nothing yet. Every mistake in the options is returned.
    pub fn new(options: KafkaOptions) -> Result<Self, Vec<OptionError>> {
        options.check()?;
        let catalog = Arc::new(KafkaCatalog::new(options.clone()));
        Ok(Self { options, alarm: Alarm::new(), catalog })
    }
}

impl ConnectorFactory for KafkaFactory {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn summary(&self) -> &'static str {
        "topics of Apache Kafka, or of whatever speaks its protocol"
    }

    fn source_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(SourceOptions))
    }

    fn sink_schema(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(SinkOptions))
    }

    fn check_source(&self, options: &Value) -> Result<SourceShape, Vec<OptionError>> {
        let options = SourceOptions::parse(options)?;
        Ok(SourceShape { topics: options.topics, partitions: None, bounded: false })
    }

    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        Ok(vec![SinkOptions::parse(options)?.topic])
    }

    fn catalog(&self, _: &Value) -> Option<Arc<dyn TopicCatalog>> {
        Some(self.catalog.clone())
    }

    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(KafkaConnector {
            options: self.options.clone(),
            alarm: self.alarm.clone(),
            scope,
            counts: Counts::default(),
            read_topics: ReadTopics::default(),
            consumers: HashMap::new(),
            producers: HashMap::new(),
        })
    }
}

/// The clients of one executor. They live as long as a source, sink or offsets uses them.
struct KafkaConnector {
    options: KafkaOptions,
    alarm: Alarm,
    scope: Scope,
    counts: Counts,
    read_topics: ReadTopics,
    /// By bootstrap address and group.
    consumers: HashMap<(String, String), Weak<SharedConsumer>>,
    producers: HashMap<ProducerKey, Weak<SharedProducer>>,
}

impl KafkaConnector {
    fn consumer(
        &mut self,
        spec: &SourceSpec,
        options: &SourceOptions,
    ) -> Result<Arc<SharedConsumer>, EndError> {
        let bootstrap = options.brokers.clone().unwrap_or_else(|| self.options.bootstrap.clone());
        let key = (bootstrap.clone(), spec.task.pipeline.group_id());
        if let Some(consumer) = self.consumers.get(&key).and_then(Weak::upgrade) {
            return Ok(consumer);
        }
        // Room for as many partitions again: more tasks may come to this executor, and the bound cannot change.
        let share = QueueShare::of(self.scope.queue_bytes, 2 * spec.partitions.len());
        let properties = settings::consumer(&self.options, &bootstrap, self.scope.executor, &key.1, share);
        let consumer = SharedConsumer::new(
            &bootstrap,
            &key.1,
            &properties,
            &self.scope.wake,
            &self.alarm,
            &self.counts,
        )?;
        self.consumers.retain(|_, c| c.strong_count() > 0);
        self.consumers.insert(key, Arc::downgrade(&consumer));
        Ok(consumer)
    }

    fn producer(&mut self, options: &SinkOptions) -> Result<Arc<SharedProducer>, EndError> {
        let key = ProducerKey {
            bootstrap: options.brokers.clone().unwrap_or_else(|| self.options.bootstrap.clone()),
            compression: options.compression,
            linger: options.linger,
            in_flight_bytes: options.max_in_flight.unwrap_or(self.scope.queue_bytes / 2).max(1 << 20),
        };
        if let Some(producer) = self.producers.get(&key).and_then(Weak::upgrade) {
            return Ok(producer);
        }
        let properties = settings::producer(&self.options, &key, self.scope.executor);
        let producer = SharedProducer::new(&key, properties, &self.scope.wake, &self.alarm, &self.counts)?;
        self.producers.retain(|_, p| p.strong_count() > 0);
        self.producers.insert(key, Arc::downgrade(&producer));
        Ok(producer)
    }
}

impl Connector for KafkaConnector {
    fn source(&mut self, spec: &SourceSpec) -> Result<Box<dyn Source>, EndError> {
        let options = SourceOptions::parse(&spec.options).map_err(|e| refused("source", &spec.name, &e))?;
        let consumer = self.consumer(spec, &options)?;
        let mut read = self.read_topics.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in &options.topics {
            read.insert(topic.clone(), Arc::downgrade(&consumer));
        }
        Ok(Box::new(KafkaSource::new(consumer, spec.partitions.clone())))
    }

    fn sink(&mut self, spec: &SinkSpec) -> Result<Box<dyn Sink>, EndError> {
        let options = SinkOptions::parse(&spec.options).map_err(|e| refused("sink", &spec.name, &e))?;
        let producer = self.producer(&options)?;
        Ok(Box::new(KafkaSink::new(producer, self.read_topics.clone(), options.topic)))
    }

    fn offsets(&mut self, spec: &SourceSpec) -> Result<Box<dyn Offsets>, EndError> {
        let options = SourceOptions::parse(&spec.options).map_err(|e| refused("source", &spec.name, &e))?;
        let consumer = self.consumer(spec, &options)?;
        Ok(Box::new(KafkaOffsets::new(consumer, self.alarm.clone(), options.start)))
    }
}

fn refused(end: &str, name: &str, errors: &[OptionError]) -> EndError {
    let all: Vec<_> =
        errors.iter().map(|e| format!("{} {}", e.pointer, e.message).trim().to_owned()).collect();
    EndError::stop(Code::BadPipeline, format!("{end} {name}: {}", all.join("; ")))
}
