//! Certificates for tests, made when they are needed: an authority, and what it signs.
//!
//! ```
//! let dir = std::env::temp_dir().join(format!("certificates-{}", std::process::id()));
//! pelton_certificates::write_kit(&dir).unwrap();
//! assert!(dir.join("ca.pem").exists() && dir.join("server.pem").exists());
//! std::fs::remove_dir_all(dir).unwrap();
//! ```

use std::io;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// Names under which a broker on this machine is reached.
pub const LOCAL: &[&str] = &["localhost", "127.0.0.1"];

/// When a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Since yesterday, for a year.
    Now,
    /// It ended an hour ago.
    Expired,
}

/// An authority of a test's own.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Issued {
    /// PEM of the certificate.
    pub certificate: String,
    /// PEM of the private key, PKCS 8.
    pub key: String,
}

impl Issued {
    /// Key and certificate in one file, as Kafka's `ssl.keystore.type=PEM` wants it.
    #[must_use]
    pub fn both(&self) -> String {
        format!("{}{}", self.key, self.certificate)
    }
}

fn failed(error: rcgen::Error) -> io::Error {
    io::Error::other(error.to_string())
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, Validity::Now);
        let key = KeyPair::generate().map_err(failed)?;
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, key).map_err(failed)? })
    }

    /// PEM of its certificate: what clients trust.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these host names and addresses; it serves both ends of a connection.
    ///
    /// # Errors
    /// A name that is none.
    pub fn issue(&self, names: &[&str], validity: Validity) -> io::Result<Issued> {
        let list: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(list).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nobody"));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, validity);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = match validity {
        Validity::Now => (now - Duration::DAY, now + Duration::days(365)),
        Validity::Expired => (now - Duration::days(30), now - Duration::HOUR),
    };
}

/// Writes all that the Kafka for tests and its clients need; `tests/infra/kafka/README.md` lists the files.
///
/// # Errors
/// A file cannot be written.
pub fn write_kit(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let authority = Authority::new("Pelton test authority")?;
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text);
    let kinds = [
        ("server", LOCAL, Validity::Now),
        ("expired", LOCAL, Validity::Expired),
        ("elsewhere", &["elsewhere.example"], Validity::Now),
        ("client", &["client.example"], Validity::Now),
    ];
    for (name, names, validity) in kinds {
        let issued = authority.issue(names, validity)?;
        write(&format!("{name}.pem"), &issued.both())?;
        write(&format!("{name}.crt"), &issued.certificate)?;
        write(&format!("{name}.key"), &issued.key)?;
    }
    let stranger = Authority::new("Nobody trusts this one")?;
    let foreign = stranger.issue(&["client.example"], Validity::Now)?;
    write("stranger-client.crt", &foreign.certificate)?;
    write("stranger-client.key", &foreign.key)?;
    write("stranger-ca.pem", &stranger.certificate())?;
    write("ca.pem", &authority.certificate())
}
