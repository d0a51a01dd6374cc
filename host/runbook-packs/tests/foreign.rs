//! Whatever bytes come, there is an answer: nothing here panics.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use runbook_packs::allowed_signers::AllowedSigners;
use runbook_packs::image::{Descriptor, Digest, Image, MANIFEST_TYPE, Manifest};
use runbook_packs::layout::{archive, read_archive};
use runbook_packs::registry::{Credentials, Reference};
use runbook_packs::sshsig::{NAMESPACE, SignerKey, verify};

fn good() -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        artifact_type: None,
        config: Descriptor::of("application/json", b"{}"),
        layers: Vec::new(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let blobs = [(Digest::of(b"{}"), b"{}".to_vec())].into_iter().collect();
    archive(&Image { manifest: manifest.to_bytes(), blobs, signatures: vec![b"x".to_vec()] }).unwrap()
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(read_archive(bytes.as_slice()).is_err());
        prop_assert!(verify(&bytes, b"", NAMESPACE).is_err());
        drop(AllowedSigners::parse(&bytes));
        drop(Credentials::parse(&bytes));
    }

    #[test]
    fn an_archive_with_a_few_bytes_replaced(at in any::<prop::sample::Index>(), new in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut bytes = good();
        let at = at.index(bytes.len());
        for (old, new) in bytes[at..].iter_mut().zip(new) {
            *old = new;
        }
        if let Ok(image) = read_archive(bytes.as_slice()) {
            prop_assert!(image.check().is_ok());
        }
    }

    #[test]
    fn lines_that_look_like_signers(text in "[b\\*!,\"\\\\= a-zA-Z0-9-]{0,80}(ssh-ed25519 AAAA)?[\"\n#Z ]{0,3}") {
        drop(AllowedSigners::parse(text.as_bytes()));
        prop_assert!(SignerKey::parse(&text).is_err());
    }

    #[test]
    fn what_is_read_as_a_place_is_written_the_same(text in "[a-z0-9.:\\[\\]]{1,12}/[a-z0-9./_-]{1,12}(:[a-zA-Z0-9._-]{1,6})?") {
        if let Ok(place) = Reference::parse(&text) {
            prop_assert_eq!(place.to_string(), text);
        }
    }
}
