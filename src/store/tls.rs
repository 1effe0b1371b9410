//! TLS to a store: the trusted CAs, our own certificate, and errors explained to an operator.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use crate::base::{certificate, file};

/// The certificates of a store and of this program. The files are read at each connection, because they get renewed.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The file with the CAs for the store's certificate; none is the CAs that this system trusts.
    pub authorities: Option<PathBuf>,
    /// The files with our own certificate and its key, if the store requires one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the store's certificate must have; none is the endpoint's.
    pub server_name: Option<String>,
}

/// A store's words in messages about TLS.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// Its name: `etcd`.
    pub store: &'static str,
    /// The beginning of the flags about it: `--etcd`.
    pub flags: &'static str,
    /// The beginning of an endpoint that does not use TLS: `http://`.
    pub plain: &'static str,
    /// Its setting with the CAs of its clients: `--trusted-ca-file`.
    pub client_ca: &'static str,
}

/// Our own certificate with its chain, and its key, both in PEM format.
pub struct Pem {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// Whether a certificate can have this name.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl Tls {
    /// The CAs that the store's certificate is checked against; none is those that this system trusts. An error names
    /// the file that cannot be used.
    pub fn read_authorities(
        &self,
        words: &Words,
    ) -> anyhow::Result<Option<Vec<TrustAnchor<'static>>>> {
        let path = self.authorities.as_deref();
        path.map(|path| read_authorities(path, words.store))
            .transpose()
    }

    /// Our own certificate, if there is one. An error names the file that cannot be used.
    pub fn read_identity(&self, words: &Words) -> anyhow::Result<Option<Pem>> {
        let files = self.identity.as_ref();
        files
            .map(|(certificate, key)| read_identity(certificate, key, words.store))
            .transpose()
    }

    /// Explains an error of a connection to the store at `at`; none if it is not about TLS.
    pub fn explain(
        &self,
        words: &Words,
        at: &str,
        cause: &(dyn Error + 'static),
    ) -> Option<String> {
        let Words {
            store,
            flags,
            plain,
            ..
        } = words;
        // The client wraps it in an I/O error.
        let error = cause.downcast_ref::<io::Error>()?.get_ref()?;
        Some(match error.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(error) => self.explain_certificate(words, at, error),
            rustls::Error::InvalidMessage(_) => {
                format!(
                    "{store} at {at} does not speak TLS: write {plain} before it, and leave out {flags}-cacert and the like"
                )
            }
            // With TLS 1.2, a store refuses our certificate this way; with TLS 1.3, only other things.
            rustls::Error::AlertReceived(alert) => {
                format!(
                    "{store} at {at} rejects our TLS connection ({alert:?}); {}",
                    self.when_refused(words)
                )
            }
            other => format!("cannot speak TLS with {store} at {at}: {other}"),
        })
    }

    fn explain_certificate(&self, words: &Words, at: &str, error: &CertificateError) -> String {
        let Words { store, flags, .. } = words;
        let signed = match &self.authorities {
            Some(path) => format!(
                "by a CA in `{}`: put the CA that signed it there",
                path.display()
            ),
            None => format!("by a CA that this system trusts: pass {flags}-cacert FILE"),
        };
        let wrong_name = format!("pass {flags}-server-name NAME with one of its names");
        let whose = format!("the certificate of {store} at {at}");
        certificate::explain(&whose, error, &signed, &wrong_name)
    }

    /// The remedy if the store closes the connection after it has seen our certificate, or that we have none.
    pub fn when_refused(&self, words: &Words) -> String {
        let Words {
            store,
            flags,
            client_ca,
            ..
        } = words;
        match &self.identity {
            None => {
                format!("if it requires a certificate, pass {flags}-cert FILE and {flags}-key FILE")
            }
            Some((path, _)) => format!(
                "the certificate in `{}` must not have expired, and a CA in {store}'s {client_ca} must have signed \
                 it ({store}'s log tells the cause)",
                path.display()
            ),
        }
    }
}

fn read_authorities(path: &Path, store: &str) -> anyhow::Result<Vec<TrustAnchor<'static>>> {
    let (_, certificates) = read_certificates(path, &format!("{store}'s CA"))?;
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be parsed are skipped, as in other programs.
    let (good, _) = roots.add_parsable_certificates(certificates);
    if good == 0 {
        bail!(
            "no certificate in `{}` can be {store}'s CA: the file is garbled",
            path.display()
        );
    }
    Ok(roots.roots)
}

fn read_identity(certificate: &Path, key: &Path, store: &str) -> anyhow::Result<Pem> {
    let what = format!("the certificate for {store}");
    let (chain, certificates) = read_certificates(certificate, &what)?;
    let key_path = key.display();
    let key = read(key, &format!("the key of {what}"))?;
    let parsed = PrivateKeyDer::from_pem_slice(&key)
        .with_context(|| format!("there is no private key in PEM format in `{key_path}`"))?;
    CertifiedKey::from_der(certificates, parsed, &ring::default_provider()).with_context(|| {
        let certificate = certificate.display();
        format!("the key in `{key_path}` does not match the certificate in `{certificate}`")
    })?;
    Ok(Pem { chain, key })
}

/// The text of the file, and the certificates in it, at least one.
fn read_certificates(
    path: &Path,
    what: &str,
) -> anyhow::Result<(Vec<u8>, Vec<CertificateDer<'static>>)> {
    let text = read(path, what)?;
    let path = path.display();
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot parse {what} in `{path}`"))?;
    if certificates.is_empty() {
        bail!("there is no certificate in PEM format in `{path}`");
    }
    Ok((text, certificates))
}

fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    file::read(path).with_context(|| format!("cannot read {what} from `{}`", path.display()))
}
