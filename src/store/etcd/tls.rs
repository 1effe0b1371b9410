//! TLS to etcd: the trusted CAs, our own certificate, and errors explained to an operator.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use etcd_client::{Identity, TlsOptions};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use crate::base::{certificate, file};

/// The certificates of etcd and of this program. The files are read at each connection, because they get renewed.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The file with the CAs for etcd's certificate; none is the CAs that this system trusts.
    pub authorities: Option<PathBuf>,
    /// The files with our own certificate and its key, if etcd requires one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that etcd's certificate must have; none is the endpoint's.
    pub server_name: Option<String>,
}

/// Whether a certificate can have this name.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl Tls {
    pub(super) fn options(&self) -> anyhow::Result<TlsOptions> {
        let mut options = match &self.authorities {
            Some(path) => TlsOptions::new().trust_anchors(read_authorities(path)?),
            None => TlsOptions::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            options = options.identity(read_identity(certificate, key)?);
        }
        if let Some(name) = &self.server_name {
            options = options.domain_name(name);
        }
        Ok(options)
    }

    /// Explains an error of a connection to etcd at `at`; none if it is not about TLS.
    pub(super) fn explain(&self, at: &str, cause: &(dyn Error + 'static)) -> Option<String> {
        // The client wraps it in an I/O error.
        let error = cause.downcast_ref::<io::Error>()?.get_ref()?;
        Some(match error.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(error) => self.explain_certificate(at, error),
            rustls::Error::InvalidMessage(_) => {
                format!(
                    "etcd at {at} does not speak TLS: write http:// before it, and leave out --etcd-cacert and the like"
                )
            }
            // With TLS 1.2, etcd refuses our certificate this way; with TLS 1.3, only other things.
            rustls::Error::AlertReceived(alert) => {
                format!(
                    "etcd at {at} rejects our TLS connection ({alert:?}); {}",
                    self.when_refused()
                )
            }
            other => format!("cannot speak TLS with etcd at {at}: {other}"),
        })
    }

    fn explain_certificate(&self, at: &str, error: &CertificateError) -> String {
        let signed = match &self.authorities {
            Some(path) => format!(
                "by a CA in `{}`: put the CA that signed it there",
                path.display()
            ),
            None => "by a CA that this system trusts: pass --etcd-cacert FILE".to_owned(),
        };
        let wrong_name = "pass --etcd-server-name NAME with one of its names";
        let whose = format!("the certificate of etcd at {at}");
        certificate::explain(&whose, error, &signed, wrong_name)
    }

    /// The remedy if etcd closes the connection after it has seen our certificate, or that we have none.
    pub(super) fn when_refused(&self) -> String {
        match &self.identity {
            None => {
                "if it requires a certificate, pass --etcd-cert FILE and --etcd-key FILE".to_owned()
            }
            Some((path, _)) => format!(
                "the certificate in `{}` must not have expired, and a CA in etcd's --trusted-ca-file must have signed \
                 it (etcd's log tells the cause)",
                path.display()
            ),
        }
    }
}

fn read_authorities(path: &Path) -> anyhow::Result<Vec<TrustAnchor<'static>>> {
    let (_, certificates) = read_certificates(path, "etcd's CA")?;
    let mut store = RootCertStore::empty();
    // Certificates that cannot be parsed are skipped, as in other programs.
    let (good, _) = store.add_parsable_certificates(certificates);
    if good == 0 {
        bail!(
            "no certificate in `{}` can be etcd's CA: the file is garbled",
            path.display()
        );
    }
    Ok(store.roots)
}

fn read_identity(certificate: &Path, key: &Path) -> anyhow::Result<Identity> {
    let (chain, certificates) = read_certificates(certificate, "the certificate for etcd")?;
    let key_path = key.display();
    let key = read(key, "the key of the certificate for etcd")?;
    let parsed = PrivateKeyDer::from_pem_slice(&key)
        .with_context(|| format!("there is no private key in PEM format in `{key_path}`"))?;
    CertifiedKey::from_der(certificates, parsed, &ring::default_provider()).with_context(|| {
        let certificate = certificate.display();
        format!("the key in `{key_path}` does not match the certificate in `{certificate}`")
    })?;
    Ok(Identity::from_pem(chain, key))
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
