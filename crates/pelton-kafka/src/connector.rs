//! Makes sources, sinks and offsets of one executor, over clients they share.

use crate::{
    alarm::Alarm,
    catalog::KafkaCatalog,
    consumer::SharedConsumer,
    counts::Counts,
    link::{Link, Links},
    offsets::KafkaOffsets,
    options::{SinkOptions, SourceOptions},
    places::ReadTopics,
    producer::SharedProducer,
    settings::{self, KafkaOptions, ProducerKey, QueueShare},
    sink::KafkaSink,
    source::KafkaSource,
    transaction::{KafkaProducer, Surroundings},
};
use pelton_sdk::{
    Connector, ConnectorFactory, EndError, Offsets, OptionError, Producer, ProducerSpec, Scope, Sink,
    SinkSpec, Source, SourceShape, SourceSpec, TopicCatalog,
};
use pelton_types::Code;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Kafka, under the key `kafka`.
pub struct KafkaFactory {
    links: Arc<Links>,
    alarm: Alarm,
    /// By [`Link::label`].
    catalogs: Mutex<HashMap<String, Arc<KafkaCatalog>>>,
}

impl KafkaFactory {
    /// A factory for clusters. Connects to nothing yet. Every mistake in the options is returned.
    pub fn new(options: KafkaOptions) -> Result<Self, Vec<OptionError>> {
        options.check()?;
        Ok(Self { links: Arc::new(Links::new(&options)), alarm: Alarm::new(), catalogs: Mutex::default() })
    }

    /// Whether every secret of the connections is where it should be; each that is not, with what to do. For a process
    /// that is about to run pipelines: what is missing then would show much later.
    pub fn check_secrets(&self) -> Result<(), Vec<OptionError>> {
        let missing = |(name, link): (&String, &Arc<Link>)| {
            let why = link.secrets().err()?;
            Some(OptionError::at(format!("/connections/{name}"), format!("connection `{name}`: {why}")))
        };
        let errors: Vec<_> = self.links.all().filter_map(missing).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What of the connections lets others read or answer in a broker's place.
    pub fn warnings(&self) -> Vec<String> {
        self.links
            .all()
            .filter_map(|(name, link)| link.warning().map(|why| format!("connection `{name}`: {why}")))
            .collect()
    }

    fn check_connection(&self, connection: Option<&str>) -> Result<(), Vec<OptionError>> {
        let fault = self.links.fault(connection);
        fault.map_or(Ok(()), |fault| Err(vec![OptionError::at("/connection", fault)]))
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
        self.check_connection(options.connection.as_deref())?;
        Ok(SourceShape { topics: options.topics, partitions: None, bounded: false })
    }

    fn check_sink(&self, options: &Value) -> Result<Vec<String>, Vec<OptionError>> {
        let options = SinkOptions::parse(options)?;
        self.check_connection(options.connection.as_deref())?;
        Ok(vec![options.topic])
    }

    fn catalog(&self, options: &Value) -> Option<Arc<dyn TopicCatalog>> {
        let (connection, brokers) = cluster_of(options);
        // A name that is not known is an error of the check; asking on behalf of it leads to the same error.
        let link = self.links.of(connection, brokers);
        let label = link.as_ref().map_or_else(Clone::clone, |link| link.label.clone());
        let mut catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        Some(catalogs.entry(label).or_insert_with(|| Arc::new(KafkaCatalog::new(link))).clone())
    }

    fn cluster(&self, options: &Value) -> Option<String> {
        let (connection, brokers) = cluster_of(options);
        Some(self.links.label(connection, brokers))
    }

    fn connect(&self, scope: Scope) -> Box<dyn Connector> {
        Box::new(KafkaConnector {
            links: self.links.clone(),
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
    links: Arc<Links>,
    alarm: Alarm,
    scope: Scope,
    counts: Counts,
    read_topics: ReadTopics,
    /// By [`Link::label`] and group.
    consumers: HashMap<(String, String), Weak<SharedConsumer>>,
    producers: HashMap<ProducerKey, Weak<SharedProducer>>,
}

impl KafkaConnector {
    fn link(&self, connection: Option<&str>, brokers: Option<&str>) -> Result<Arc<Link>, EndError> {
        self.links.of(connection, brokers).map_err(|why| EndError::stop(Code::BadConnection, why))
    }

    fn consumer(
        &mut self,
        spec: &SourceSpec,
        options: &SourceOptions,
    ) -> Result<Arc<SharedConsumer>, EndError> {
        let link = self.link(options.connection.as_deref(), options.brokers.as_deref())?;
        let key = (link.label.clone(), spec.task.pipeline.group_id());
        if let Some(consumer) = self.consumers.get(&key).and_then(Weak::upgrade) {
            return Ok(consumer);
        }
        // Room for as many partitions again: more tasks may come to this executor, and the bound cannot change.
        let share = QueueShare::of(self.scope.queue_bytes, 2 * spec.partitions.len());
        let properties = settings::consumer(&link, self.scope.executor, &key.1, share);
        let wake = &self.scope.wake;
        let consumer = SharedConsumer::new(&link, &key.1, &properties, wake, &self.alarm, &self.counts)?;
        self.consumers.retain(|_, c| c.strong_count() > 0);
        self.consumers.insert(key, Arc::downgrade(&consumer));
        Ok(consumer)
    }

    fn producer(&mut self, options: &SinkOptions) -> Result<Arc<SharedProducer>, EndError> {
        let link = self.link(options.connection.as_deref(), options.brokers.as_deref())?;
        let key = ProducerKey {
            link: link.label.clone(),
            compression: options.compression,
            linger: options.linger,
            in_flight_bytes: options.max_in_flight.unwrap_or(self.scope.queue_bytes / 2).max(1 << 20),
        };
        if let Some(producer) = self.producers.get(&key).and_then(Weak::upgrade) {
            return Ok(producer);
        }
        let properties = settings::producer(&link, &key, self.scope.executor);
        let producer = SharedProducer::new(&link, properties, &self.scope.wake, &self.alarm, &self.counts)?;
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

    fn producer(&mut self, spec: &ProducerSpec) -> Result<Box<dyn Producer>, EndError> {
        let (connection, brokers) = cluster_of(&spec.options);
        let link = self.link(connection, brokers)?;
        let key = (link.label.clone(), spec.task.pipeline.group_id());
        let Some(consumer) = self.consumers.get(&key).and_then(Weak::upgrade) else {
            let text = format!("no source of task {} reads from {}", spec.task, link.label);
            return Err(EndError::stop(Code::BadPipeline, text));
        };
        let with = Surroundings {
            consumer: &consumer,
            counts: &self.counts,
            read_topics: &self.read_topics,
            wake: &self.scope.wake,
            alarm: &self.alarm,
            executor: self.scope.executor,
            queue_bytes: self.scope.queue_bytes,
        };
        Ok(Box::new(KafkaProducer::new(&link, spec, &with)))
    }
}

/// What an end's options say of its cluster, right or wrong otherwise.
fn cluster_of(options: &Value) -> (Option<&str>, Option<&str>) {
    let text = |key: &str| options.get(key).and_then(Value::as_str);
    (text("connection"), text("brokers"))
}

pub(crate) fn refused(end: &str, name: &str, errors: &[OptionError]) -> EndError {
    let all: Vec<_> =
        errors.iter().map(|e| format!("{} {}", e.pointer, e.message).trim().to_owned()).collect();
    EndError::stop(Code::BadPipeline, format!("{end} {name}: {}", all.join("; ")))
}
