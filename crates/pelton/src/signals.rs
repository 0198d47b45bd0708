//! SIGTERM and Ctrl-C as one thing: the first asks for a clean end, the second ends at once.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Turns true at the first signal. The second exits the process.
///
/// # Errors
/// When the system refuses to deliver signals.
pub fn shutdown() -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count += 1;
            if count > 1 {
                // As shells report a process that SIGINT ended.
                std::process::exit(130);
            }
            sender.send_replace(true);
        }
    });
    Ok(receiver)
}

/// Resolves when the receiver turns true.
pub async fn requested(mut shutdown: watch::Receiver<bool>) {
    // The sender lives as long as the process.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
