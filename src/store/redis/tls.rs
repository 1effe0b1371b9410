//! TLS to Redis, over our own connections.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use anyhow::bail;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::NAME;
use crate::store::tls::{Pem, Tls, Words};

/// Redis's words in messages about TLS.
pub const WORDS: Words = Words {
    store: NAME,
    flags: "--store",
    plain: "redis://",
    client_ca: "tls-ca-cert-file",
};

/// An error in our own files, so no other server can help.
#[derive(Debug)]
pub struct OwnFault(anyhow::Error);

impl fmt::Display for OwnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl Error for OwnFault {}

/// Speaks TLS with a server. The files are read each time, because they get renewed. `name` is `host:port`.
pub async fn connect(tls: &Tls, name: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let config = config(tls).map_err(|error| io::Error::other(OwnFault(error)))?;
    let name = tls.server_name.as_deref().unwrap_or_else(|| host(name));
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn config(tls: &Tls) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities(tls)?);
    let Some(Pem { chain, key }) = tls.read_identity(&WORDS)? else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    Ok(builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?)
}

fn authorities(tls: &Tls) -> anyhow::Result<RootCertStore> {
    if let Some(roots) = tls.read_authorities(&WORDS)? {
        return Ok(RootCertStore { roots });
    }
    let mut trusted = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Certificates that cannot be parsed are skipped, as in other programs.
    let (good, _) = trusted.add_parsable_certificates(found.certs);
    if good == 0 {
        bail!("this system has no list of CAs to verify Redis with: pass --store-cacert FILE");
    }
    Ok(trusted)
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
