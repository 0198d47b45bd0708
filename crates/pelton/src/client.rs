//! Connections of the command line to a coordinator.

use crate::exit::Failure;
use pelton_proto::{MAX_MESSAGE_BYTES, link, v1};
use pelton_types::causes;
use std::time::Duration;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use v1::{cluster_client::ClusterClient, pipelines_client::PipelinesClient, records_client::RecordsClient};

/// A coordinator's address, for a role.
pub fn endpoint(address: &str) -> Result<Endpoint, Failure> {
    link::endpoint(address).map_err(|e| {
        Failure::bad(format!(
            "the coordinator's address `{address}` is not one such as http://127.0.0.1:7461: {e}"
        ))
    })
}

/// A coordinator that can be asked.
#[derive(Clone)]
pub struct Client {
    /// Pipelines.
    pub pipelines: PipelinesClient<Channel>,
    /// Workers and tasks.
    pub cluster: ClusterClient<Channel>,
    /// Live records.
    pub records: RecordsClient<Channel>,
}

impl Client {
    /// Connect.
    ///
    /// # Errors
    /// When nothing answers at the address, with what to do.
    pub async fn connect(address: &str) -> Result<Client, Failure> {
        let endpoint = link::endpoint(address).map_err(|e| {
            Failure::bad(format!("`{address}` is not an address such as http://127.0.0.1:7461: {e}"))
        })?;
        let channel = endpoint.connect().await.map_err(|e| {
            Failure::unavailable(format!(
                "no coordinator answers at {address} ({}); start one with `pelton coordinator` or `pelton dev`, \
                 or name it with --coordinator or PELTON_COORDINATOR",
                causes::innermost(&e)
            ))
        })?;
        Ok(Client {
            pipelines: PipelinesClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            cluster: ClusterClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            records: RecordsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
        })
    }
}

/// A unary request with the usual deadline.
pub fn ask<T>(message: T) -> Request<T> {
    within(message, link::CALL_TIMEOUT)
}

/// A unary request with a deadline of its own.
pub fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// A pipeline by namespace and name.
pub fn pipeline(namespace: &str, name: &str) -> v1::PipelineRef {
    v1::PipelineRef { namespace: namespace.to_owned(), name: name.to_owned() }
}
