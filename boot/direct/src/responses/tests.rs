//! Tests of the responses: they are read back as the kernel would, by following addresses.

use super::*;
use crate::limine::{BASE_REVISION_MAGIC, COMMON_MAGIC};
use crate::memory_map::Kind;
use crate::physical::{le32, le64};
use std::vec;
use std::vec::Vec as StdVec;

const AT: u64 = 0xffff_8000_0010_0000;

/// Makes requests (identifier, revision, fields), lets `answer` answer them, and returns for each
/// the address of its response, with the arena's bytes.
fn answered(
    requests: &[(RequestId, u64, &[u64])],
    answer: impl FnOnce(&mut Answers<'_>),
) -> (StdVec<u64>, StdVec<u8>) {
    let mut words = vec![BASE_REVISION_MAGIC[0], BASE_REVISION_MAGIC[1], 2];
    let mut places = vec![];
    for (id, revision, fields) in requests {
        places.push((words.len() + 5) * 8);
        words.extend([&COMMON_MAGIC[..], id, &[*revision, 0], fields].concat());
    }
    let mut image: StdVec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut memory = vec![0; ARENA_SIZE];
    let len = image.len();
    let found = Requests::find(&mut image, len).expect("good requests");
    answer(&mut Answers::new(found, Arena::new(&mut memory, AT)));
    (places.iter().map(|place| le64(&image, *place).expect("a response pointer")).collect(), memory)
}

/// The number at virtual address `address` + 8 * `index`.
fn at(memory: &[u8], address: u64, index: usize) -> u64 {
    le64(memory, (address - AT) as usize + index * 8).expect("an address in the arena")
}

fn text(memory: &[u8], address: u64) -> &CStr {
    CStr::from_bytes_until_nul(&memory[(address - AT) as usize..]).expect("a string in the arena")
}

#[test]
fn the_arena_aligns_and_ends() {
    let mut memory = [0; 32];
    let mut arena = Arena::new(&mut memory, AT);
    assert_eq!(arena.put(b"nine byte".as_slice()), Ok(AT));
    assert_eq!(arena.put(&7u64), Ok(AT + 16));
    assert_eq!(arena.put(&[1u64, 2]), Err(ResponseError::ArenaFull));
    assert_eq!(arena.put(&9u64), Ok(AT + 24));
    assert_eq!(arena.put(&1u8), Err(ResponseError::ArenaFull));
    assert_eq!((memory[8], memory[16], memory[24]), (b'e', 7, 9));
}

#[test]
fn requests_that_are_not_made_are_not_answered() {
    let (responses, memory) = answered(&[(limine::HHDM, 0, &[]), (limine::RSDP, 0, &[])], |answers| {
        answers.numbers(limine::HHDM, [0x1234]).expect("room");
        answers.numbers(limine::EXECUTABLE_ADDRESS, [5, 6]).expect("room");
        assert!(!answers.wants_processors());
    });
    assert_eq!((at(&memory, responses[0], 0), at(&memory, responses[0], 1)), (0, 0x1234));
    assert_eq!(responses[1], 0);
    assert_eq!(at(&memory, AT, 2), 0, "nothing but the one response was written");
}

#[test]
fn the_loader_says_who_it_is() {
    let requests: [(RequestId, u64, &[u64]); 2] =
        [(limine::BOOTLOADER_INFO, 0, &[]), (limine::FIRMWARE_TYPE, 0, &[])];
    let (responses, memory) = answered(&requests, |answers| answers.loader().expect("room"));
    assert_eq!(text(&memory, at(&memory, responses[0], 1)), c"direct");
    assert_eq!(text(&memory, at(&memory, responses[0], 2)).to_str(), Ok(env!("CARGO_PKG_VERSION")));
    assert_eq!(at(&memory, responses[1], 1), 0);
}

#[test]
fn stack_and_entry_are_as_requested() {
    for (wanted, given) in [(0, MIN_STACK), (0x20001, 0x20010), (u64::MAX, u64::MAX - 15)] {
        let (responses, _) = answered(&[(limine::STACK_SIZE, 0, &[wanted])], |answers| {
            assert_eq!(answers.stack_size(), Ok(given));
            assert_eq!(answers.entry_point(77), Ok(77));
        });
        assert_ne!(responses[0], 0);
    }
    let (responses, _) = answered(&[(limine::ENTRY_POINT, 0, &[99])], |answers| {
        assert_eq!(answers.entry_point(77), Ok(99));
        assert_eq!(answers.stack_size(), Ok(MIN_STACK));
    });
    assert_ne!(responses[0], 0);
}

#[test]
fn modules_come_in_order() {
    let module = |n| FileParts { address: n << 12, size: n, path: n + 100, string: n + 200 };
    let (responses, memory) = answered(&[(limine::MODULES, 0, &[])], |answers| {
        answers.modules((1..=64).map(module)).expect("room for as many as a bundle has");
        let more = answers.modules((1..=65).map(module));
        assert_eq!(more, Err(ResponseError::ArenaFull));
    });
    assert_eq!(at(&memory, responses[0], 1), 64);
    let list = at(&memory, responses[0], 2);
    for n in 1..=64 {
        let file = at(&memory, list, n - 1);
        let fields = [0, 1, 2, 3, 4].map(|index| at(&memory, file, index));
        let n = n as u64;
        assert_eq!(fields, [0, n << 12, n, n + 100, n + 200]);
    }
    let (responses, _) = answered(&[(limine::MODULES, 0, &[])], |answers| {
        answers.modules([].into_iter()).expect("room");
    });
    assert_eq!(responses[0], 0);
}

#[test]
fn the_kernels_string_is_a_copy_of_the_command_line() {
    let parts = FileParts { address: 1, size: 2, path: 3, string: 4 };
    let (responses, memory) = answered(&[(limine::EXECUTABLE_FILE, 0, &[])], |answers| {
        answers.executable_file(parts, c"test=a cmd=b c").expect("room");
    });
    let file = at(&memory, responses[0], 1);
    assert_eq!([1, 2, 3].map(|n| at(&memory, file, n)), [1, 2, 3]);
    assert_eq!(text(&memory, at(&memory, file, 4)), c"test=a cmd=b c");
}

#[test]
fn processors_never_claim_x2apic() {
    let (responses, memory) = answered(&[(limine::MULTIPROCESSOR, 0, &[1])], |answers| {
        assert!(answers.wants_processors());
        let one = answers.processor(Processor { uid: 3, apic_id: 0 }, 0).expect("room");
        let two = answers.processor(Processor { uid: 4, apic_id: 9 }, 0xabc0).expect("room");
        answers.processors(9, &[one, two]).expect("room");
    });
    let flags = (responses[0] - AT) as usize + 8;
    assert_eq!((le32(&memory, flags), le32(&memory, flags + 4)), (Some(0), Some(9)));
    assert_eq!(at(&memory, responses[0], 2), 2);
    let second = at(&memory, at(&memory, responses[0], 3), 1);
    assert_eq!([0, 1, 2, 3].map(|n| at(&memory, second, n)), [9 << 32 | 4, 0xabc0, 0, 0]);
}

#[test]
fn the_largest_answers_fit_the_arena() {
    let requests: [(RequestId, u64, &[u64]); 3] =
        [(limine::MODULES, 0, &[]), (limine::MULTIPROCESSOR, 0, &[0]), (limine::MEMORY_MAP, 0, &[])];
    let entries = (0..128u64).map(|n| (n << 20, 1 << 19, Kind::Usable));
    let mut map = MemoryMap::new(entries).expect("a map");
    for n in 0..64u64 {
        map.claim((n << 20) + 0x2000..(n << 20) + 0x3000, Kind::BootloaderReclaimable).expect("room");
    }
    assert_eq!(map.regions().len(), MAX_REGIONS);
    let (responses, memory) = answered(&requests, |answers| {
        answers.loader().expect("room");
        let part = FileParts { address: 0, size: 0, path: 0, string: 1 };
        answers.modules((0..64).map(|_| part)).expect("room");
        let records: StdVec<u64> = (0..=255)
            .map(|apic_id| answers.processor(Processor { uid: 0, apic_id }, 0).expect("room"))
            .collect();
        answers.processors(0, &records).expect("room");
        answers.memory_map(&map).expect("room");
    });
    assert_eq!(at(&memory, responses[2], 1), 256);
    let list = at(&memory, responses[2], 2);
    let entry = |n| [0, 1, 2].map(|field| at(&memory, at(&memory, list, n), field));
    assert_eq!(entry(0), [0x1000, 0x1000, 0]);
    assert_eq!(entry(1), [0x2000, 0x1000, 5]);
    assert_eq!(entry(255), [127 << 20, 1 << 19, 0]);
}

#[test]
fn paging_wishes_depend_on_the_revision() {
    let wish = |requests: &[(RequestId, u64, &[u64])]| {
        let mut wish = None;
        answered(requests, |answers| wish = paging_wish(&answers.requests).expect("a whole request"));
        wish
    };
    assert_eq!(wish(&[]), None);
    let old = wish(&[(limine::PAGING_MODE, 0, &[1, 0, 1])]);
    assert_eq!(old, Some(PagingWish { preferred: 1, max: 1, min: 0 }));
    let old = wish(&[(limine::PAGING_MODE, 0, &[0, 1, 1])]);
    assert_eq!(old, Some(PagingWish { preferred: 0, max: 0, min: 0 }));
    let new = wish(&[(limine::PAGING_MODE, 1, &[0, 1, 1])]);
    assert_eq!(new, Some(PagingWish { preferred: 0, max: 1, min: 1 }));
}
