//! TLS to Redis: the trusted CAs, our own certificate, and errors explained to an operator.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::base::{certificate, file};
use crate::store::Tls;

/// Speaks TLS with a server. The files are read each time, because they get renewed. `name` is `host:port`.
pub async fn connect(tls: &Tls, name: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let config = config(tls).map_err(|error| io::Error::other(OwnFault(error)))?;
    let name = tls.server_name.as_deref().unwrap_or_else(|| host(name));
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// An error in our own files, so no other server can help.
#[derive(Debug)]
pub struct OwnFault(pub anyhow::Error);

impl std::fmt::Display for OwnFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for OwnFault {}

/// Explains an error of a connection to Redis at `at`, which is quoted; none if it is not about TLS.
pub fn explain(tls: &Tls, at: &str, error: &io::Error) -> Option<String> {
    let error = error.get_ref()?;
    Some(match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => explain_certificate(tls, at, error),
        rustls::Error::InvalidMessage(_) => {
            format!(
                "Redis at {at} does not speak TLS: write redis:// before it, and leave out --store-cacert and the like"
            )
        }
        // With TLS 1.2, Redis refuses our certificate this way; with TLS 1.3, at the first answer.
        rustls::Error::AlertReceived(alert) => format!(
            "Redis at {at} rejects our TLS connection ({alert:?}); {}",
            when_refused(tls)
        ),
        other => format!("cannot speak TLS with Redis at {at}: {other}"),
    })
}

/// The remedy if Redis closes the connection after it has seen our certificate, or that we have none.
pub fn when_refused(tls: &Tls) -> String {
    match &tls.identity {
        None => "it asks for a certificate unless it has `tls-auth-clients no`: pass --store-cert FILE and --store-key FILE"
            .to_owned(),
        Some((path, _)) => format!(
            "the certificate in `{}` must not have expired, and a CA in Redis's `tls-ca-cert-file` must have signed it \
             (Redis's log tells the cause)",
            path.display()
        ),
    }
}

fn explain_certificate(tls: &Tls, at: &str, error: &CertificateError) -> String {
    let signed = match &tls.authorities {
        Some(path) => format!(
            "by a CA in `{}`: put the CA that signed it there",
            path.display()
        ),
        None => "by a CA that this system trusts: pass --store-cacert FILE".to_owned(),
    };
    let wrong_name = "pass --store-server-name NAME with one of its names";
    let whose = format!("the certificate of Redis at {at}");
    certificate::explain(&whose, error, &signed, wrong_name)
}

fn config(tls: &Tls) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities(tls)?);
    let Some((certificate, key)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read_certificates(certificate, "the certificate for Redis")?;
    let key_path = key.display();
    let key = read(key, "the key of the certificate for Redis")?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .with_context(|| format!("there is no private key in PEM format in `{key_path}`"))?;
    builder.with_client_auth_cert(chain, key).with_context(|| {
        let certificate = certificate.display();
        format!("the key in `{key_path}` does not match the certificate in `{certificate}`")
    })
}

fn authorities(tls: &Tls) -> anyhow::Result<RootCertStore> {
    let mut trusted = RootCertStore::empty();
    let certificates = match &tls.authorities {
        Some(path) => read_certificates(path, "Redis's CA")?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    // Certificates that cannot be parsed are skipped, as in other programs.
    let (good, _) = trusted.add_parsable_certificates(certificates);
    match &tls.authorities {
        _ if good > 0 => Ok(trusted),
        Some(path) => Err(anyhow!(
            "no certificate in `{}` can be Redis's CA: the file is garbled",
            path.display()
        )),
        None => Err(anyhow!(
            "this system has no list of CAs to verify Redis with: pass --store-cacert FILE"
        )),
    }
}

/// The certificates in a file, at least one.
fn read_certificates(path: &Path, what: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = read(path, what)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot parse {what} in `{}`", path.display()))?;
    if certificates.is_empty() {
        bail!(
            "there is no certificate in PEM format in `{}`",
            path.display()
        );
    }
    Ok(certificates)
}

fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    file::read(path).with_context(|| format!("cannot read {what} from `{}`", path.display()))
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(name: &str) -> &str {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_a_certificate_has_no_port_and_no_brackets() {
        for (name, wanted) in [
            ("redis:6379", "redis"),
            ("10.0.0.1:6379", "10.0.0.1"),
            ("[fd00::1]:6379", "fd00::1"),
        ] {
            assert_eq!(host(name), wanted);
        }
    }
}
