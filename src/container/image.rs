//! Image references, taken apart as Docker does it. The parts are what a policy names services by.

/// The fewest digits of an id that are taken for it.
const MIN_DIGITS: usize = 4;

/// The parts of an image reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// As it was given when the container was created.
    pub reference: String,
    /// `registry.example.org:5000`, if given.
    pub registry: Option<String>,
    /// `team/app`; none for an image given by its id.
    pub repository: Option<String>,
    /// The last part of the repository: `app`.
    pub name: Option<String>,
    /// `latest` if neither a tag nor a digest is given.
    pub tag: Option<String>,
    /// `sha256:…`, if given.
    pub digest: Option<String>,
    /// The id, `sha256:…`.
    pub id: String,
}

impl Image {
    /// Splits a reference such as `registry.example.org:5000/team/app:1.2@sha256:…`.
    pub(super) fn new(reference: &str, id: &str) -> Self {
        let whole = Self {
            reference: reference.to_owned(),
            id: id.to_owned(),
            ..Self::default()
        };
        if is_id(reference, id) {
            return whole;
        }
        let (named, digest) = match reference.split_once('@') {
            Some((named, digest)) => (named, Some(digest.to_owned())),
            None => (reference, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let slash = named.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match named[slash..].find(':') {
            Some(colon) => (
                &named[..slash + colon],
                Some(named[slash + colon + 1..].to_owned()),
            ),
            None => (named, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (Some(first.to_owned()), rest)
            }
            _ => (None, path),
        };
        let present = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            registry,
            repository: present(repository),
            name: repository.rsplit('/').next().and_then(present),
            tag: tag.or_else(|| digest.is_none().then(|| "latest".to_owned())),
            digest,
            ..whole
        }
    }
}

/// Whether a reference is the image's id, whole or its beginning, with or without `sha256:`.
fn is_id(reference: &str, id: &str) -> bool {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    reference.starts_with("sha256:")
        || reference.len() >= MIN_DIGITS && digits.starts_with(reference)
}
