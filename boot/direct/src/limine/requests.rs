//! The kernel's requests: found in its loaded image, read there and answered there.

use super::{BASE_REVISION, BASE_REVISION_MAGIC, COMMON_MAGIC, END_MARKER, RequestId, START_MARKER};
use crate::physical::le64;
use heapless::Vec;

/// The most requests that a kernel may make.
pub const MAX_REQUESTS: usize = 128;

const WORD: usize = 8;
/// Identifier, revision and response pointer.
const HEADER: usize = 6 * WORD;
const REVISION: usize = 4 * WORD;
const RESPONSE: usize = 5 * WORD;

/// Why a kernel's requests cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is a second tag with a base revision.
    #[error("the kernel has more than one base revision tag")]
    DuplicateRevision,
    /// The kernel wants base revision 0, by its tag or by having none.
    #[error("the kernel asks for Limine base revision 0, which is not supported: 1 and 2 are")]
    OldRevision,
    /// The same request is there twice.
    #[error("the kernel makes request {0:#018x} {1:#018x} twice")]
    Duplicate(u64, u64),
    /// More than [`MAX_REQUESTS`] requests.
    #[error("the kernel makes more than {MAX_REQUESTS} requests")]
    TooMany,
    /// A request does not end before the image does.
    #[error("request {0:#018x} {1:#018x} is cut off by the kernel's end")]
    CutOff(u64, u64),
}

/// The requests in a kernel's image.
pub struct Requests<'a> {
    image: &'a mut [u8],
    found: Vec<(RequestId, usize), MAX_REQUESTS>,
}

impl<'a> Requests<'a> {
    /// Finds the requests in the first `filled` bytes of `image`, which lies as it will be in
    /// memory, at every multiple of 8 and between the protocol's markers if there are any. If the
    /// base revision that the kernel asks for is one that is answered, its tag is set to 0 to say
    /// so; a higher one is left as it is, and [`BASE_REVISION`] served.
    ///
    /// # Errors
    /// As [`RequestError`] says.
    pub fn find(image: &'a mut [u8], filled: usize) -> Result<Self, RequestError> {
        let searched = &image[..filled.min(image.len())];
        let mut found: Vec<(RequestId, usize), MAX_REQUESTS> = Vec::new();
        let mut tag: Option<(u64, usize)> = None;
        for offset in (0..searched.len()).step_by(WORD) {
            let at = &searched[offset..];
            if begins_with(at, &START_MARKER) {
                found.clear();
                tag = None;
            } else if begins_with(at, &END_MARKER) {
                break;
            } else if begins_with(at, &BASE_REVISION_MAGIC) {
                let revision = le64(at, 2 * WORD).ok_or(RequestError::OldRevision)?;
                if tag.replace((revision, offset + 2 * WORD)).is_some() {
                    return Err(RequestError::DuplicateRevision);
                }
            } else if begins_with(at, &COMMON_MAGIC) {
                let id = [le64(at, 2 * WORD).unwrap_or(0), le64(at, 3 * WORD).unwrap_or(0)];
                if at.len() < HEADER {
                    return Err(RequestError::CutOff(id[0], id[1]));
                }
                if found.iter().any(|(known, _)| *known == id) {
                    return Err(RequestError::Duplicate(id[0], id[1]));
                }
                found.push((id, offset)).map_err(|_| RequestError::TooMany)?;
            }
        }
        match tag {
            None | Some((0, _)) => return Err(RequestError::OldRevision),
            Some((revision, offset)) if revision <= BASE_REVISION => {
                image[offset..offset + WORD].fill(0);
            }
            Some(_) => (),
        }
        Ok(Self { image, found })
    }

    /// Whether the kernel makes the request.
    #[must_use]
    pub fn contains(&self, id: RequestId) -> bool {
        self.offset(id).is_some()
    }

    /// The revision of a request, `None` if it is not made.
    #[must_use]
    pub fn revision(&self, id: RequestId) -> Option<u64> {
        le64(self.image, self.offset(id)? + REVISION)
    }

    /// The number `field` behind the header of a request, `None` if the request is not made.
    ///
    /// # Errors
    /// [`RequestError::CutOff`] if the image ends before the field does.
    pub fn field(&self, id: RequestId, field: usize) -> Result<Option<u64>, RequestError> {
        let Some(offset) = self.offset(id) else { return Ok(None) };
        let value = le64(self.image, offset + HEADER + field * WORD);
        value.map(Some).ok_or(RequestError::CutOff(id[0], id[1]))
    }

    /// Points a request at its response, which lies at virtual address `response`. Nothing happens
    /// if the request is not made.
    pub fn respond(&mut self, id: RequestId, response: u64) {
        if let Some(offset) = self.offset(id) {
            let pointer = offset + RESPONSE;
            self.image[pointer..pointer + WORD].copy_from_slice(&response.to_le_bytes());
        }
    }

    fn offset(&self, id: RequestId) -> Option<usize> {
        self.found.iter().find(|(known, _)| *known == id).map(|(_, offset)| *offset)
    }
}

fn begins_with(bytes: &[u8], words: &[u64]) -> bool {
    words.iter().enumerate().all(|(n, word)| le64(bytes, n * WORD) == Some(*word))
}

#[cfg(test)]
mod tests {
    use super::super::{HHDM, RSDP, STACK_SIZE};
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const REVISION_2: [u64; 3] = [BASE_REVISION_MAGIC[0], BASE_REVISION_MAGIC[1], 2];

    fn request(id: RequestId, rest: &[u64]) -> Vec<u64> {
        [&COMMON_MAGIC[..], &id, rest].concat()
    }

    fn image(parts: &[&[u64]]) -> Vec<u8> {
        parts.concat().iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn error(parts: &[&[u64]]) -> Option<RequestError> {
        let mut image = image(parts);
        let len = image.len();
        Requests::find(&mut image, len).err()
    }

    fn word(image: &[u8], index: usize) -> u64 {
        le64(image, index * WORD).expect("a word of the image")
    }

    #[test]
    fn requests_are_read_and_answered_in_place() {
        let mut image = image(&[&[7], &REVISION_2, &request(STACK_SIZE, &[3, 0, 0x20000])]);
        let len = image.len();
        let mut requests = Requests::find(&mut image, len).expect("good requests");
        assert!(requests.contains(STACK_SIZE) && !requests.contains(HHDM));
        assert_eq!(requests.revision(STACK_SIZE), Some(3));
        assert_eq!(requests.field(STACK_SIZE, 0), Ok(Some(0x20000)));
        assert_eq!(requests.field(HHDM, 0), Ok(None));
        assert_eq!(requests.field(STACK_SIZE, 1), Err(RequestError::CutOff(STACK_SIZE[0], STACK_SIZE[1])));
        requests.respond(STACK_SIZE, 0xabcd);
        requests.respond(HHDM, 0x1234);
        assert_eq!(word(&image, 3), 0, "the base revision's word says that it is supported");
        assert_eq!(word(&image, 9), 0xabcd);
        assert_eq!(word(&image, 10), 0x20000);
    }

    #[test]
    fn only_supported_revisions_are_acknowledged() {
        for (revision, left) in
            [(1, Some(0)), (2, Some(0)), (3, Some(3)), (u64::MAX, Some(u64::MAX)), (0, None)]
        {
            let mut image = image(&[&[BASE_REVISION_MAGIC[0], BASE_REVISION_MAGIC[1], revision]]);
            let found = Requests::find(&mut image, 24).err();
            assert_eq!(found, left.is_none().then_some(RequestError::OldRevision), "revision {revision}");
            assert_eq!(word(&image, 2), left.unwrap_or(0));
        }
        assert_eq!(error(&[&[1, 2, 3]]), Some(RequestError::OldRevision));
        assert_eq!(error(&[&REVISION_2, &REVISION_2]), Some(RequestError::DuplicateRevision));
    }

    #[test]
    fn markers_bound_the_search() {
        let hhdm = request(HHDM, &[0, 0]);
        let rsdp = request(RSDP, &[0, 0]);
        let stack = request(STACK_SIZE, &[0, 0, 1]);
        let parts: [&[u64]; 7] = [
            &[BASE_REVISION_MAGIC[0], BASE_REVISION_MAGIC[1], 1],
            &hhdm,
            &START_MARKER,
            &REVISION_2,
            &rsdp,
            &END_MARKER,
            &stack,
        ];
        let mut image = image(&parts);
        let len = image.len();
        let requests = Requests::find(&mut image, len).expect("good requests");
        assert_eq!([HHDM, RSDP, STACK_SIZE].map(|id| requests.contains(id)), [false, true, false]);
        assert_eq!((word(&image, 2), word(&image, 15)), (1, 0));
    }

    #[test]
    fn what_is_not_from_the_file_is_not_searched() {
        let mut image = image(&[&REVISION_2, &request(HHDM, &[0, 0])]);
        assert!(!Requests::find(&mut image, 24).expect("good requests").contains(HHDM));
    }

    #[test]
    fn refuses_conflicting_requests() {
        let hhdm = request(HHDM, &[0, 0]);
        assert_eq!(error(&[&REVISION_2, &hhdm, &hhdm]), Some(RequestError::Duplicate(HHDM[0], HHDM[1])));
        assert_eq!(error(&[&REVISION_2, &hhdm[..5]]), Some(RequestError::CutOff(HHDM[0], HHDM[1])));
        let many: Vec<u64> = (0..129).flat_map(|n| request([n, 0], &[0, 0])).collect();
        assert_eq!(error(&[&REVISION_2, &many]), Some(RequestError::TooMany));
        assert_eq!(error(&[&REVISION_2, &many[..128 * 6]]), None);
    }

    proptest! {
        #[test]
        fn any_image_is_searched_without_harm(
            picks in prop::collection::vec(0usize..12, 0..40), cut in 0usize..64,
        ) {
            let words: Vec<u64> = [&START_MARKER[..], &END_MARKER, &BASE_REVISION_MAGIC, &COMMON_MAGIC, &[1, 2]].concat();
            let words: Vec<u64> = picks.iter().map(|pick| words[*pick]).collect();
            let mut image = vec![0; 0];
            image.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            image.truncate(image.len().saturating_sub(cut));
            let len = image.len();
            if let Ok(mut requests) = Requests::find(&mut image, len + 9) {
                requests.respond(HHDM, 1);
                let _ = requests.field([1, 2], 2);
            }
        }
    }
}
