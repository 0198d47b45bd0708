//! `pelton health`: asks a role whether it is ready, for health checks of containers that have no other program.

use crate::{cli::HealthArgs, exit::Failure};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A role answers at once or is in trouble.
const LIMIT: Duration = Duration::from_secs(2);
/// Far more than the longest answer.
const MOST_BYTES: u64 = 64 << 10;

/// `pelton health`
pub async fn health(args: &HealthArgs) -> Result<(), Failure> {
    let address = args.address.trim_start_matches("http://").trim_end_matches('/');
    let path = if args.live { "/livez" } else { "/readyz" };
    let answer = match timeout(LIMIT, ask(address, path)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => return Err(Failure::unavailable(format!("nobody answers at {address}: {e}"))),
        Err(_) => return Err(Failure::unavailable(format!("no answer from {address} within {LIMIT:?}"))),
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if answer.starts_with("HTTP/1.1 200 ") {
        crate::output::print(body);
        return Ok(());
    }
    Err(Failure::unexpected(format!("{address} is not well: {body}")))
}

async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
