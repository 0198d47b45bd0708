//! TLS of a listener: certificates from files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::ServeError;

/// Files are looked at again with the first handshake after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The files of a listener with TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key, not encrypted. May be the same file.
    pub key: PathBuf,
    /// Authorities whose certificates clients must have one of; `None` asks clients for no certificate.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    fn all(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// Tells by which the files differ when they change; `None` for one that is not there.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let stamp =
            |path: &Path| path.metadata().ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        self.all().map(stamp).collect()
    }

    fn read(&self) -> Result<ServerConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| {
            format!("no private key in {}: {error}; it must be PEM and not encrypted", self.key.display())
        })?;
        let wrong = |error: rustls::Error| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            format!("the certificate in {certificate} and the key in {key}: {error}")
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let failed = |error| format!("the authorities of clients in {}: {error}", path.display());
                builder.with_client_cert_verifier(verifier.map_err(failed)?)
            }
        };
        builder.with_single_cert(certificates, key).map_err(wrong)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("no certificate in {}: {error}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() { Err(format!("no certificate in {}", path.display())) } else { Ok(found) }
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the files as they were last read, in vain or not.
    stamps: Vec<Option<(SystemTime, u64)>>,
    looked: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

impl Tls {
    pub fn load(files: TlsFiles) -> Result<Self, ServeError> {
        let stamps = files.stamps();
        let config = Arc::new(files.read().map_err(ServeError::Tls)?);
        Ok(Self { files, loaded: Mutex::new(Loaded { config, stamps, looked: Instant::now() }) })
    }

    /// Whether clients must have a certificate.
    pub fn knows_clients(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// The server's end of a new connection.
    pub fn connection(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(self.config())
    }

    /// What to shake hands with. If files changed, they are read first; those that cannot be used are reported, and the
    /// old ones stay.
    fn config(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() >= LOOK_AGAIN {
            loaded.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != loaded.stamps {
                loaded.stamps = stamps;
                match self.files.read() {
                    Ok(config) => {
                        loaded.config = Arc::new(config);
                        tracing::info!(certificate = %self.files.certificate.display(), "read a new certificate");
                    }
                    Err(reason) => {
                        tracing::error!(reason, "cannot use the changed certificate files; the old ones stay")
                    }
                }
            }
        }
        Arc::clone(&loaded.config)
    }
}
