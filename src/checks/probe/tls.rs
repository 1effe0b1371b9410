//! TLS to a service: the CAs that this system trusts, or any certificate.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Trouble;
use crate::base::certificate;
use crate::base::text::quote;
use crate::wanted::check::Tls;

/// Each is made when it is first needed. The system's CAs are read once.
#[derive(Debug, Default)]
pub(super) struct Connectors {
    verified: OnceLock<Arc<ClientConfig>>,
    insecure: OnceLock<Arc<ClientConfig>>,
}

impl Connectors {
    /// Speaks TLS with a service whose certificate must have the name in `host`, which may have a port.
    pub async fn connect(
        &self,
        kind: Tls,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let config = match kind {
            Tls::Verified => made(&self.verified, verified),
            Tls::Insecure => made(&self.insecure, insecure),
        };
        let config = config.map_err(Trouble::Unasked)?;
        let bare = without_port(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| Trouble::Failed(format!("no certificate can be for {}", quote(bare))))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| explain(&error))
    }
}

/// The configuration, made now if it is not there. A failure, such as a lack of descriptors, is not remembered.
fn made(
    place: &OnceLock<Arc<ClientConfig>>,
    make: fn() -> Result<Arc<ClientConfig>, String>,
) -> Result<Arc<ClientConfig>, String> {
    if let Some(config) = place.get() {
        return Ok(Arc::clone(config));
    }
    let config = make()?;
    Ok(Arc::clone(place.get_or_init(|| config)))
}

fn verified() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    let (good, _) = trusted.add_parsable_certificates(found.certs);
    if good == 0 {
        return Err(
            "this system has no list of CAs to verify a certificate with: install it, or set `insecure`"
                .to_owned(),
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn insecure() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Trusts every certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The host of `host` or `host:port`, without brackets.
fn without_port(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// An error of the handshake in words.
fn explain(error: &io::Error) -> Trouble {
    let tls = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    Trouble::Failed(match tls {
        Some(rustls::Error::InvalidCertificate(error)) => certificate::explain(
            "its certificate",
            error,
            "by a CA that this system trusts: trust its CA, or set `insecure`",
            "set `host` to one of its names",
        ),
        Some(rustls::Error::InvalidMessage(_)) => {
            "it does not speak TLS: check it by `http`".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("it rejects the TLS connection ({alert:?})")
        }
        Some(other) => format!("cannot speak TLS: {other}"),
        None => return Trouble::of(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_name() {
        for (host, name) in [
            ("a.example:443", "a.example"),
            ("a.example", "a.example"),
            ("10.0.0.1:8443", "10.0.0.1"),
            ("[fd00::1]:8443", "fd00::1"),
            ("fd00::1", "fd00::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
