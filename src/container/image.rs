//! Image references.

/// The parts of an image reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// As the container was made with it.
    pub reference: String,
    /// `registry.example.org:5000`, if one is named.
    pub registry: Option<String>,
    /// `team/app`; none if the image was given by its id.
    pub repository: Option<String>,
    /// The last part of the repository: `app`.
    pub name: Option<String>,
    /// The tag; `latest` if neither a tag nor a digest is named.
    pub tag: Option<String>,
    /// `sha256:…`, if one is named.
    pub digest: Option<String>,
    /// The image's id: `sha256:…`.
    pub id: String,
}

impl Image {
    /// Takes a reference such as `registry.example.org:5000/team/app:1.2@sha256:…` to parts.
    pub(super) fn new(reference: &str, id: &str) -> Self {
        let whole = Self {
            reference: reference.to_owned(),
            id: id.to_owned(),
            ..Self::default()
        };
        let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
        if reference.starts_with("sha256:")
            || digits.len() >= 12
                && id
                    .strip_prefix("sha256:")
                    .is_some_and(|id| id.starts_with(digits))
        {
            return whole;
        }
        let (named, digest) = match reference.split_once('@') {
            Some((named, digest)) => (named, Some(digest.to_owned())),
            None => (reference, None),
        };
        // A colon before the last slash is that of the registry's port.
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
