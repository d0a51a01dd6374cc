//! Images and their signatures, to a registry and from it.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderName, Method, Response, StatusCode};
use hyper::body::Incoming;

use super::error::{RegistryError, Why};
use super::http::{Ask, Http, Options};
use super::reference::Reference;
use crate::attached::{self, Attached, EMPTY, INDEX_TYPE, Index};
use crate::image::{
    Descriptor, Digest, Image, MANIFEST_TYPE, MAX_IMAGE_MANIFEST, MAX_SIGNATURES, Manifest, SIGNATURE_TYPE, said,
};

/// Manifests that a list of what refers to a pack may name; most may be other people's.
const MAX_REFERRERS: usize = 500;

/// Pages of such a list.
const MAX_PAGES: usize = 50;

/// What a registry may answer where a manifest is asked for. All but what is wanted are refused, by their name; a registry that is not
/// told that a client knows what lies there says nothing of use.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Says, in the answer to a manifest with a `subject`, that the registry keeps the list of what refers to it.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// One repository of a registry.
pub struct Client {
    http: Http,
    place: Reference,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What it is.
    pub digest: Digest,
    /// Blobs that were sent.
    pub sent: usize,
    /// Blobs that were there already.
    pub there: usize,
}

impl Client {
    /// A client for the repository that a place is in, to push to it or only to pull.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(place: &Reference, push: bool, options: Options) -> Result<Self, RegistryError> {
        let scope = format!("repository:{}:{}", place.name, if push { "pull,push" } else { "pull" });
        let http = Http::new(&place.registry, scope, options).map_err(|why| wrong(place, "the registry", why))?;
        Ok(Self { http, place: place.clone() })
    }

    /// Fetches the image and its signatures. Every byte of it was compared with its digest; nobody was trusted.
    ///
    /// # Errors
    ///
    /// When it is not there, or is not what its name says.
    pub async fn pull(&mut self) -> Result<Image, RegistryError> {
        let what = format!("the manifest of {}", self.named());
        let manifest = self.pull_manifest().await.map_err(|why| wrong(&self.place, &what, why))?;
        let read = Manifest::parse(&manifest).map_err(|why| wrong(&self.place, &what, why.into()))?;
        let mut image = Image { manifest, ..Image::default() };
        for part in read.parts() {
            if !image.blobs.contains_key(&part.digest) {
                let bytes = self.blob(part).await?;
                image.blobs.insert(part.digest.clone(), bytes);
            }
        }
        image.signatures = self.signatures(&image.digest()).await?;
        image.check().map_err(|why| wrong(&self.place, "the pack", why.into()))?;
        Ok(image)
    }

    /// Sends the image, then its signatures. Blobs that are there are not sent again; the tag moves when all is there.
    ///
    /// # Errors
    ///
    /// When the image is not whole, or the registry does not take it.
    pub async fn push(&mut self, image: &Image) -> Result<Pushed, RegistryError> {
        let digest = image.digest();
        if let Some(wanted) = self.place.digest.clone().filter(|wanted| *wanted != digest) {
            return Err(wrong(&self.place, "the pack", Why::Digest { wanted, found: digest }));
        }
        let manifest = image.check().map_err(|why| wrong(&self.place, "the pack", why.into()))?;
        let mut pushed = Pushed { digest: digest.clone(), sent: 0, there: 0 };
        let attached: Vec<(&[u8], Attached)> =
            image.signatures.iter().map(|s| (s.as_slice(), Attached::new(s, &image.manifest))).collect();
        for part in manifest.parts() {
            let bytes = image.blobs.get(&part.digest).map(Vec::as_slice).unwrap_or_default();
            self.push_blob(bytes, &mut pushed).await?;
        }
        // Signatures first: who pulls by the tag the moment it is there, finds them.
        let mut listed = true;
        self.put_manifest(&image.manifest, digest.as_str(), MANIFEST_TYPE).await?;
        for (signature, attached) in &attached {
            self.push_blob(EMPTY, &mut pushed).await?;
            self.push_blob(signature, &mut pushed).await?;
            let at = attached.descriptor.digest.as_str();
            listed &= self.put_manifest(&attached.manifest, at, MANIFEST_TYPE).await?;
        }
        if !listed {
            self.list(&digest, attached.into_iter().map(|(_, attached)| attached.descriptor)).await?;
        }
        if let Some(tag) = self.place.tag.clone() {
            self.put_manifest(&image.manifest, &tag, MANIFEST_TYPE).await?;
        }
        Ok(pushed)
    }

    fn named(&self) -> String {
        format!("{}:{}", self.place.name, self.place.at().unwrap_or_default())
    }

    async fn pull_manifest(&mut self) -> Result<Vec<u8>, Why> {
        let Some(at) = self.place.at().map(str::to_owned) else { return Err(Why::Which) };
        let wanted = self.place.digest.clone();
        self.manifest(&at, MANIFEST_TYPE, wanted.as_ref()).await
    }

    /// The bytes of a manifest, of the digest that is wanted.
    async fn manifest(&mut self, at: &str, kind: &str, wanted: Option<&Digest>) -> Result<Vec<u8>, Why> {
        let answer = self.get(&format!("manifests/{at}"), MANIFESTS).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.http.failure(answer).await);
        }
        let found = media_type(&answer);
        if found != kind {
            return Err(Why::MediaType(said(&found)));
        }
        let header = header(&answer, &DIGEST);
        let bytes = self.http.body(answer, MAX_IMAGE_MANIFEST as u64).await?;
        let found = Digest::of(&bytes);
        if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
            return Err(Why::Digest { wanted: wanted.clone(), found });
        }
        match header.filter(|header| header != found.as_str()) {
            Some(header) => Err(Why::Header { said: said(&header), found }),
            None => Ok(bytes),
        }
    }

    async fn blob(&mut self, part: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let what = format!("the part {} of {}", part.digest, self.named());
        let fetched = self.blob_bytes(part).await;
        fetched.map_err(|why| wrong(&self.place, &what, why))
    }

    async fn blob_bytes(&mut self, part: &Descriptor) -> Result<Vec<u8>, Why> {
        let answer = self.get(&format!("blobs/{}", part.digest), "*/*").await?;
        if answer.status() != StatusCode::OK {
            return Err(self.http.failure(answer).await);
        }
        let bytes = self.http.body(answer, part.size).await?;
        let found = Digest::of(&bytes);
        if found != part.digest {
            return Err(Why::Digest { wanted: part.digest.clone(), found });
        }
        part.check(&bytes)?;
        Ok(bytes)
    }

    /// The signatures that refer to a manifest.
    async fn signatures(&mut self, signed: &Digest) -> Result<Vec<Vec<u8>>, RegistryError> {
        let list = self.referrers(signed).await;
        let list = list.map_err(|why| wrong(&self.place, "the list of signatures", why))?;
        let signatures = list.iter().filter(|named| named.artifact_type.as_deref() == Some(SIGNATURE_TYPE));
        let mut found = Vec::new();
        for (i, named) in signatures.enumerate() {
            let what = format!("the signature {}", named.digest);
            if i == MAX_SIGNATURES {
                let why = crate::image::ImageError::TooManySignatures;
                return Err(wrong(&self.place, "the list of signatures", why.into()));
            }
            let manifest = self.manifest(named.digest.as_str(), MANIFEST_TYPE, Some(&named.digest)).await;
            let layer = manifest.and_then(|bytes| {
                let manifest = Manifest::parse(&bytes)?;
                Ok(attached::layer(&manifest, signed)?.clone())
            });
            let layer = layer.map_err(|why| wrong(&self.place, &what, why))?;
            found.push(self.blob(&layer).await?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What refers to a manifest: by the API of OCI 1.1, page after page, else by the tag that stands for it in older registries.
    async fn referrers(&mut self, to: &Digest) -> Result<Vec<Descriptor>, Why> {
        let kind = super::auth::escape(SIGNATURE_TYPE);
        let mut at = self.path(&format!("referrers/{to}?artifactType={kind}"));
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let answer = self.ask(Method::GET, &at, &[(ACCEPT, INDEX_TYPE)], Bytes::new()).await?;
            match answer.status() {
                StatusCode::OK if media_type(&answer) == INDEX_TYPE => {
                    let next = next_page(&answer);
                    found.extend(read_index(&self.http.body(answer, MAX_IMAGE_MANIFEST as u64).await?)?);
                    if found.len() > MAX_REFERRERS {
                        return Err(too_many_referrers());
                    }
                    match next {
                        Some(next) => at = next,
                        None => return Ok(found),
                    }
                }
                // Half of a list would keep signatures back.
                status if page > 0 || status.is_server_error() || status == StatusCode::UNAUTHORIZED => {
                    return Err(self.http.failure(answer).await);
                }
                _ => return self.listed(to).await,
            }
        }
        Err(Why::Referrers(format!("it has more than {MAX_PAGES} pages")))
    }

    /// What the tag for older registries lists; nothing where there is none.
    async fn listed(&mut self, to: &Digest) -> Result<Vec<Descriptor>, Why> {
        match self.manifest(&fallback_tag(to), INDEX_TYPE, None).await {
            Ok(bytes) => read_index(&bytes),
            Err(Why::NotFound) => Ok(Vec::new()),
            Err(why) => Err(why),
        }
    }

    /// Adds to what the tag for older registries lists. Two who do so at once may lose one of both: the API knows no better.
    async fn list(&mut self, to: &Digest, new: impl Iterator<Item = Descriptor>) -> Result<(), RegistryError> {
        let listed = self.listed(to).await;
        let mut manifests = listed.map_err(|why| wrong(&self.place, "the list of signatures", why))?;
        let before = manifests.len();
        for named in new {
            if manifests.iter().all(|there| there.digest != named.digest) {
                manifests.push(named);
            }
        }
        if manifests.len() == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&Index::new(manifests))
            .map_err(|e| wrong(&self.place, "the list of signatures", Why::Referrers(e.to_string())))?;
        self.put_manifest(&bytes, &fallback_tag(to), INDEX_TYPE).await.map(drop)
    }

    async fn push_blob(&mut self, bytes: &[u8], pushed: &mut Pushed) -> Result<(), RegistryError> {
        let digest = Digest::of(bytes);
        match self.push_bytes(bytes, &digest).await {
            Ok(true) => pushed.sent += 1,
            Ok(false) => pushed.there += 1,
            Err(why) => return Err(wrong(&self.place, &format!("the part {digest}"), why)),
        }
        Ok(())
    }

    /// Sends a blob unless it is there; whether it was sent.
    async fn push_bytes(&mut self, bytes: &[u8], digest: &Digest) -> Result<bool, Why> {
        let there = self.ask(Method::HEAD, &self.path(&format!("blobs/{digest}")), &[], Bytes::new()).await?;
        match there.status() {
            StatusCode::OK => return Ok(false),
            StatusCode::NOT_FOUND => {}
            _ => return Err(self.http.failure(there).await),
        }
        let begun = self.ask(Method::POST, &self.path("blobs/uploads/"), &[], Bytes::new()).await?;
        let Some(location) = header(&begun, &LOCATION).filter(|_| begun.status() == StatusCode::ACCEPTED) else {
            return Err(self.http.failure(begun).await);
        };
        let join = if location.contains('?') { '&' } else { '?' };
        let to = format!("{location}{join}digest={digest}");
        let body = Bytes::copy_from_slice(bytes);
        let done = self.ask(Method::PUT, &to, &[(CONTENT_TYPE, "application/octet-stream")], body).await?;
        if done.status() == StatusCode::CREATED { Ok(true) } else { Err(self.http.failure(done).await) }
    }

    /// Stores a manifest; whether the registry itself will list it with what it is about.
    async fn put_manifest(&mut self, bytes: &[u8], at: &str, kind: &str) -> Result<bool, RegistryError> {
        let what = format!("the manifest {at}");
        let stored = self.put(bytes, at, kind).await;
        stored.map_err(|why| wrong(&self.place, &what, why))
    }

    async fn put(&mut self, bytes: &[u8], at: &str, kind: &str) -> Result<bool, Why> {
        let path = self.path(&format!("manifests/{at}"));
        let answer = self.ask(Method::PUT, &path, &[(CONTENT_TYPE, kind)], Bytes::copy_from_slice(bytes)).await?;
        if answer.status() != StatusCode::CREATED {
            return Err(self.http.failure(answer).await);
        }
        let found = Digest::of(bytes);
        match header(&answer, &DIGEST).filter(|said| said != found.as_str()) {
            Some(header) => Err(Why::Header { said: said(&header), found }),
            None => Ok(answer.headers().contains_key(SUBJECT)),
        }
    }

    async fn get(&mut self, path: &str, accept: &str) -> Result<Response<Incoming>, Why> {
        self.ask(Method::GET, &self.path(path), &[(ACCEPT, accept)], Bytes::new()).await
    }

    async fn ask(
        &mut self,
        method: Method,
        to: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Why> {
        self.http.send(to, &Ask { method, headers, body }).await
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.place.name)
    }
}

fn wrong(place: &Reference, what: &str, why: Why) -> RegistryError {
    RegistryError { registry: place.registry.clone(), what: what.to_owned(), why }
}

fn media_type(answer: &Response<Incoming>) -> String {
    let value = header(answer, &CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

fn header(answer: &Response<Incoming>, name: &HeaderName) -> Option<String> {
    answer.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The tag that stands for the list of what refers to a manifest.
fn fallback_tag(to: &Digest) -> String {
    format!("sha256-{}", to.hex())
}

fn read_index(bytes: &[u8]) -> Result<Vec<Descriptor>, Why> {
    let index: Index = serde_json::from_slice(bytes).map_err(|e| Why::Referrers(said(&e.to_string())))?;
    if index.manifests.len() > MAX_REFERRERS {
        return Err(too_many_referrers());
    }
    Ok(index.manifests)
}

fn too_many_referrers() -> Why {
    Why::Referrers(format!("it names more than {MAX_REFERRERS} manifests"))
}

/// Where a list goes on, by RFC 8288: `Link: </v2/bob/zfs/referrers/...>; rel="next"`.
fn next_page(answer: &Response<Incoming>) -> Option<String> {
    let links = answer.headers().get_all(LINK).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    links.into_iter().find_map(|text| {
        let mut rest = text.as_ref();
        while let Some((target, more)) = rest.split_once('<').and_then(|(_, link)| link.split_once('>')) {
            let words = more.split(',').next().unwrap_or_default();
            let is_next = |word: &str| matches!(word.trim(), "rel=\"next\"" | "rel=next");
            if words.split(';').any(is_next) {
                return Some(target.to_owned());
            }
            rest = more;
        }
        None
    })
}
