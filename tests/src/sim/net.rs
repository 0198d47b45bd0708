//! gRPC over the simulated network.

use hyper_util::rt::TokioIo;
use pelton_proto::link;
use pelton_worker::Dial;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tonic::transport::{Channel, Uri, server::Connected};
use turmoil::net::{TcpListener, TcpStream};

/// Port of the coordinator.
pub(super) const GRPC: u16 = 7461;

/// The simulated stream, as tonic's server wants it.
pub(super) struct Io(TcpStream);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connections to a port of this host.
pub(super) async fn listen(port: u16) -> io::Result<impl Stream<Item = io::Result<Io>>> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    Ok(futures_util::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| Io(stream)), listener))
    }))
}

/// A connection to the coordinator, with the timeouts of every Pelton client.
pub(super) async fn connect() -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(|_: Uri| async {
        TcpStream::connect(("coordinator", GRPC)).await.map(TokioIo::new)
    });
    link::endpoint("http://coordinator")?.connect_with_connector(connector).await
}

/// The same for a worker.
pub(super) fn dial() -> Dial {
    Arc::new(|| Box::pin(connect()))
}
